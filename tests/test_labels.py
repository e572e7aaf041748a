"""Hand-made timelines and the label each must have at 2025-01-01, window (2025-01-01, 2025-04-01]."""

from __future__ import annotations

from datetime import datetime

import pytest

from features.labels import decisions, labelled, reporting_delay_days
from features.settings import LabelSettings

AS_OF = datetime(2025, 1, 1)
MATURE = datetime(2025, 5, 1)
COLUMNS = "account_id,contract_id,start_at,term_end_at,cancelled_at,ended_at,auto_renew,known_at"


def label_of(company, *contracts: str, until=MATURE, **settings):
    """State, label and part of account `a` whose contracts are the given rows of COLUMNS after the account."""
    recorded = any(row.count(",") == 6 and row.split(",")[-1] for row in contracts)
    header = COLUMNS if recorded else COLUMNS.removesuffix(",known_at")
    rows = [f"a,{row if recorded else row.rsplit(',', 1)[0]}" for row in contracts]
    company.write("accounts", "account_id,started_at\na,2024-01-01")
    company.write("contracts", "\n".join([header + ",mrr", *(row + ",100" for row in rows)]))
    tables = company.open()
    label = LabelSettings(**settings)
    row = labelled(tables, [AS_OF], label, until=until, delay_days=0).to_pyarrow().to_pylist()[0]
    return row["state"], row["churned"], row["part"]


@pytest.mark.parametrize(
    ("ended_at", "expected"),
    [
        ("2025-01-20", (1, "now")),
        ("2025-01-31", (1, "now")),
        ("2025-02-01", (1, "act")),
        ("2025-04-01", (1, "act")),
        ("2025-04-02", (0, None)),
    ],
)
def test_an_end_without_notice_counts_on_its_own_day(company, ended_at, expected):
    assert label_of(company, f"c1,2024-01-01,2026-01-01,,{ended_at},,") == ("labelled", *expected)


def test_a_new_contract_within_the_grace_undoes_the_loss(company):
    ended, again = "c1,2024-01-01,2025-03-10,,2025-03-10,,", "c2,2025-04-05,2026-04-05,,,,"

    assert label_of(company, ended, again) == ("labelled", 0, None)


def test_a_new_contract_after_the_grace_leaves_the_loss(company):
    ended, again = "c1,2024-01-01,2025-03-10,,2025-03-10,,", "c2,2025-04-15,2026-04-15,,,,"

    assert label_of(company, ended, again) == ("labelled", 1, "act")


def test_a_new_contract_on_the_last_day_of_grace_undoes_the_loss(company):
    ended, again = "c1,2024-01-01,2025-03-10,,2025-03-10,,", "c2,2025-04-09,2026-04-09,,,,"

    assert label_of(company, ended, again) == ("labelled", 0, None)


NOTICE_FOR_JUNE = "c1,2024-07-01,2025-06-30,2025-02-10,2025-06-30,,"


def test_notice_counts_on_the_day_it_was_given(company):
    assert label_of(company, NOTICE_FOR_JUNE) == ("labelled", 1, "act")


def test_the_anchor_end_waits_for_the_end(company):
    assert label_of(company, NOTICE_FOR_JUNE, anchor="end") == ("labelled", 0, None)


def test_notice_known_at_the_instant_is_leaving(company):
    assert label_of(company, "c1,2024-04-01,2025-03-31,2024-12-20,2025-03-31,,") == ("leaving", None, None)


def test_a_future_end_announced_before_is_leaving(company):
    first = "c1,2024-04-01,2025-03-31,,,,2024-04-01"
    announced = "c1,2024-04-01,2025-03-31,2024-12-20,2025-03-31,,2024-12-20"

    assert label_of(company, first, announced) == ("leaving", None, None)


def test_a_window_that_is_not_over_gives_no_label(company):
    timeline = "c1,2024-01-01,2026-01-01,,2025-01-20,,"

    assert label_of(company, timeline, until=datetime(2025, 4, 20)) == ("immature", None, None)


def test_a_planned_end_that_passes_in_silence_is_a_renewal(company):
    assert label_of(company, "c1,2024-02-01,2025-02-01,,,true,") == ("labelled", 0, None)


def test_a_planned_end_with_unknown_renewal_is_a_renewal(company):
    assert label_of(company, "c1,2024-02-01,2025-02-01,,,,") == ("labelled", 0, None)


def test_a_contract_that_does_not_renew_lapses_on_its_planned_end(company):
    assert label_of(company, "c1,2024-02-01,2025-02-01,,,false,") == ("labelled", 1, "act")


def test_an_upgrade_replaces_the_contract_without_a_loss(company):
    old, new = "c1,2024-01-01,2025-01-01,,2025-02-01,,", "c2,2025-02-01,2026-02-01,,,,"

    assert label_of(company, old, new) == ("labelled", 0, None)


def test_an_upgrade_booked_as_notice_and_new_contract_is_no_loss(company):
    old, new = "c1,2024-01-01,2025-03-01,2025-02-01,2025-03-01,,", "c2,2025-03-01,2026-03-01,,,,"

    assert label_of(company, old, new) == ("labelled", 0, None)


def test_one_of_two_overlapping_contracts_may_end_without_a_loss(company):
    assert label_of(company, "c1,2024-01-01,,,2025-02-01,,", "c2,2024-06-01,,,,,") == ("labelled", 0, None)


def test_notice_on_one_of_two_contracts_is_not_leaving(company):
    noticed = "c1,2024-01-01,2025-06-30,2024-12-01,2025-06-30,,"

    assert label_of(company, noticed, "c2,2024-06-01,,,,,") == ("labelled", 0, None)


