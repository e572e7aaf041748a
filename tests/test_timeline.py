"""What happened to an account is told as it was known at the instant, from the list it was published with."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pandas as pd
import pytest

from features.timeline import timeline
from serving.console.charts import use_by_week
from serving.console.evidence import SHOWN, evidence, split
from serving.list_parts import Made
from serving.publication import publish
from serving.timeline import KINDS, TIMELINE, timeline_bytes, timeline_of
from tests.conftest import Company

AS_OF = datetime(2025, 3, 1)
TABLES = {
    "accounts": "account_id,name,known_at\na,Ana Reyes,2024-01-01\nb,Bob & Sons,2024-01-01",
    "contracts": """account_id,contract_id,start_at,term_end_at,term_months,notice_days,mrr,cancelled_at,known_at
        a,c1,2024-01-15,2026-01-15,24,30,880,,2024-01-10
        b,c2,2025-02-03,2025-08-03,6,,90,2025-02-20,2025-02-03
        b,c2,2025-02-03,2025-08-03,6,,90,2025-02-20,2025-02-21""",
    "usage": """account_id,user_id,event_at,quantity,is_core,known_at
        a,u1,2025-02-28 09:00,3,true,2025-02-28 10:00
        a,u2,2025-02-28 11:00,2,true,2025-02-28 12:00
        a,u1,2025-02-22 08:00,1,false,2025-02-22 09:00
        a,u1,2025-02-21 23:59,4,true,2025-02-22 00:00
        a,u3,2025-02-20 08:00,9,true,2025-03-01 00:01
        a,u1,2025-03-01 00:00,7,true,2025-03-01 00:00
        b,u9,2025-02-10 08:00,5,true,2025-02-10 09:00""",
    "tickets": """ticket_id,account_id,opened_at,resolved_at,severity,known_at
        t1,a,2025-02-01,2025-02-04,1,2025-02-04
        t2,a,2025-02-10,2025-03-01,2,2025-02-10
        t3,a,2024-01-20,,3,2024-01-20
        t4,a,2024-01-20,2024-01-22,3,2024-01-22
        t5,a,2025-02-15,,4,2025-03-02""",
    "surveys": """account_id,kind,contact_id,score,sent_at,responded_at,known_at
        a,nps,ana@example.com,3,2025-02-01,2025-02-05,2025-02-05
        a,nps,ana@example.com,9,2025-02-20,2025-03-01,2025-02-20""",
    "invoices": """invoice_id,account_id,amount,issued_at,due_at,paid_at,failed_at,known_at
        i1,a,880,2025-01-01,2025-01-31,,2025-02-02,2025-02-02
        i2,a,880,2024-12-01,2024-12-31,2025-01-12,,2025-01-12
        i3,a,880,2025-02-01,2025-03-03,,,2025-02-01""",
    "contacts": """contact_id,account_id,is_champion,left_at,event_at,known_at
        ana@example.com,a,true,2025-02-11,2024-01-15,2025-02-12""",
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The company and its clean tables: no test changes them."""
    company = Company(tmp_path_factory.mktemp("timeline"))
    for name, text in TABLES.items():
        company.write(name, text)
    return company.settings(), company.open()


@pytest.fixture
def tables(opened):
    return opened[1]


@pytest.fixture
def settings(opened, tmp_path):
    """Of the same company, with a state of its own."""
    return replace(opened[0], state_dir=tmp_path)


def published_with(settings, told):
    """A list with this timeline, or with none."""
    risk_list = {
        "as_of": "2025-03-01", "before": None, "model_version": "1", "model_artefact": "x", "horizon_days": 90,
        "base_rate": 0.1, "heading": "", "counts": {}, "rows": [], "leaving": [], "excluded": [], "left": [],
    }  # fmt: skip
    made = Made(risk_list=risk_list, contributions=pd.DataFrame({"account_id": []}), timeline=told)
    return publish(made, pd.DataFrame({"account_id": ["a"]}), settings)


def test_events_are_told_as_they_were_known(tables, settings):
    """By hand: t2 was resolved and the second NPS given at the very instant, t5 came to be known a day later."""
    published_with(settings, timeline(tables, AS_OF))
    found = timeline_of(settings, "a", "2025-03-01")

    assert [(event["date"], event["text"]) for event in found["events"]] == [
        ("2026-01-15", "Renewal of contract c1, MRR 880"),
        ("2025-12-16", "Last day for notice on contract c1"),
        ("2025-02-11", "A champion left"),
        ("2025-02-10", "Ticket t2 opened, severity 2; still open"),
        ("2025-02-05", "NPS answered: 3 on a scale of 0 to 10"),
        ("2025-02-04", "Ticket t1 resolved, severity 1"),
        ("2025-02-02", "Payment of invoice i1 failed"),
        ("2025-02-01", "Ticket t1 opened, severity 1"),
        ("2025-01-31", "Invoice i1 fell due and is unpaid: 880.00"),
        ("2025-01-12", "Invoice i2 paid 12 days late"),
        ("2024-01-20", "Ticket t3 opened, severity 3; still open"),
        ("2024-01-15", "Became a customer"),
    ]
    assert [event["is_planned"] for event in found["events"]] == [True] * 2 + [False] * 10


