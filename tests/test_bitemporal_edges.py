"""Corners in which a later row, a second version or a blank could change what was known."""

from __future__ import annotations

from datetime import datetime

import pytest

from features.build import feature_table
from features.errors import ConfigurationError, DataError
from features.settings import LabelSettings

AS_OF = datetime(2025, 3, 1)
CONTRACTS = "account_id,contract_id,start_at,mrr,seats,signed_at,known_at\n"


def features_of(company, **tables):
    """The features of account `a` at AS_OF from the given CSV tables."""
    defaults = {
        "accounts": "account_id\na\nb",
        "contracts": CONTRACTS + "a,c,2024-01-01,100,10,,\nb,d,2024-01-01,100,10,,",
    }
    for name, text in {**defaults, **tables}.items():
        company.write(name, text)
    rows = feature_table(company.open(), [AS_OF], LabelSettings()).to_pylist()
    return next((row for row in rows if row["account_id"] == "a"), None)


def test_a_later_closing_does_not_reopen_a_resolved_ticket(company):
    ticket = "ticket_id,account_id,opened_at,resolved_at,closed_at,csat\nt,a,2025-02-01,2025-02-20,{},1"

    before = features_of(company, tickets=ticket.format(""))
    after = features_of(company, tickets=ticket.format("2025-03-05"))

    assert before == after
    assert before["open_tickets"] == 0
    assert before["csat_low_count_91d"] == 1


def test_an_answer_in_a_later_version_keeps_the_promise(company):
    header = "ticket_id,account_id,opened_at,first_response_at,sla_hours,known_at\n"
    asked = "t,a,2025-02-10,,4,2025-02-10\n"
    answered = "t,a,2025-02-10,2025-02-10 01:00:00,4,2025-02-11\n"

    assert features_of(company, tickets=header + asked)["sla_breaches_28d"] == 1
    assert features_of(company, tickets=header + asked + answered)["sla_breaches_28d"] == 0


def test_a_ticket_in_two_versions_was_scored_once(company):
    header = "ticket_id,account_id,opened_at,resolved_at,csat,known_at\n"
    versions = "t,a,2025-02-10,2025-02-11,1,2025-02-11\nt,a,2025-02-10,2025-02-11,1,2025-02-13\n"

    assert features_of(company, tickets=header + versions)["csat_low_count_91d"] == 1


def test_seats_that_are_unknown_now_were_not_given_up(company):
    versions = "a,c,2024-01-01,100,10,2024-01-01,2024-01-01\na,c,2024-01-01,100,,2024-01-01,2025-02-01\n"

    assert features_of(company, contracts=CONTRACTS + versions)["seats_reduced_91d"] is None


def test_recurring_revenue_given_by_the_year_stays_what_it_was(company):
    found = features_of(company, contracts="account_id,start_at,arr\na,2024-01-01,1000")

    assert found["arr"] == 1000.0


def test_a_contract_signed_later_does_not_exist_yet(company):
    later = CONTRACTS + "a,c,2025-02-20,100,10,2025-03-10,2025-03-10"

    assert features_of(company, contracts=later) is None


def test_answers_without_a_person_are_not_compared(company):
    answers = "account_id,kind,score,responded_at\na,nps,9,2025-01-10\na,nps,3,2025-02-10"

    found = features_of(company, surveys=answers)

    assert (found["nps_last_score"], found["nps_delta_prev"]) == (3.0, None)


def test_an_account_too_young_to_have_a_trend_is_not_quiet_and_falling(company):
    young = CONTRACTS + "a,c,2025-01-10,100,10,,"
    use = "account_id,event_at,quantity\na,2025-01-15,100"
    tickets = "ticket_id,account_id,opened_at\nt,b,2025-02-01"

    found = features_of(company, contracts=young, usage=use, tickets=tickets)

    assert (found["usage_trend_28v91"], found["is_quiet_and_falling"]) == (None, 0.0)


