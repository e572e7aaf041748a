"""Companies without contracts: who fell silent, at 2025-01-01, window to 2025-04-01, 90 days of silence."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.build import feature_table
from features.catalogue import FEATURES
from features.errors import DataError
from features.labels import decisions, labelled, reporting_delay_days
from features.maturity import maturity
from features.settings import LabelSettings
from features.silence import BARRED_BY_SILENCE
from features.snapshots import data_span
from tests.conftest import Company

AS_OF = datetime(2025, 1, 1)
MATURE = datetime(2025, 6, 30)
SILENCE = LabelSettings(kind="silence")
NOW = datetime(2025, 6, 30)


def silent_company(company: Company, uses: str, *, header: str = "account_id,event_at") -> Company:
    """A company that has accounts and use, and nothing else; `uses` are rows parted by blanks."""
    accounts = sorted({row.split(",")[0] for row in uses.split()})
    company.extra = '[label]\nkind = "silence"'
    company.write("accounts", "\n".join(["account_id", *accounts]))
    company.write("usage", "\n".join([header, *uses.split()]))
    return company


VECTORS = {
    "a loss in the first thirty days is now": ("2024-12-20 2025-01-20", ("labelled", 1, "now")),
    "the thirtieth day is now": ("2024-12-20 2025-01-31", ("labelled", 1, "now")),
    "the day after is act": ("2024-12-20 2025-02-01", ("labelled", 1, "act")),
    "the last day of the window counts": ("2024-12-20 2025-01-10 2025-04-01", ("labelled", 1, "act")),
    "the day after the window does not": ("2024-12-20 2025-01-10 2025-04-02", ("labelled", 0, None)),
    "use again on the ninetieth day comes too late": ("2024-12-20 2025-01-20 2025-04-20", ("labelled", 1, "now")),
    "use again on the day before goes on": ("2024-12-20 2025-01-20 2025-04-19", ("labelled", 0, None)),
    "a silence of ninety days is known at the instant": ("2024-10-03", ("already_silent", None, None)),
    "a running silence has no label": ("2024-12-20", ("already_silent", None, None)),
    "nor has one that ends within the window": ("2024-12-20 2025-03-25", ("already_silent", None, None)),
    "use on the day of the instant is of its future": ("2024-12-20 2025-01-01T09:00:00", ("labelled", 1, "now")),
    "who never used before is no customer yet": ("2025-01-05", ("excluded", None, None)),
}
"""Days of use, and the label."""


def label_of(company, uses, *, until=MATURE, label=SILENCE, header="account_id,event_at"):
    """State, label and part of account `a` that was used on the days of `uses`."""
    tables = silent_company(company, uses, header=header).open()
    (row,) = labelled(tables, [AS_OF], label, until=until, delay_days=0).to_pyarrow().to_pylist()
    return row["state"], row["churned"], row["part"]


@pytest.fixture(scope="module")
def vector_labels(tmp_path_factory):
    """The label of every vector; a vector is an account of one company."""
    uses = [f"v{number},{day}" for number, (days, _) in enumerate(VECTORS.values()) for day in days.split()]
    tables = silent_company(Company(tmp_path_factory.mktemp("vectors")), " ".join(uses)).open()
    rows = labelled(tables, [AS_OF], SILENCE, until=MATURE, delay_days=0).to_pyarrow().to_pylist()
    return {row["account_id"]: (row["state"], row["churned"], row["part"]) for row in rows}


@pytest.mark.parametrize("claim", VECTORS)
def test_silence_vectors(vector_labels, claim):
    assert vector_labels[f"v{list(VECTORS).index(claim)}"] == VECTORS[claim][1]


def test_an_account_in_a_running_silence_is_scored_all_the_same(company):
    tables = silent_company(company, "a,2024-12-20 b,2024-10-03 c,2025-01-05").open()

    assert feature_table(tables, [AS_OF], SILENCE)["account_id"].to_pylist() == ["a"]


def test_a_label_is_final_once_the_silence_after_the_window_is_over(company):
    day_before = MATURE - timedelta(days=1)

    assert label_of(company, "a,2024-12-20 a,2025-01-20", until=day_before) == ("immature", None, None)


def test_a_shorter_silence_finds_losses_that_a_longer_one_does_not(company):
    uses = "a,2024-12-20 a,2025-01-20 a,2025-03-25 a,2025-04-30 a,2025-06-01"

    assert label_of(company, uses)[1] == 0
    assert label_of(company, uses, label=LabelSettings(kind="silence", silence_days=60))[1] == 1


def test_only_core_use_breaks_a_silence_where_core_is_told(company):
    uses = "a,2024-12-20,true a,2025-01-20,true a,2025-03-01,false a,2025-05-01,false"

    assert label_of(company, uses, header="account_id,event_at,is_core") == ("labelled", 1, "now")


def test_use_that_was_learned_late_is_unknown_before(company):
    """At 2025-01-01 the use of 2024-12-20 had not arrived: the account looked silent, and was not scored."""
    header = "account_id,event_at,known_at"

    assert label_of(company, "a,2024-09-20,2024-09-20 a,2024-12-20,2025-01-10", header=header)[0] == "already_silent"


def test_use_that_arrives_late_delays_the_labels(company):
    rows = " ".join(f"a,2025-01-{day:02d},2025-01-{day + 3:02d}T12:00:00" for day in range(1, 21))
    tables = silent_company(company, rows, header="account_id,event_at,known_at").open()

    assert reporting_delay_days(tables, SILENCE) == 3


def test_a_silence_is_known_when_it_is_complete(company):
    tables = silent_company(company, "a,2025-01-20 b,2025-06-01").open()
    (row,) = decisions(tables, SILENCE).to_pyarrow().to_pylist()

    assert (row["account_id"], row["decided_at"]) == ("a", datetime(2025, 1, 20))
    assert row["known_at"] == row["lost_at"] == datetime(2025, 4, 20)


def test_an_account_without_a_start_begins_with_its_first_use(company):
    tables = silent_company(company, "a,2024-11-02 a,2024-12-20").open()

    assert feature_table(tables, [AS_OF], SILENCE)["tenure_days"].to_pylist() == [60]


def test_a_first_use_that_was_learned_late_moves_the_start_back_only_then(company):
    uses = "a,2024-11-02,2025-01-15 a,2024-12-20,2024-12-20 a,2025-01-30,2025-01-30"
    tables = silent_company(company, uses, header="account_id,event_at,known_at").open()
    ages = feature_table(tables, [AS_OF, datetime(2025, 2, 1)], SILENCE)["tenure_days"].to_pylist()

    assert ages == [12, 91]


def test_barred_features_are_those_of_the_time_since_the_last_use():
    meant = {item.name for item in FEATURES if item.meaning.startswith("Days from the last") and item.group == "usage"}

    assert meant
    assert meant <= set(BARRED_BY_SILENCE)


def test_a_company_of_silence_must_tell_its_use(company):
    company.extra = '[label]\nkind = "silence"'
    company.write("accounts", "account_id\na")

    with pytest.raises(DataError, match="Table 'usage' must say who fell silent"):
        company.open()


def test_who_has_neither_contracts_nor_a_churn_date_is_told_of_silence(company):
    company.write("accounts", "account_id\na").write("usage", "account_id,event_at\na,2025-01-01")

    with pytest.raises(DataError, match=r'or, for a company without contracts, usage and .*kind = "silence"'):
        company.open()


# Laws of time

START = datetime(2024, 6, 1)
HISTORIES = st.dictionaries(
    st.sampled_from("abcdefghijklmnop"), st.sets(st.integers(0, 380), min_size=1, max_size=9), min_size=12
)
SHORT = LabelSettings(kind="silence", silence_days=30, horizon_days=60)
SLOWLY = settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows_of(history, *, shift=0):
    return [
        f"{account},{START + timedelta(days=day + shift):%Y-%m-%d}" for account, days in history.items() for day in days
    ]


def states(company, rows, *, header="account_id,event_at", shift=0):
    """What labels say of every account at three instants, times in days from the start."""
    tables = silent_company(company, " ".join(rows), header=header).open()
    origin = START + timedelta(days=shift)
    instants = [origin + timedelta(days=days) for days in (60, 150, 250)]
    found = labelled(tables, instants, SHORT, until=origin + timedelta(days=340), delay_days=0)
    return {
        (row["account_id"], (row["as_of"] - origin).days): (
            row["state"], row["churned"], row["part"], row["decided_at"] and (row["decided_at"] - origin).days,
        )
        for row in found.to_pyarrow().to_pylist()
    }  # fmt: skip


def by_hand(days, as_of, *, horizon=60, silence=30, until=340):
    """The label by its definition, day by day."""
    known = [day for day in days if day < as_of]
    if not known:
        return "excluded", None
    if max(known) <= as_of - silence:
        return "already_silent", None
    if as_of + horizon + silence > until:
        return "immature", None
    seen = [day for day in days if day < until]
    onsets = [day for day in seen if not any(day < later < day + silence for later in seen) and day + silence <= until]
    if max(known) in onsets:
        return "already_silent", None
    return "labelled", int(any(as_of <= onset <= as_of + horizon for onset in onsets))


@SLOWLY
@given(history=HISTORIES)
def test_labels_are_those_of_the_definition(company, history):
    for (account, as_of), (state, churned, _, _) in states(company, rows_of(history)).items():
        assert (state, churned) == by_hand(history[account], as_of), (account, as_of)


@SLOWLY
@given(history=HISTORIES, shift=st.integers(1, 40))
def test_moving_all_of_time_moves_the_labels_and_nothing_else(company, history, shift):
    assert states(company, rows_of(history, shift=shift), shift=shift) == states(company, rows_of(history))


@SLOWLY
@given(history=HISTORIES, later=st.lists(st.integers(0, 379), min_size=1, max_size=4))
def test_use_that_becomes_known_after_the_end_changes_no_label(company, history, later):
    header = "account_id,event_at,known_at"
    known = [f"{row},{row.split(',')[1]}" for row in rows_of(history)]
    account = min(history)
    secret = [f"{account},{START + timedelta(days=day):%Y-%m-%d},2025-05-30" for day in later]

    assert states(company, known + secret, header=header) == states(company, known, header=header)


def test_a_company_of_silence_tells_what_it_allows(company):
    months = range(1, 13)
    uses = [f"s{number},2024-{month:02d}-10" for number in range(4) for month in months]
    uses += [f"l{number},2024-{month:02d}-15" for number in range(6) for month in months if month <= 4 + number % 3]
    tables = silent_company(company, " ".join(uses)).open()
    label = LabelSettings(kind="silence", silence_days=45, horizon_days=30, lead_days=10)
    labels = maturity(tables, data_span(tables, NOW), label, min_lost=5)

    assert labels.final_after == timedelta(days=75)
    assert labels.lost == 6
    assert labels.shares() == {"contracted_share": None, "reason_told_share": 0.0, "voluntary_share": None}
