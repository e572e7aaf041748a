"""What was known at an instant stays as it was: nothing that happens or is learned later moves a feature."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.build import feature_table
from features.catalogue import FEATURE_NAMES, FEATURES
from features.settings import LabelSettings, read_settings
from features.tables import open_tables
from features.windows import instants_table, known_before

AS_OF = datetime(2025, 3, 1)
DAY, INSTANT = timedelta(days=1), timedelta(microseconds=1)

HEADERS = {
    "accounts": "account_id,segment,started_at,known_at",
    "contracts": "account_id,contract_id,start_at,term_end_at,term_months,notice_days,auto_renew,seats,mrr,"
    "cancelled_at,ended_at,known_at",
    "usage": "account_id,user_id,event_at,quantity,minutes,is_core,known_at",
    "tickets": "ticket_id,account_id,opened_at,first_response_at,resolved_at,reopened_at,severity,escalated,"
    "sla_hours,csat,known_at",
    "surveys": "account_id,kind,contact_id,score,scale_min,scale_max,sent_at,responded_at,known_at",
}
ACCOUNTS = tuple("abcdef")
"""Customers at the instant; `lost` no longer is one, `silent` has a contract and nothing else."""


def account(name, known_at, segment="smb"):
    return f"{name},{segment},2024-01-01,{known_at}"


def contract(name, start_at, known_at, *, contract_id="c", mrr=100, seats=10, cancelled_at="", ended_at=""):
    terms = f"{'2025-01-31' if contract_id == 'c' else '2027-01-31'},12,30,true"
    return f"{name},{contract_id},{start_at},{terms},{seats},{mrr},{cancelled_at},{ended_at},{known_at}"


def use(name, event_at, known_at, *, user="u1", quantity=3.1):
    return f"{name},{user},{event_at},{quantity},{quantity},true,{known_at}"


def ticket(name, opened_at, known_at, *, number, resolved_at="", csat=""):
    return f"{name}-{number},{name},{opened_at},,{resolved_at},,1,yes,1,{csat},{known_at}"


def answer(name, event_at, known_at, *, kind="nps", score=3):
    scale = "," if kind == "nps" else "1,5"
    return f"{name},{kind},k1,{score},{scale},{event_at},{event_at},{known_at}"


def past():
    """Two years of six customers, in rows that all were known at the instant."""
    rows = {name: [] for name in HEADERS}
    for place, name in enumerate((*ACCOUNTS, "silent", "lost")):
        ended = "2024-06-01" if name == "lost" else ""
        rows["accounts"].append(account(name, "2024-01-01"))
        rows["contracts"].append(contract(name, "2023-01-01", "2023-01-01", mrr=80.1 + place))
        rows["contracts"].append(contract(name, "2023-01-01", "2024-07-01", mrr=90.2 + place, ended_at=ended))
    for place, name in enumerate(ACCOUNTS):
        ages = range(1 + place, 200, 3 + place)
        rows["usage"] += [
            use(name, AS_OF - age * DAY, AS_OF - age * DAY + DAY, user=f"u{age % 4}", quantity=0.1 * age)
            for age in ages
        ]
        for number, age in enumerate((2, 20, 28, 60, 91, 150)):
            at = AS_OF - age * DAY
            done = at + DAY if number % 2 else ""
            rows["tickets"].append(ticket(name, at, at, number=f"old{number}"))
            rows["tickets"].append(ticket(name, at, at + DAY, number=f"old{number}", resolved_at=done))
            rows["surveys"].append(answer(name, at, at, score=(3 * number + place) % 11))
            rows["surveys"].append(answer(name, at, at, kind="csat", score=1 + number % 5))
    # A busy day, of quantities whose binary sum would depend on their order.
    busy = AS_OF - 5 * DAY
    rows["usage"] += [use("a", busy, busy, quantity=f"{10 ** (number % 8) / 3:.6f}") for number in range(80)]
    return rows


PAST = past()

INSTANTS = [
    datetime(2023, 1, 2),
    datetime(2024, 9, 1),
    datetime(2024, 11, 1),
    datetime(2024, 12, 2),
    datetime(2025, 2, 1),
    AS_OF,
]

LATER = [AS_OF, AS_OF + INSTANT, AS_OF + DAY, AS_OF + 40 * DAY]
HAPPENS_LATER = [(event, event + late) for event, late in product(LATER, [-50 * DAY, 0 * DAY, DAY])]
LEARNED_LATER = list(
    product([AS_OF - INSTANT, AS_OF - DAY, AS_OF - 40 * DAY], [AS_OF + INSTANT, AS_OF + DAY, AS_OF + 40 * DAY])
)
HIDDEN = HAPPENS_LATER + LEARNED_LATER
"""When a row happened and when it was learned, such that it may not be seen at the instant."""


def hidden_rows(moments, versions_known_at, *, quantity, score):
    """Per customer new rows of every table at its `moments`, and new versions of what was known of it before."""
    rows = {name: [] for name in HEADERS}
    for name, own in moments.items():
        for number, (event, known) in enumerate(own):
            rows["usage"].append(use(name, event, known, user=f"new{number}", quantity=quantity))
            rows["tickets"].append(ticket(name, event, known, number=f"new{number}", resolved_at=event, csat=1))
            rows["surveys"].append(answer(name, event, known, score=score))
            rows["surveys"].append(answer(name, event, known, kind="csat", score=1))
            rows["contracts"].append(contract(name, event, known, contract_id=f"new{number}", mrr=quantity, seats=99))
        for known in versions_known_at:
            done, left = AS_OF - 5 * DAY, AS_OF - 20 * DAY
            rows["accounts"].append(account(name, known, segment="new"))
            rows["tickets"].append(ticket(name, left, known, number="old1", resolved_at=done, csat=1))
            rows["contracts"].append(
                contract(name, "2023-01-01", known, seats=1, mrr=1, cancelled_at=left, ended_at=left)
            )
    return rows


def csv(*parts):
    """The tables of HEADERS with the rows of all `parts`."""
    return {
        name: "\n".join([header, *(row for part in parts for row in part[name])]) for name, header in HEADERS.items()
    }


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Tables as a user's would be read, none of whose rows may be bad."""

    def opened(tables, usage=""):
        folder = tmp_path_factory.mktemp("company")
        for name, text in tables.items():
            (folder / f"{name}.csv").write_text(text + "\n", encoding="utf-8")
        toml = [f'[tables.{name}]\npath = "{name}.csv"\n{usage if name == "usage" else ""}' for name in tables]
        (folder / "tenure.toml").write_text("\n".join(toml), encoding="utf-8")
        found = open_tables(read_settings(folder / "tenure.toml"), now=AS_OF + 90 * DAY)
        assert found.quarantine.num_rows == 0
        return found

    return opened


