"""The edges of the first features, worked out by hand for accounts that share their rows, as of 2025-03-01.

Every feature has worked examples of its own beside it; here one account answers for many features at once.

Windows end the day before: 7 days begin on 02-22, 28 on 02-01, 91 on 2024-11-30, 182 on 2024-08-31 and 364 on
2024-03-02. `day(n)` is n days before: `day(1)` is 2025-02-28.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

import pytest

from features.build import feature_table
from features.catalogue import FEATURE_NAMES, FEATURES
from features.settings import LabelSettings, read_settings
from features.tables import open_tables

AS_OF = datetime(2025, 3, 1)


def day(age, clock="00:00:00"):
    return f"{AS_OF - timedelta(days=age):%Y-%m-%d} {clock}"


# The columns of each row stand in TABLES below.
CONTRACTS = [
    "calm,c,2023-03-02,,,,,0,100,,,,",
    "falling,c,2023-03-02,,,,,,,1200,,,",
    "steady,c,2023-03-02,,,,,,,,,,",
    "deviating,c,2023-03-02,,,,,,,,,,",
    "people,c,2023-03-02,,,,,4,,,,,",
    "tickets,c,2023-03-02,,,,,,,,,,",
    "answers,c,2023-03-02,,,,,,,,,,",
    "invited,c,2023-03-02,,,,,,,,,,",
    "asked,c,2023-03-02,,,,,,,,,,",
    "late,c,2023-03-02,,,,,,,,,,",
    # Tenure at the edges of the windows: 90, 91, 111 and 112 days.
    "days90,c,2024-12-01,,,,,,,,,,",
    "days91,c,2024-11-30,,,,,,,,,,",
    "days111,c,2024-11-10,,,,,,,,,,",
    "days112,c,2024-11-09,,,,,,,,,,",
    # An end of 2024-01-31 rolled by months lies on 2025-03-31; one of 2024-06-15 rolled by years on 2025-06-15.
    "monthly,c,2024-01-01,2024-01-31,1,10,true,,,,,,",
    "yearly,c,2023-06-15,2024-06-15,12,120,,,,,,,",
    "passed,c,2023-06-15,2024-06-15,,30,,,,,,,",
    "several,c1,2024-01-01,2025-04-01,12,30,true,3,100,,,,",
    "several,c2,2024-06-01,2025-03-11,12,0,false,2,50.25,,,,",
    "several,c3,2023-01-01,2023-12-31,12,0,false,9,900,,,,",
    "changed,c,2024-01-01,,,,,10,100,,,,2024-01-01",
    "changed,c,2024-01-01,,,,,4,150,,,,2025-02-01",
    "grown,c,2024-01-01,,,,,4,150,,,,2024-01-01",
    "grown,c,2024-01-01,,,,,10,100,,,,2025-03-01",
    "returned,c1,2020-03-01,,,,,5,500,,,2021-03-01,",
    "returned,c2,2025-02-01,,,,,5,100,,,,",
]  # fmt: skip

USAGE = [
    # 40 in the last 28 days, 180 in the 63 before: 220 in 91. The days 92 and 196 are out of the trend.
    f"falling,,{day(1)},15,true,", f"falling,,{day(28)},25,true,", f"falling,,{day(29)},100,true,",
    f"falling,,{day(91)},80,true,", f"falling,,{day(92)},999,true,", f"falling,,{day(1)},999,false,",
    # 100 and 225: the same pace.
    f"steady,,{day(3)},100,true,", f"steady,,{day(60)},225,true,",
    # 60 after 100, 110, 90, 105, 95, 100; the days 197 and later are out.
    f"deviating,,{day(1)},20,true,", f"deviating,,{day(28)},40,true,",
    f"deviating,,{day(29)},60,true,", f"deviating,,{day(56)},40,true,",
    f"deviating,,{day(57)},110,true,", f"deviating,,{day(112)},90,true,", f"deviating,,{day(113)},105,true,",
    f"deviating,,{day(168)},95,true,", f"deviating,,{day(169)},1,true,", f"deviating,,{day(196)},99,true,",
    f"deviating,,{day(197)},999,true,",
    # Users u1, u2 and u5 in 7 days, u3 and u4 too in 28. Core: 3 + 2 + 1, where a blank quantity is one.
    f"people,u1,{day(1, '23:59:59.999999')},4,false,10", f"people,u1,{day(3)},3,true,",
    f"people,u2,{day(7)},2,true,20.5",
    f"people,u3,{day(8, '23:59:59')},7,false,", f"people,u4,{day(28)},,true,", f"people,u5,{day(3)},9,,",
    f"people,u6,{day(29)},50,true,1000",
    *(f"tickets,u{n},{day(20)},1,true," for n in range(4)),
    # 5 after 10, 20 and 30.
    *(f"days{tenure},,{day(age)},{quantity},true,"
      for tenure in (90, 91, 111, 112) for age, quantity in ((2, 5), (30, 10), (60, 20), (90, 30))),
]  # fmt: skip

TICKETS = [
    f"t1,tickets,{day(1)},,,,,1,,4,",  # open; due unanswered at 04:00 of that day
    f"t2,tickets,{day(28, '12:00:00')},{day(27, '12:00:00')},,{day(0)},,2,yes,24,",  # closed only at the instant
    f"t3,tickets,{day(29)},{day(26)},{day(20)},,,1,yes,48,",  # due on day 27, answered on day 26
    f"t4,tickets,{day(91)},{day(91)},{day(80)},,{day(70)},3,yes,,",  # reopened
    f"t5,tickets,{day(92)},,,{day(91)},,1,yes,1,",  # all of it too long ago
    f"t6,tickets,{day(200)},,,,,,no,,",  # open for long, of unknown severity
    f"t7,tickets,{day(50)},,,{day(40)},{day(45)},1,no,,2",  # reopened, then closed with a low score
    f"t8,tickets,{day(2)},,{day(1)},,,1,no,48,",  # due at the instant
    f"t9,late,{day(400)},,,{day(395)},,1,no,1,1",
    f"t10,days90,{day(80)},,,,,4,,,",
    f"t11,days91,{day(80)},,,,,4,,,",
]

SURVEYS = [
    f"answers,nps,k1,9,,,,,{day(300)}",
    f"answers,nps,k1,7,,,,,{day(182)}",
    f"answers,nps,k2,10,,,Relationship,,{day(90)}",
    f"answers,nps,k1,6,,,,{day(40)},{day(28)}",
    f"answers,nps,k1,0,,,ticket,,{day(3)}",  # about a ticket: never pooled with the others
    f"answers,nps,k3,10,,,,{day(9)},{day(0)}",  # answered only at the instant
    f"asked,nps,k1,7,,,,,{day(183)}",
    f"tickets,csat,k1,4,1,5,,,{day(91)}",  # 0.75
    f"tickets,csat,k1,10,0,10,,,{day(2)}",  # 1.0
    f"tickets,csat,k1,1,1,5,,,{day(92)}",
    f"invited,csat,k1,5,1,5,,{day(364)},{day(360)}",
    f"invited,nps,k1,,,,,{day(365)},",
    f"invited,nps,k1,8,,,,{day(50)},{day(49)}",
    f"invited,nps,k1,,,,,{day(14)},",
    f"asked,nps,k1,,,,,{day(30)},",
    f"asked,nps,k1,,,,,{day(13)},",
    f"late,nps,k1,9,,,,{day(60)},{day(0)}",
]

TABLES = {
    "accounts": ["account_id", *dict.fromkeys(row.split(",")[0] for row in CONTRACTS)],
    "contracts": [
        "account_id,contract_id,start_at,term_end_at,term_months,notice_days,auto_renew,seats,mrr,arr,"
        "cancelled_at,ended_at,known_at",
        *CONTRACTS,
    ],
    "usage": ["account_id,user_id,event_at,quantity,is_core,minutes", *USAGE],
    "tickets": [
        "ticket_id,account_id,opened_at,first_response_at,resolved_at,closed_at,reopened_at,severity,escalated,"
        "sla_hours,csat",
        *TICKETS,
    ],
    "surveys": ["account_id,kind,contact_id,score,scale_min,scale_max,trigger,sent_at,responded_at", *SURVEYS],
}

EXPECTED = {
    "active_days_28d": {"people": 5, "falling": 2, "deviating": 2, "calm": 0},
    # ln(41 / (180 · 28/63 + 1)) = ln(41/81) and ln(101 / (225 · 28/63 + 1)) = ln(101/101).
    "usage_trend_28v91": {"falling": -0.6808770, "steady": 0, "calm": 0, "days90": None,
                          "days91": math.log(6 / (60 * 28 / 63 + 1))},
    # (60 - 100) / (sqrt(250 / 6) + 1) = -5.3655, and (5 - 20) / (sqrt(200 / 3) + 1) where three windows are held.
    "usage_own_z_28d": {"deviating": -40 / (math.sqrt(250 / 6) + 1), "days111": None, "calm": 0,
                        "days112": -15 / (math.sqrt(200 / 3) + 1)},
    "days_since_last_login": {"people": 1, "steady": 3, "falling": 1, "calm": None},
    "days_since_core_use": {"people": 3, "deviating": 1, "calm": None},
    "active_users_7d": {"people": 3, "tickets": 0, "calm": 0},
    "active_users_28d": {"people": 5, "tickets": 4, "calm": 0},
    "core_actions_per_user_28d": {"people": 6 / 5, "tickets": 1, "calm": None},
    "wau_mau_ratio_28d": {"people": 3 / 5, "tickets": 0, "calm": None},
    "seat_utilisation_28d": {"people": 5 / 4, "calm": None, "tickets": None, "several": 0},
    "active_minutes_28d": {"people": 30.5 / 5, "tickets": 0, "calm": None},
    # t1, t2 and t8.
    "tickets_opened_28d": {"tickets": 3, "late": 0, "calm": 0},
    # t1, t2, t4 and t6; of these t1 and t2 are urgent.
    "open_tickets": {"tickets": 4, "late": 0, "calm": 0},
    "high_sev_open": {"tickets": 2, "days91": 0, "calm": 0},
    "oldest_open_ticket_days": {"tickets": 200, "days91": 80, "late": 0, "calm": 0},
    # t2, t3 and t4.
    "escalations_91d": {"tickets": 3, "late": 0, "calm": 0},
    "tickets_per_user_28d": {"tickets": 3 / 4, "people": 0, "calm": None},
    # 3 in 28 days after t3, t4 and t7: ln(4 / (3 · 28/63 + 1)); one old ticket alone: ln(1 / (28/63 + 1)).
    "ticket_rate_change_28v91": {"tickets": math.log(12 / 7), "days91": math.log(9 / 13), "days90": None, "calm": 0},
    "is_quiet_and_falling": {"falling": 1, "steady": 0, "tickets": 0, "days91": 0, "calm": 0},
    # t1 and t3.
    "sla_breaches_28d": {"tickets": 2, "late": 0, "calm": 0},
    "nps_last_score": {"answers": 6, "asked": 7, "invited": 8, "late": None, "calm": None},
    "nps_age_days": {"answers": 28, "asked": 183, "late": None, "calm": None},
    # k1 said 7 before; what k2 said between does not matter.
    "nps_delta_prev": {"answers": -1, "asked": None, "calm": None},
    # 7, 10 and 6.
    "nps_detractor_share_182d": {"answers": 1 / 3, "invited": 0, "asked": None, "calm": None},
    "is_nps_detractor": {"answers": 1, "asked": 0, "late": None, "calm": None},
    # (0.25 + 0.75 + 1) / 3, the first of them from t7.
    "csat_mean_91d": {"tickets": 2 / 3, "invited": None, "late": None, "calm": None},
    "csat_low_count_91d": {"tickets": 1, "invited": 0, "late": 0, "calm": 0},
    "has_unanswered_survey": {"invited": 1, "asked": 0, "late": 1, "answers": 0, "calm": 0},
    "survey_response_rate_364d": {"invited": 2 / 3, "asked": 0, "late": 0, "answers": 1 / 2, "calm": None},
    # 2024 is a leap year; the first contract counts even if a gap followed.
    "tenure_days": {"calm": 730, "days90": 90, "several": 790, "returned": 1826},
    "days_to_renewal": {"monthly": 30, "yearly": 106, "several": 10, "passed": None, "calm": None},
    "days_to_notice_deadline": {"monthly": 20, "yearly": -14, "several": 1, "passed": None, "calm": None},
    "is_auto_renew": {"monthly": 1, "several": 0, "yearly": 1},
    "arr": {"calm": 1200, "falling": 1200, "several": 1803, "changed": 1800, "grown": 1200, "steady": None},
    "mrr_delta_91d": {"changed": 0.5, "grown": -1 / 3, "calm": 0, "returned": None, "steady": None},
    "seats_reduced_91d": {"changed": 0.6, "grown": 0, "calm": None, "returned": None},
}  # fmt: skip


def told(folder, tables, *instants, **sections):
    """The feature rows of a company in `folder`, by account and, where several are asked for, by instant."""
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    toml = [f'[tables.{name}]\npath = "{name}.csv"\n{sections.get(name, "")}' for name in tables]
    (folder / "tenure.toml").write_text("\n".join(toml), encoding="utf-8")
    opened = open_tables(read_settings(folder / "tenure.toml"), now=datetime(2025, 6, 1))
    assert opened.quarantine.num_rows == 0
    rows = feature_table(opened, list(instants) or [AS_OF], LabelSettings()).to_pylist()
    return {(row["account_id"], row["as_of"]) if instants else row["account_id"]: row for row in rows}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """All hand-made accounts at 2025-03-01."""
    return told(tmp_path_factory.mktemp("company"), TABLES)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_feature_has_the_value_worked_out_by_hand(rows, name):
    expected = EXPECTED[name]

    found = {account: rows[account][name] for account in expected}

    assert found == {
        account: None if value is None else pytest.approx(value, abs=1e-7) for account, value in expected.items()
    }


def test_every_account_has_every_column_and_no_other(rows):
    assert rows.keys() == {row.split(",")[0] for row in CONTRACTS}
    assert all(tuple(row) == ("account_id", "as_of", *FEATURE_NAMES) for row in rows.values())


def test_a_missing_value_is_null_and_never_not_a_number(rows):
    values = [row[name] for row in rows.values() for name in FEATURE_NAMES]

    assert all(value is None or math.isfinite(value) for value in values)


@pytest.mark.parametrize(
    ("as_of", "days"),
    [
        (datetime(2025, 1, 31), 0),
        (datetime(2025, 2, 1), 27),  # 28 February is the last day of its month
        (datetime(2025, 2, 28), 0),
        (datetime(2025, 3, 1), 30),  # and the day after, the 31st counts again
        (datetime(2025, 3, 31), 0),
        (datetime(2025, 4, 1), 29),
        (datetime(2024, 2, 1), 28),  # in a leap year
    ],
)
def test_a_month_end_that_passes_in_silence_moves_to_the_next_month_end(month_ends, as_of, days):
    assert month_ends["a", as_of]["days_to_renewal"] == days


@pytest.mark.parametrize(
    ("as_of", "days"), [(datetime(2025, 1, 31), 15), (datetime(2025, 2, 1), 14), (datetime(2025, 3, 31), 15)]
)
def test_an_end_within_the_month_moves_to_the_next_month_once_its_day_is_over(month_ends, as_of, days):
    assert month_ends["b", as_of]["days_to_renewal"] == days


@pytest.fixture(scope="module")
def month_ends(tmp_path_factory):
    """One account that renews at the end of each month and one that renews on its 15th."""
    tables = {
        "accounts": ["account_id", "a", "b"],
        "contracts": [
            "account_id,start_at,term_end_at,term_months,mrr",
            "a,2023-12-31,2024-01-31,1,1",
            "b,2023-12-15,2024-01-15,1,1",
        ],
    }
    months = [(2024, 2, 1), (2025, 1, 31), (2025, 2, 1), (2025, 2, 28), (2025, 3, 1), (2025, 3, 31), (2025, 4, 1)]
    return told(tmp_path_factory.mktemp("months"), tables, *(datetime(*month) for month in months))


CUSTOMERS = {
    "accounts": ["account_id,started_at", "a,2024-01-01", "b,2024-01-01"],
    "contracts": [
        "account_id,start_at,mrr,seats,notice_days",
        "a,2024-01-01,100,2,30",
        "b,2024-01-01,100,0,30",
    ],
}


def told_names(row):
    return {name for name in EXPECTED if row[name] is not None}


def test_a_table_that_is_not_connected_leaves_its_features_missing_and_not_zero(tmp_path):
    """Without usage, tickets and surveys, and without planned ends, only what contracts say is told."""
    row = told(tmp_path, CUSTOMERS)["a"]

    assert told_names(row) == {"tenure_days", "arr", "mrr_delta_91d", "seats_reduced_91d"}


def test_without_contracts_only_the_time_as_a_customer_is_told(tmp_path):
    accounts = ["account_id,started_at,churned_at", "a,2024-01-01,", "b,2024-01-01,2024-06-01"]
    rows = told(tmp_path, {"accounts": accounts})

    assert rows.keys() == {"a"}
    assert told_names(rows["a"]) == {"tenure_days"}
    assert rows["a"]["tenure_days"] == 425


def test_a_column_that_the_source_lacks_leaves_its_features_missing(tmp_path):
    """Uses without users, tickets without an end, a severity or a promise, answers without invitations."""
    tables = {
        **CUSTOMERS,
        "usage": ["account_id,event_at", f"a,{day(2)}"],
        "tickets": ["ticket_id,account_id,opened_at", f"t,a,{day(2)}"],
        "surveys": ["account_id,kind,score,responded_at", f"a,nps,8,{day(2)}"],
    }
    row = told(tmp_path, tables)["a"]

    missing = {
        "active_users_7d", "active_users_28d", "core_actions_per_user_28d", "wau_mau_ratio_28d",
        "seat_utilisation_28d", "active_minutes_28d", "open_tickets", "high_sev_open", "oldest_open_ticket_days",
        "escalations_91d", "tickets_per_user_28d", "sla_breaches_28d", "nps_delta_prev", "csat_mean_91d",
        "has_unanswered_survey", "survey_response_rate_364d", "days_to_renewal", "days_to_notice_deadline",
        "is_auto_renew",
    }  # fmt: skip
    assert EXPECTED.keys() - told_names(row) == missing
    assert row["days_since_core_use"] == 2  # where nobody said which use is core, all of it is


def test_scores_on_tickets_are_answers_even_without_surveys(tmp_path):
    tickets = ["ticket_id,account_id,opened_at,resolved_at,csat", f"t,a,{day(5)},{day(2)},2"]
    rows = told(tmp_path, {**CUSTOMERS, "tickets": tickets})

    assert (rows["a"]["csat_mean_91d"], rows["a"]["csat_low_count_91d"]) == (0.25, 1)
    assert (rows["b"]["csat_mean_91d"], rows["b"]["csat_low_count_91d"]) == (None, 0)
    assert rows["a"]["nps_last_score"] is None


DAILY = ["account_id,period_start,n_users,quantity", f"a,{day(1)},3,10", f"a,{day(9)},5,30", f"a,{day(29)},9,1"]


def test_daily_totals_tell_as_much_as_events_with_the_largest_count_of_users(tmp_path):
    row = told(tmp_path, {**CUSTOMERS, "usage": DAILY}, usage='period = "day"')["a"]

    assert row["active_days_28d"] == 2
    assert row["days_since_last_login"] == 1
    assert (row["active_users_7d"], row["active_users_28d"]) == (3, 5)
    assert row["core_actions_per_user_28d"] == 40 / 5
    assert row["seat_utilisation_28d"] == 5 / 2


def test_monthly_totals_tell_no_feature_that_needs_days(tmp_path):
    usage = ["account_id,period_start,n_users", "a,2025-01-01,3"]
    row = told(tmp_path, {**CUSTOMERS, "usage": usage}, usage='period = "month"')["a"]

    assert told_names(row) == {"tenure_days", "arr", "mrr_delta_91d", "seats_reduced_91d"}


def test_names_are_unique_and_plain():
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert all(re.fullmatch("[a-z0-9_]+", name) for name in FEATURE_NAMES)


@pytest.mark.parametrize("item", FEATURES, ids=FEATURE_NAMES)
def test_every_feature_says_what_it_means(item):
    assert all(text.strip() for text in (item.label, item.meaning, item.unit))
    assert item.meaning.endswith(".")
    assert not item.label.endswith(".")


@pytest.mark.parametrize("item", FEATURES, ids=FEATURE_NAMES)
def test_a_name_that_ends_in_days_names_its_window(item):
    """`_28d` is a window of 28 days; of `_28v91` and of the own history the longest window that must be held."""
    named = re.search(r"_(\d+)d$", item.name)

    # The own history of a z is longer than its name, and a fixed age is no window before the instant.
    if named and item.name not in ("usage_own_z_28d", "post_sale_touches_60d"):
        assert item.window == int(named[1])
