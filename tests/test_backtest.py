"""The lists of the past: cut as the real ones, and a loss is found only by a list that came before it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import ceil

import numpy as np
import pandas as pd
import pytest

from features.model_settings import PolicySettings
from training.backtest import _losses, backtest
from training.evaluation import rolling_predictions
from training.views import with_lists

# ibis 12 still asks pandas 3 for this option.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning")

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def company(generated):
    return generated


@pytest.fixture(scope="module")
def dataset(trained):
    return trained.dataset


@pytest.fixture(scope="module")
def past(company, dataset):
    settings, tables = company
    return backtest(dataset, tables, settings)


@pytest.fixture(scope="module")
def replayed(dataset, past):
    """The scores behind the lists of `past`, made a second time."""
    return rolling_predictions(dataset, [at.to_pydatetime() for at in past.lists.as_of], seed=7)[0]


def test_lists_are_ranked_by_probability_times_revenue_and_cut_by_capacity(company, past, replayed):
    settings, _ = company
    replayed = replayed.assign(value=replayed.probability * replayed.mrr.fillna(1.0))
    for made in past.lists.itertuples():
        rows = replayed[replayed.as_of == made.as_of]
        first = set(rows.nlargest(made.listed, "value").account_id)
        named = past.losses[past.losses.first_listed == made.as_of]
        assert made.scored == len(rows)
        assert made.listed == ceil(len(rows) * settings.policy.capacity - 1e-9)
        assert set(named.account_id) <= first
        assert (rows.set_index("account_id").value.rank(ascending=False)[named.account_id] == named["rank"].array).all()


def test_a_listed_account_costs_its_hours(company, past):
    settings, _ = company

    assert (past.lists.hours == past.lists.listed * settings.policy.hours_per_contact).all()
    assert f"{past.lists.hours.sum():,.0f} CSM hours" in past.summary()[-1]


def test_a_loss_counts_as_found_only_if_it_was_listed_before_its_decision(past, replayed):
    value = replayed.assign(value=replayed.probability * replayed.mrr.fillna(1.0))
    place = value.groupby("as_of").value.rank(ascending=False, method="first")
    size = value.groupby("as_of").value.transform("size")
    listed = value[place <= np.ceil(size * 0.1 - 1e-9)]
    assert len(past.found) > 0
    for loss in past.losses.itertuples():
        times = listed[(listed.account_id == loss.account_id) & (listed.as_of < loss.decided_at)].as_of
        assert loss.listed_times == len(times)
        assert (times.empty and pd.isna(loss.first_listed)) or times.min() == loss.first_listed


def test_days_before_are_whole_days_from_the_first_list_to_the_decision(past):
    days = (past.found.decided_at - past.found.first_listed) // pd.Timedelta(days=1)

    assert (past.found.first_listed < past.found.decided_at).all()
    assert (past.found.days_before == days).all()
    assert past.losses[past.losses.first_listed.isna()].days_before.isna().all()


def test_every_loss_of_a_scored_account_is_told(past, replayed, dataset):
    decided = dataset.maturity.rows.dropna(subset=["decided_at"])
    scored = decided.merge(replayed[["account_id", "as_of"]], on=["account_id", "as_of"])
    scored = scored[(scored.decided_at > past.lists.as_of.min()) & (scored.decided_at < dataset.span.until)]
    expected = set(zip(scored.account_id, scored.decided_at, strict=True))

    assert set(zip(past.losses.account_id, past.losses.decided_at, strict=True)) == expected


def test_a_past_replayed_is_the_same_past(dataset, past, replayed):
    ranked = with_lists(replayed, PolicySettings(capacity=0.1))
    again = _losses(dataset, ranked, past.lists.as_of.min(), pd.Timestamp(dataset.span.until + DAY))

    pd.testing.assert_frame_equal(
        again.reset_index(drop=True), past.losses[list(again.columns)].reset_index(drop=True), check_exact=True
    )


def test_the_past_as_plain_values_has_no_gaps_but_none(past):
    told = past.as_dict()

    assert len(told["losses"]) == len(past.losses)
    assert all(value is None or value == value for row in told["losses"] for value in row.values())


def listing(*rows):
    columns = ["account_id", "as_of", "decided_at", "mrr", "is_listed", "rank"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(as_of=pd.to_datetime(frame.as_of), decided_at=pd.to_datetime(frame.decided_at))


def losses_of(dataset, rows):
    made = replace(dataset, rows=rows[["account_id", "as_of", "decided_at", "mrr"]])
    return _losses(made, rows, pd.Timestamp("2024-01-01"), pd.Timestamp("2025-01-01"))


def test_a_list_of_the_day_of_the_decision_comes_too_late(dataset):
    rows = listing(("a", "2024-02-01", "2024-03-01", 1.0, False, 9), ("a", "2024-03-01", "2024-03-01", 1.0, True, 1))

    assert losses_of(dataset, rows)[["listed_times"]].to_numpy().tolist() == [[0]]


def test_a_list_before_an_earlier_loss_says_nothing_of_a_later_one(dataset):
    """Who left, came back and left again unseen was not found by the list that preceded the first loss."""
    rows = listing(
        ("a", "2024-02-01", "2024-03-10", 100.0, True, 1),
        ("a", "2024-08-01", "2024-09-10", 100.0, False, 50),
    )
    found = losses_of(dataset, rows)

    assert found.first_listed.notna().tolist() == [True, False]


@pytest.mark.parametrize(("capacity", "listed"), [(0.1, 10), (0.07, 7), (0.14, 14), (0.28, 28), (0.001, 1), (1.0, 100)])
def test_a_share_of_a_hundred_accounts_is_that_many(capacity, listed):
    """0.07 × 100 is 7.000000000000001, and still means seven."""
    rows = pd.DataFrame({"account_id": [f"a{place:02}" for place in range(100)], "as_of": pd.Timestamp("2024-01-01")})
    rows = rows.assign(probability=np.linspace(0.1, 0.3, 100), raw_score=0.0, mrr=np.nan)

    assert with_lists(rows, PolicySettings(capacity=capacity)).is_listed.sum() == listed


def test_ties_go_by_raw_score_and_then_by_account():
    rows = pd.DataFrame({"account_id": list("dcba"), "as_of": pd.Timestamp("2024-01-01"), "mrr": [2.0, np.nan, 1, 1]})
    rows = rows.assign(probability=[0.1, 0.2, 0.2, 0.2], raw_score=[0.0, 0.0, 0.0, 1.0])

    assert with_lists(rows, PolicySettings(capacity=0.5)).account_id.tolist() == ["a", "b", "c", "d"]