@pytest.fixture(scope="module")
def features_of(opened):
    """The feature table of a company."""

    def features_of(tables, *instants):
        return feature_table(opened(tables), instants or [AS_OF], LabelSettings())

    return features_of


@pytest.fixture(scope="module")
def known_then(features_of):
    """What was known at the instant."""
    return features_of(csv(PAST))


@pytest.fixture(scope="module")
def history(features_of):
    """What was known at each of six instants."""
    return features_of(csv(PAST), *INSTANTS)


def moved(one, other):
    """The features in which two tables of the same accounts differ."""
    return {name for name in one.column_names if not one[name].equals(other[name])}


@settings(deadline=None, derandomize=True, max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(
    # Each customer has a future of its own, so that five companies hold thirty-five of them.
    moments=st.fixed_dictionaries(
        {name: st.lists(st.sampled_from(HIDDEN), min_size=1, max_size=3, unique=True) for name in (*ACCOUNTS, "lost")}
    ),
    versions=st.lists(st.sampled_from([AS_OF + INSTANT, AS_OF + DAY]), max_size=1),
    quantity=st.sampled_from([0, 0.3, 1000]),
    score=st.integers(0, 10),
)
def test_the_future_changes_no_feature(features_of, known_then, moments, versions, quantity, score):
    """Neither that rows are there, nor how they differ, nor that they are gone: the past alone gives the same."""
    future = hidden_rows(moments, versions, quantity=quantity, score=score)

    assert moved(known_then, features_of(csv(PAST, future))) == set()


def test_all_of_the_future_at_once_changes_no_feature(features_of, known_then):
    whole = dict.fromkeys((*ACCOUNTS, "lost"), HIDDEN)
    future = hidden_rows(whole, [AS_OF + INSTANT, AS_OF + DAY, AS_OF + 40 * DAY], quantity=7, score=0)

    assert features_of(csv(PAST, future)).equals(known_then)


LAST_MOMENT = AS_OF - INSTANT
JUST_IN_TIME = {
    "a": ("usage", use("a", LAST_MOMENT, AS_OF, user="new"), {"active_users_7d", "core_actions_per_user_28d"}),
    "b": ("tickets", ticket("b", LAST_MOMENT, AS_OF, number="new"), {"open_tickets", "tickets_opened_28d"}),
    "c": ("surveys", answer("c", LAST_MOMENT, AS_OF, score=1), {"nps_last_score", "nps_age_days"}),
    "d": ("contracts", contract("d", LAST_MOMENT, AS_OF, contract_id="new"), {"arr", "mrr_delta_91d"}),
    "e": ("contracts", contract("e", "2023-01-01", AS_OF, mrr=1, seats=1), {"arr", "seats_reduced_91d"}),
}


def test_what_happened_just_before_and_is_just_known_does_change_features(features_of, known_then):
    """Each account gets a row in another table, and only its own features move."""
    added = {name: [row for table, row, _ in JUST_IN_TIME.values() if table == name] for name in HEADERS}

    found = features_of(csv(PAST, added))

    for name in (*ACCOUNTS, "silent"):
        mine = pc.field("account_id") == name
        changed = moved(known_then.filter(mine), found.filter(mine))
        expected = JUST_IN_TIME[name][2] if name in JUST_IN_TIME else set()
        assert expected <= changed
        assert bool(expected) == bool(changed)


def customer(name, outcome, *, of_contracts=None):
    """One customer, all of whose outcomes are dated `outcome`; those of the contracts may differ."""
    left = outcome if of_contracts is None else of_contracts
    return {
        "accounts": [f"{name},2024-01-01,{left}"],
        "contracts": [
            f"{name},c1,2024-01-01,2025-06-01,100,{left},",
            f"{name},c2,2024-01-01,2025-06-01,50,,{left}",
        ],
        "tickets": [
            f"{name}1,{name},2025-02-10,2025-02-11,{outcome},,,1,",
            f"{name}2,{name},2025-02-10,,,{outcome},,,",
            f"{name}3,{name},2025-02-10,{outcome},,,,12,",
            f"{name}4,{name},2025-02-10,,2025-02-12,,{outcome},,",
            f"{name}5,{name},2025-02-10,,,{outcome},,,1",
        ],
        "surveys": [
            f"{name},nps,k1,9,,,2025-01-10,2025-01-11,{outcome}",
            f"{name},nps,k1,2,,,2025-02-01,{outcome},",
            f"{name},csat,k1,1,1,5,2025-02-01,{outcome},{outcome}",
        ],
    }


OUTCOMES = {
    "accounts": "account_id,started_at,churned_at",
    "contracts": "account_id,contract_id,start_at,term_end_at,mrr,cancelled_at,ended_at",
    "tickets": "ticket_id,account_id,opened_at,first_response_at,resolved_at,closed_at,reopened_at,sla_hours,csat",
    "surveys": "account_id,kind,contact_id,score,scale_min,scale_max,sent_at,responded_at,followed_up_at",
}
CUSTOMERS = [
    customer("never", ""),
    customer("now", AS_OF),
    customer("soon", AS_OF + INSTANT),
    customer("later", AS_OF + 40 * DAY),
    customer("before", LAST_MOMENT, of_contracts=""),
    customer("gone", LAST_MOMENT),
]


@pytest.fixture(scope="module")
def outcomes(features_of):
    """The features of the customers above, by name."""
    tables = {
        name: "\n".join([header, *(row for one in CUSTOMERS for row in one[name])]) for name, header in OUTCOMES.items()
    }
    return {row.pop("account_id"): row for row in features_of(tables).to_pylist()}


@pytest.mark.parametrize("name", ["now", "soon", "later"])
def test_what_has_not_come_about_yet_moves_no_feature(outcomes, name):
    assert outcomes[name] == outcomes["never"]


def test_what_has_not_come_about_yet_counts_as_open(outcomes):
    row = outcomes["later"]

    # The first and the third ticket got no answer in the time that was promised.
    assert (row["open_tickets"], row["oldest_open_ticket_days"], row["sla_breaches_28d"]) == (4, 19, 2)
    assert (row["nps_last_score"], row["csat_low_count_91d"], row["has_unanswered_survey"]) == (9, 0, 1)
    assert row["survey_response_rate_364d"] == pytest.approx(1 / 3)
    assert row["arr"] == 1800


def test_what_came_about_just_before_the_instant_is_known(outcomes):
    row = outcomes["before"]

    # The third ticket was only answered, too late, and the fourth was opened again.
    assert (row["open_tickets"], row["sla_breaches_28d"]) == (2, 2)
    assert (row["nps_last_score"], row["csat_low_count_91d"], row["has_unanswered_survey"]) == (2, 2, 0)
    assert row["survey_response_rate_364d"] == 1


def test_who_gave_notice_or_left_just_before_the_instant_is_not_scored(outcomes):
    assert outcomes.keys() == {"never", "now", "soon", "later", "before"}


def test_without_contracts_a_loss_is_known_from_the_instant_after_it(features_of):
    rows = [row for one in CUSTOMERS for row in one["accounts"]]

    found = features_of({"accounts": "\n".join([OUTCOMES["accounts"], *rows])})

    assert found["account_id"].to_pylist() == ["before", "later", "never", "now", "soon"]
    assert set(found["tenure_days"].to_pylist()) == {425}


SINCE_THE_START = {"signed_to_first_use_days", "is_activated", "activation_progress", "ttv_vs_cohort"}
"""What an account that never began tells all the same."""


def test_an_account_without_events_has_zeros_where_none_is_a_count_and_else_nulls(known_then):
    row = next(row for row in known_then.to_pylist() if row["account_id"] == "silent")
    of_events = [item for item in FEATURES if item.group not in ("commercial", "context")]
    told = [item for item in of_events if known_then[item.name].null_count < known_then.num_rows]

    found = {item.name: row[item.name] for item in told}

    # A pace that did not change, of an account older than the window, is 0.
    expected = {item.name: 0.0 if item.missing in "ZFH" else None for item in told}
    # Who holds seats uses none of them: a share, not an unknown. And who never began has waited since the start.
    expected |= {"seat_utilisation_28d": 0.0, "days_without_value": row["tenure_days"], "is_frozen_90d": 1.0}
    assert len(told) > 25
    assert found == {**expected, **{name: found[name] for name in SINCE_THE_START if name in found}}


def test_each_active_account_has_one_row_at_each_instant(history):
    until_june = [*ACCOUNTS, "lost", "silent"]
    since = [*ACCOUNTS, "silent"]
    expected = [(name, instant) for instant in INSTANTS for name in (until_june if instant.year == 2023 else since)]

    assert list(zip(history["account_id"].to_pylist(), history["as_of"].to_pylist(), strict=True)) == expected


def test_late_rows_count_from_when_they_were_known_and_not_before(features_of, known_then):
    happened, known = AS_OF - 3 * DAY, AS_OF + 6 * timedelta(hours=1)
    late = {
        "accounts": [],
        "contracts": [contract("silent", "2023-01-01", known, mrr=500, seats=1)],
        "usage": [use("silent", happened, known, quantity=8), use("silent", happened, known, user="u2", quantity=8)],
        "tickets": [ticket("silent", happened, known, number="late", resolved_at=AS_OF - DAY, csat=1)],
        "surveys": [answer("silent", happened, known, score=4)],
    }
    expected = {
        "arr": 6000,
        "active_days_28d": 1,
        "active_users_7d": 2,
        "core_actions_per_user_28d": 8,
        "days_since_last_login": 4,
        "tickets_opened_28d": 1,
        "open_tickets": 0,
        "csat_low_count_91d": 1,
        "nps_last_score": 4,
        "survey_response_rate_364d": 1,
    }

    found = features_of(csv(PAST, late), AS_OF, AS_OF + DAY)

    assert found.filter(pc.field("as_of") == AS_OF).equals(known_then)
    silent = [row for row in found.to_pylist() if row["account_id"] == "silent"]
    assert {name: silent[1][name] for name in expected} == expected


def test_many_instants_at_once_give_what_each_gives_alone(opened, history):
    tables = opened(csv(PAST))

    alone = [feature_table(tables, [instant], LabelSettings()) for instant in INSTANTS]

    assert history.equals(pa.concat_tables(alone))


def test_the_order_of_the_rows_and_of_the_instants_does_not_matter(features_of, history):
    """To the last bit: sums of money and of use do not depend on which row comes first."""
    draw = random.Random(7)
    shuffled = {name: draw.sample(rows, len(rows)) for name, rows in PAST.items()}

    assert features_of(csv(shuffled), *reversed(INSTANTS), AS_OF).equals(history)


CUSTOMER = {"accounts": "account_id\na", "contracts": "account_id,start_at,mrr\na,2024-01-01,1"}


@pytest.mark.parametrize(
    ("as_of", "months"),
    [
        (datetime(2025, 1, 31), [12]),
        (datetime(2025, 2, 1), [12, 1]),
        (datetime(2025, 2, 28), [12, 1]),
        (datetime(2025, 3, 1), [12, 1, 2]),
    ],
)
def test_the_total_of_a_month_is_known_when_the_month_is_over(opened, as_of, months):
    usage = "account_id,period_start,n_users\na,2024-12-01,1\na,2025-01-01,2\na,2025-02-01,3"
    tables = opened({**CUSTOMER, "usage": usage}, usage='period = "month"')

    seen = known_before(tables["usage"], instants_table(tables.backend, [as_of])).order_by("event_at")

    assert [day.month for day in seen.event_at.to_pyarrow().to_pylist()] == months


def test_the_total_of_a_day_is_known_when_the_day_is_over(opened):
    usage = "account_id,period_start,n_users\na,2025-02-28,4"
    tables = opened({**CUSTOMER, "usage": usage}, usage='period = "day"')

    found = feature_table(tables, [AS_OF - DAY, AS_OF], LabelSettings())

    assert found["active_users_7d"].to_pylist() == [0, 4]
    assert found["days_since_last_login"].to_pylist() == [None, 1]


def test_the_total_of_a_month_that_arrives_late_is_known_when_it_arrives(opened):
    usage = "account_id,period_start,n_users,known_at\na,2025-01-01,2,2025-02-10"
    tables = opened({**CUSTOMER, "usage": usage}, usage='period = "month"')

    seen = known_before(tables["usage"], instants_table(tables.backend, [datetime(2025, 2, 9), datetime(2025, 2, 10)]))

    assert seen.as_of.to_pyarrow().to_pylist() == [datetime(2025, 2, 10)]


def test_the_feature_table_names_every_feature_in_order(known_then):
    assert known_then.column_names == ["account_id", "as_of", *FEATURE_NAMES]
    assert all(known_then.schema.field(name).type == pa.float64() for name in FEATURE_NAMES)