def test_the_last_of_overlapping_contracts_to_end_is_the_loss(company):
    assert label_of(company, "c1,2024-01-01,,,2025-01-15,,", "c2,2024-06-01,,,2025-02-15,,") == ("labelled", 1, "act")


def test_a_short_pause_is_no_loss_and_a_long_one_is(company):
    paused, short, long = "c1,2024-01-01,,,2025-02-01,,", "c2,2025-02-20,,,,,", "c2,2025-03-20,,,,,"

    assert label_of(company, paused, short)[1] == 0
    assert label_of(company, paused, long)[1] == 1


def test_a_withdrawn_notice_was_a_decision(company):
    versions = (
        "c1,2024-07-01,2025-06-30,,,,2024-07-01",
        "c1,2024-07-01,2025-06-30,2025-02-10,,,2025-02-11",
        "c1,2024-07-01,2025-06-30,,,,2025-02-25",
    )

    assert label_of(company, *versions) == ("labelled", 1, "act")


def test_an_account_whose_notice_was_withdrawn_before_is_scored_again(company):
    versions = (
        "c1,2024-07-01,2025-06-30,,,,2024-07-01",
        "c1,2024-07-01,2025-06-30,2024-11-10,,,2024-11-11",
        "c1,2024-07-01,2025-06-30,,,,2024-11-25",
    )

    assert label_of(company, *versions) == ("labelled", 0, None)


def test_a_decision_learned_only_later_counts_as_now(company):
    versions = ("c1,2024-07-01,2025-06-30,,,,2024-07-01", "c1,2024-07-01,2025-06-30,2024-12-28,,,2025-01-05")

    assert label_of(company, *versions) == ("labelled", 1, "now")


def test_who_came_back_after_an_old_loss_is_judged_by_the_new_contract(company):
    first, again = "c1,2023-01-01,,,2024-01-01,,", "c2,2024-06-01,2025-06-01,,,,"

    assert label_of(company, first, again) == ("labelled", 0, None)


def test_an_account_that_left_long_ago_is_excluded(company):
    assert label_of(company, "c1,2023-01-01,,,2024-06-01,,") == ("excluded", None, None)


def test_an_account_whose_contract_has_not_begun_is_excluded(company):
    assert label_of(company, "c1,2025-01-01,,,,,") == ("excluded", None, None)


def test_an_end_on_the_instant_itself_is_not_yet_known(company):
    """A row dated as the instant is of the future: the account was still scored, and lost at once."""
    assert label_of(company, "c1,2024-01-01,,,2025-01-01,,") == ("labelled", 1, "now")


def test_the_reporting_delay_is_measured_on_past_losses(company):
    company.write("accounts", "account_id\na\nb")
    company.write(
        "contracts",
        """account_id,contract_id,start_at,ended_at,mrr,known_at
        a,c1,2024-01-01,,10,2024-01-01
        a,c1,2024-01-01,2024-08-01,10,2024-08-11
        b,c2,2024-01-01,,10,2024-01-01""",
    )
    tables = company.open()

    assert reporting_delay_days(tables, LabelSettings()) == 10
    assert decisions(tables, LabelSettings()).account_id.to_pyarrow().to_pylist() == ["a"]


# What else happens to an account

OUTCOMES = """account_id,contract_id,start_at,ended_at,mrr,end_reason
    tenth,c1,2024-01-01,2025-02-01,100,cancelled
    tenth,c2,2025-02-01,,90,
    less,c1,2024-01-01,2025-02-01,100,
    less,c2,2025-02-01,,90.01,
    back,c1,2024-01-01,2025-02-01,100,
    back,c2,2025-02-01,2025-03-01,50,
    back,c3,2025-03-01,,100,
    grows,c1,2024-01-01,,100,
    grows,c2,2025-02-01,,50,
    part,c1,2024-01-01,,100,
    part,c2,2024-01-01,2025-02-01,40,
    unpaid,c1,2024-01-01,2025-02-01,100, Non_Payment
    price,c1,2024-01-01,2025-02-01,100,price
    merged,c1,2024-01-01,2025-02-01,100,merged
    untold,c1,2024-01-01,2025-02-01,100,"""


@pytest.fixture
def outcomes(company):
    """Function from settings to the outcomes of every account of OUTCOMES."""
    company.write("contracts", OUTCOMES)
    accounts = sorted({line.split(",")[0].strip() for line in OUTCOMES.splitlines()[1:]})
    tables = company.write("accounts", "\n".join(["account_id", *accounts])).open()

    def found(*columns, until=MATURE, **settings):
        label = LabelSettings(**settings)
        rows = labelled(tables, [AS_OF], label, until=until, delay_days=0).to_pyarrow().to_pylist()
        return {row["account_id"]: tuple(row[column] for column in columns) for row in rows}

    return found


def test_a_contraction_is_a_tenth_less_at_the_end_of_the_window_without_leaving(outcomes):
    found = outcomes("churned", "contracted", "contraction_mrr")

    assert found["tenth"] == (0, 1, 10)
    assert found["part"] == (0, 1, 40)
    assert found["less"] == found["back"] == found["grows"] == (0, 0, 0)
    assert found["price"] == (1, 0, 0)


def test_the_share_that_counts_as_a_contraction_can_be_set(outcomes):
    found = outcomes("contracted", contraction_share=0.25)

    assert (found["tenth"], found["part"]) == ((0,), (1,))


def test_a_contraction_is_told_only_once_the_label_is_final(outcomes):
    assert outcomes("contracted", "contraction_mrr", until=AS_OF)["tenth"] == (None, None)


def test_a_loss_is_the_customers_own_or_not_as_its_reason_says(outcomes):
    found = outcomes("churned", "voluntary")

    assert found["price"] == (1, 1)
    assert found["unpaid"] == (1, 0)
    assert found["merged"] == found["untold"] == (1, None)
    assert found["tenth"] == (0, None)
