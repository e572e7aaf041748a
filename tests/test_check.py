"""`tenure check` says what the sources hold, how fresh they are, and of whom they say nothing."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from click.testing import CliRunner

import tenure
from features.check import check
from features.settings import LabelSettings
from features.tables import open_tables

NOW = datetime(2025, 6, 1)


@pytest.fixture
def small(company):
    """Four accounts: one without use, two without a contract, three without an owner."""
    company.write(
        "accounts",
        """account_id,started_at,csm_id
        a,2024-01-01,ann
        b,2024-01-01,
        c,2024-01-01,
        d,2024-01-01,""",
    )
    company.write("contracts", "account_id,start_at,mrr\na,2024-01-01,1\nb,2024-01-01,1")
    return company.write(
        "usage",
        """account_id,event_at,known_at
        a,2025-05-20 00:00:00,2025-05-21 00:00:00
        b,2025-05-20 00:00:00,2025-05-21 00:00:00
        c,2025-05-20 00:00:00,2025-05-30 00:00:00""",
    )


def checked(company):
    settings = company.settings()
    return check(open_tables(settings, now=NOW), settings, now=NOW)


def test_accounts_of_which_a_source_says_nothing_are_counted(small):
    report = checked(small)

    assert report.accounts == {"accounts": 4, "without_usage": 1, "without_contract": 2, "without_owner": 3}
    assert "Of 4 accounts 1 without usage, 2 without contract, 3 without owner." in report.problems


def test_an_assignment_is_an_owner_too(small):
    small.write("assignments", "account_id,csm_id,from_at\nb,ann,2024-01-01\nb,bob,2025-01-01\na,bob,2025-01-01")

    assert checked(small).accounts["without_owner"] == 2


def test_a_source_that_is_not_mapped_says_nothing_of_anyone(company):
    company.write("accounts", "account_id,started_at,churned_at\na,2024-01-01,")

    assert checked(company).accounts == {
        "accounts": 1, "without_usage": None, "without_contract": None, "without_owner": None,
    }  # fmt: skip


def test_the_age_of_a_source_and_its_delays_are_told_where_it_says_them(small):
    facts = {item["table"]: item for item in checked(small).tables}

    usage = facts["usage"]
    assert (usage["days_old"], usage["grade"]) == (12, "recorded")
    # Delays of 1, 1 and 10 days: the middle one is 1, and 95 in 100 of the way from the least to the greatest is 9.1.
    assert (usage["lag_p50_days"], usage["lag_p95_days"]) == (1.0, 9.1)
    assert (facts["contracts"]["lag_p50_days"], facts["contracts"]["grade"]) == (None, "assumed")


def test_rows_of_unknown_accounts_are_counted(small):
    small.write("tickets", "ticket_id,account_id,opened_at\n1,a,2025-05-01\n2,x,2025-05-01\n3,y,2025-05-01")
    small.extra = "[quarantine]\nlimit = 1.0"

    facts = {item["table"]: item for item in checked(small).tables}

    assert (facts["tickets"]["unknown_accounts"], facts["usage"]["unknown_accounts"]) == (2, 0)


def test_tables_that_are_not_mapped_share_one_line_that_says_what_they_would_tell(small):
    lines = [line for line in checked(small).problems if "ot mapped" in line]

    assert len(lines) == 1
    assert lines[0].startswith("Not mapped: ")
    assert "tickets (features of support are missing" in lines[0]
    assert "invoices (features of billing are missing)" in lines[0]
    assert "usage" not in lines[0]


def test_a_table_to_be_read_from_copies_asks_for_the_first(small):
    small.map("contracts", 'path = "contracts.csv"\nhistory = "snapshot"')

    assert "No copies yet of contracts: run `tenure snapshot` every night." in checked(small).problems


def run(*arguments):
    done = CliRunner().invoke(tenure.main, arguments)
    assert done.exit_code == 0, f"{done.stderr} {done.exception!r}"
    return done.stdout


def test_the_grade_of_every_feature_is_told_once_the_sources_were_read(small):
    config = str(small.settings().path)
    assert "grade" not in json.loads(run("features", "list", "--json", "--config", config))["features"][0]
    report = checked(small)
    assert sum(report.grades.values()) > 0

    rows = json.loads(run("features", "list", "--json", "--config", config))["features"]

    assert {row["grade"] for row in rows} <= {"recorded", "assumed"}
    assert next(row for row in rows if row["name"] == "arr")["grade"] == "assumed"


def test_the_command_copies_and_checks(small):
    small.extra = f"[label]\nhorizon_days = {LabelSettings().horizon_days}"
    config = str(small.settings().path)

    copied = json.loads(run("snapshot", "--json", "--config", config))["tables"]
    text = run("check", "--config", config)

    assert {item["table"]: item["new"] for item in copied} == {"accounts": 4, "contracts": 2}
    assert "Features that can be told: " in text
    assert "lag p50" in text