def test_weeks_count_what_was_known_and_end_at_the_instant(tables, settings):
    """A late row and one of the instant itself do not count; 21 February is in the week before."""
    published_with(settings, timeline(tables, AS_OF))
    weeks = timeline_of(settings, "a", "2025-03-01")["weeks"]

    assert len(weeks) == 26
    assert weeks[-1] == {"begins": "2025-02-22", "active_days": 2, "core_events": 5, "active_users": 2}
    assert weeks[-2] == {"begins": "2025-02-15", "active_days": 1, "core_events": 4, "active_users": 1}
    assert weeks[0] == {"begins": "2024-08-31", "active_days": 0, "core_events": 0, "active_users": 0}


def test_a_week_before_an_account_began_is_not_known_rather_than_idle(tables, settings):
    published_with(settings, timeline(tables, AS_OF))
    found = timeline_of(settings, "b", "2025-03-01")

    assert [week["active_days"] for week in found["weeks"]] == [None] * 22 + [0, 1, 0, 0]
    assert {event["kind"] for event in found["events"]} == {
        "customer_since", "contract_started", "notice_given", "contract_ends"
    }  # fmt: skip


def test_a_later_instant_tells_what_had_come_by_then(tables, settings):
    told = timeline(tables, datetime(2025, 3, 8)).to_pandas()
    resolved = set(told[told.kind == "ticket_resolved"].id)
    week = told[(told.kind == "usage_week") & (told["at"] == "2025-02-15") & (told.account_id == "a")]

    assert resolved == {"t1", "t2"}
    assert "t5" in set(told[told.kind == "ticket_opened"].id)
    assert week.core_events.tolist() == [13.0]


def test_no_name_and_nobodys_id_is_in_it(tables):
    content = timeline(tables, AS_OF).to_pandas().to_csv()
    assert not [secret for secret in ("Ana", "ana@example.com", "u1", "Bob") if secret in content]


def test_the_same_tables_give_the_same_bytes_whatever_the_order_of_their_rows(make_company, tables):
    def turned(text):
        head, *rows = text.splitlines()
        return "\n".join([head, *reversed(rows)])

    again = make_company({name: turned(text) for name, text in TABLES.items()}).open()

    assert timeline_bytes(timeline(again, AS_OF)) == timeline_bytes(timeline(tables, AS_OF))


def test_every_kind_of_event_can_be_told_in_words(tables):
    kinds = set(timeline(tables, AS_OF).column("kind").to_pylist()) - {"usage_week"}
    row = {"id": None, "value": 1.0, "low": 0.0, "high": 10.0, "is_open": None}

    assert kinds <= set(KINDS)
    assert all(kind.says(row) and "None" not in kind.says(row) for kind in KINDS.values())


def test_a_company_of_accounts_alone_has_a_timeline(make_company):
    company = make_company({"accounts": "account_id,started_at,churned_at\na,2024-01-01,\nb,2024-02-01,2025-01-31"})
    told = timeline(company.open(), AS_OF)
    published_with(company.settings(), told)
    found = timeline_of(company.settings(), "b", "2025-03-01")

    assert found["weeks"] == []
    assert [event["kind"] for event in found["events"]] == ["contract_ended", "customer_since"]
    assert "not known" in use_by_week(found["weeks"])


def test_use_that_is_told_by_the_month_has_no_weeks(make_company):
    company = make_company({"accounts": TABLES["accounts"], "contracts": TABLES["contracts"]})
    company.write("usage", "account_id,period_start,quantity\na,2025-01-01,9").map(
        "usage", 'path = "usage.csv"\nperiod = "month"'
    )
    published_with(company.settings(), timeline(company.open(), AS_OF))

    assert timeline_of(company.settings(), "a", "2025-03-01")["weeks"] == []


def test_a_list_of_before_says_that_it_has_no_timeline(settings):
    folder = published_with(settings, None)
    found = timeline_of(settings, "a", "2025-03-01")

    assert not (folder / TIMELINE).exists()
    assert (found["weeks"], found["events"]) == ([], [])
    assert "No timeline on this list" in found["because"]


def test_a_damaged_timeline_is_not_shown(tables, settings):
    folder = published_with(settings, timeline(tables, AS_OF))
    (folder / TIMELINE).write_bytes(b"PAR1")

    assert "score again" in timeline_of(settings, "a", "2025-03-01")["because"]


def test_a_reason_points_to_what_it_speaks_of(tables, settings):
    published_with(settings, timeline(tables, AS_OF))
    places = evidence(timeline_of(settings, "a", "2025-03-01"))

    assert places["usage"] == "use"
    assert places["reliability"] == "support", "tickets, where no outage is known"
    assert (places["sentiment"], places["billing"], places["commercial"]) == ("sentiment", "billing", "commercial")
    assert "onboarding" not in places
    assert evidence({"weeks": [], "events": []}) == {}


def test_what_a_reason_points_to_is_shown_however_many_events_are_newer():
    event = {"group": "support", "is_planned": False}
    events = [dict(event) for _ in range(SHOWN + 5)] + [{**event, "group": "billing"}, {**event, "group": "billing"}]
    parts = split(events, {"support": "support", "billing": "billing"})

    assert [each["anchor"] for each in parts["past"]] == ["support", *[None] * (SHOWN - 1), "billing"]
    assert len(parts["earlier"]) == 6


def test_the_chart_says_in_words_what_it_shows(tables, settings):
    published_with(settings, timeline(tables, AS_OF))
    chart = use_by_week(timeline_of(settings, "a", "2025-03-01")["weeks"])

    assert "Days with use: 0.8 a week in the last 4 weeks, 0.0 in the weeks before" in chart
    assert "Week from 2025-02-22: 5" in chart