@pytest.mark.parametrize("bad", ["01/02/25", "25-02-01", "infinity", "-infinity", "2025-02-30"])
def test_a_time_that_cannot_be_meant_is_set_aside(company, bad):
    company.extra = "[quarantine]\nlimit = 0.9"
    company.write("accounts", "account_id\na")
    company.write("contracts", "account_id,start_at,mrr\na,2024-01-01,1")
    company.write("usage", f"account_id,event_at\na,{bad}\na,2025-02-01")

    found = company.open().quarantine.to_pylist()

    assert [(row["table"], row["row_number"], row["rule"]) for row in found] == [("usage", 1, "type")]


def test_a_row_that_does_not_say_when_is_set_aside(company):
    company.extra = "[quarantine]\nlimit = 0.9"
    company.write("accounts", "account_id\na")
    company.write("contracts", "account_id,start_at,mrr\na,2024-01-01,1")
    company.write("usage", "account_id,event_at\na,\na,2025-02-01")

    assert [row["rule"] for row in company.open().quarantine.to_pylist()] == ["required"]


def test_a_scale_without_length_and_a_sum_without_end_are_set_aside(company):
    company.extra = "[quarantine]\nlimit = 1"
    company.write("accounts", "account_id\na")
    company.write("contracts", "account_id,contract_id,start_at,mrr\na,c,2024-01-01,1\na,d,2024-01-01,1e13")
    company.write("surveys", "account_id,kind,score,scale_min,scale_max,responded_at\na,csat,5,5,5,2025-02-01")

    assert {row["table"] for row in company.open().quarantine.to_pylist()} == {"contracts", "surveys"}


def test_usage_by_period_must_say_which(company):
    company.write("accounts", "account_id\na")
    company.write("contracts", "account_id,start_at,mrr\na,2024-01-01,1")
    company.write("usage", "account_id,period_start,quantity\na,2025-02-01,5")

    with pytest.raises(ConfigurationError, match=r"period must say what a row sums up"):
        company.open()


def test_no_character_begins_a_comment(company):
    company.write("accounts", "account_id,name\na,x#1\n#c,z\n# end,y")
    company.write("contracts", "account_id,start_at,mrr\na,2024-01-01,1")

    names = company.open()["accounts"].order_by("account_id").to_pyarrow().to_pylist()

    assert [(row["account_id"], row["name"]) for row in names] == [("# end", "y"), ("#c", "z"), ("a", "x#1")]


def test_a_ragged_line_is_named_without_its_values(company):
    company.write("accounts", "account_id,name\na,secret\nb,one,two")
    company.write("contracts", "account_id,start_at,mrr\na,2024-01-01,1")

    with pytest.raises(DataError, match=r"'accounts' must have 2 values in every line; found 3 in line 3") as caught:
        company.open()
    assert "secret" not in str(caught.value)


def test_a_row_set_aside_keeps_its_first_sight_when_rows_above_it_go(company):
    company.extra = "[quarantine]\nlimit = 0.9"
    company.write("accounts", "account_id\na")
    company.write("contracts", "account_id,start_at,mrr\na,2024-01-01,1")
    company.write("usage", "account_id,event_at\na,2025-01-01\na,x")
    first = company.open().quarantine.to_pylist()[0]

    company.write("usage", "account_id,event_at\na,x\na,2025-02-01")
    again = company.open().quarantine.to_pylist()[0]

    assert (again["row_number"], again["row_hash"]) == (1, first["row_hash"])


def test_a_damaged_quarantine_does_not_stop_a_run(company):
    company.write("accounts", "account_id\na")
    company.write("contracts", "account_id,start_at,mrr\na,2024-01-01,1")
    path = company.folder / ".tenure" / "quarantine.parquet"
    path.parent.mkdir()
    path.write_bytes(b"PAR1 nothing of the kind")

    assert company.open().quarantine.num_rows == 0
