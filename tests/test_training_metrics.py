"""Metrics say how well an account list ranks, intervals how sure that is, and neither invents a number."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from training import metrics
from training.intervals import (
    KERNELS,
    METRICS,
    Estimate,
    _Sample,
    ece_noise_floor,
    evaluate_rows,
    paired_difference,
)

SCALAR = {
    "auc": metrics.roc_auc,
    "auc_pr": metrics.average_precision,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
    "ece": metrics.ece,
    "lift_10": metrics.lift_at,
}


def lcg(n, seed):
    state, numbers = seed, []
    for _ in range(n):
        state = (1103515245 * state + 12345) % 2**31
        numbers.append(state / 2**31)
    return np.array(numbers)


@pytest.fixture(scope="module")
def reference():
    """Labels, scores and values on which independent implementations agree."""
    shape, event, value = lcg(3000, 42).reshape(3, 1000)
    score = 0.02 + 0.4 * shape**3
    return (event < score).astype(int), score, np.round(1000 + 49000 * value**4, 2)


@st.composite
def weighted_rows(draw):
    """Labels of both classes, scores with many ties, whole weights that may be 0."""
    n = draw(st.integers(10, 40))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    scores = draw(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.31, 0.7, 1.0]), min_size=n, max_size=n))
    weights = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    return np.array(labels), np.array(scores), np.array(weights)


def panel(*, instants=3, accounts=200, parents=40, seed=0, rate=0.15):
    """Active accounts at several instants, some under parents, with honest probabilities that tie often."""
    rng = np.random.default_rng(seed)
    parent = rng.integers(0, 2 * parents, accounts)
    snapshots = []
    for month in range(instants):
        probability = np.round(rng.beta(1, 1 / rate - 1, accounts), 2).clip(0.01, 0.95)
        snapshots.append(
            pd.DataFrame(
                {
                    "account_id": [f"a{i}" for i in range(accounts)],
                    "parent_id": [f"p{p}" if p < parents else None for p in parent],
                    "as_of": pd.Timestamp(2024, month + 1, 1),
                    "churned": (rng.random(accounts) < probability).astype(int),
                    "probability": probability,
                    "noise": rng.random(accounts),
                }
            )
        )
    return pd.concat(snapshots, ignore_index=True)


# The metrics


def test_lift_agrees_with_the_reference_value(reference):
    churned, score, _ = reference

    assert churned.sum() == 143
    assert metrics.lift_at(churned, score) == pytest.approx(3.006993, abs=1e-6)


def test_the_best_campaign_agrees_with_the_reference_value(reference):
    churned, score, clv = reference
    terms = {"clv": clv, "delta": 0.05, "contact_cost": 150, "gamma": 0.3}

    share, profit = metrics.profit_curve(churned, score, **terms)

    assert metrics.empb(churned, score, **terms) == pytest.approx(191.877585, abs=1e-6)
    assert share[profit.argmax()] == pytest.approx(0.21)


def test_contacting_nobody_is_the_best_campaign_when_every_contact_costs_more_than_it_saves(reference):
    churned, score, clv = reference

    assert metrics.empb(churned, score, clv=clv, delta=0.05, contact_cost=1e6, gamma=0.3) == 0.0


@pytest.mark.parametrize("name", METRICS)
@given(rows=weighted_rows())
@settings(deadline=None, max_examples=40)
def test_a_whole_weight_is_the_row_repeated(name, rows):
    churned, score, weight = rows
    repeated = SCALAR[name](np.repeat(churned, weight), np.repeat(score, weight))
    weighted = SCALAR[name](churned, score, sample_weight=weight)

    assert (weighted is None) == (repeated is None)
    assert weighted == repeated or weighted == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
@given(rows=weighted_rows(), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=40)
def test_the_order_of_rows_moves_no_metric(name, rows, seed):
    churned, score, _ = rows
    order = np.random.default_rng(seed).permutation(churned.size)
    given_order, other_order = SCALAR[name](churned, score), SCALAR[name](churned[order], score[order])

    assert given_order == other_order or given_order == pytest.approx(other_order, abs=1e-12)


@given(rows=weighted_rows())
@settings(deadline=None, max_examples=40)
def test_perfect_and_reversed_rankings_are_the_ends_of_auc(rows):
    churned = np.concatenate([rows[0], [0, 1]])

    assert metrics.roc_auc(churned, churned) == 1.0
    assert metrics.roc_auc(churned, -churned) == 0.0
    assert metrics.average_precision(churned, churned) == 1.0


def test_lift_of_tied_accounts_is_the_mean_over_their_orders():
    churned = [1, 1, 0, 1, 0, 0, 0, 0, 0, 0]
    score = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.3, 0.2, 0.1, 0.1, 0.1])
    tied = [1, 2, 3, 4]
    of_orders = []
    for order in permutations([0.51, 0.52, 0.53, 0.54]):
        broken = score.copy()
        broken[tied] = order
        of_orders.append(metrics.lift_at(churned, broken, share=0.3))

    assert metrics.lift_at(churned, score, share=0.3) == pytest.approx(np.mean(of_orders), abs=1e-12)


@pytest.mark.parametrize(("share", "contacted"), [(0.07, 7), (0.1, 10), (0.101, 11), (0.001, 1), (1.0, 100)])
def test_the_number_contacted_is_rounded_up_to_whole_accounts(share, contacted):
    score = np.arange(100, 0, -1)
    churned = (score > 100 - 3).astype(int)  # the three best places

    assert metrics.lift_at(churned, score, share=share) == pytest.approx(
        min(contacted, 3) / contacted / 0.03, abs=1e-12
    )


@pytest.mark.parametrize("share", [0, -0.1, 1.1, math.nan])
def test_a_share_that_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=r"For the top 10 % write 0\.1"):
        metrics.lift_at([0, 1] * 5, range(10), share=share)


def test_equal_mass_bins_hold_equally_many_different_scores():
    score = np.random.default_rng(0).permutation(np.linspace(0, 1, 150))

    assert np.bincount(metrics.equal_mass_bins(score)).tolist() == [10] * 15


def test_ece_is_the_gap_between_probability_and_rate_where_all_rows_tie():
    churned = [1] * 4 + [0] * 16

    assert metrics.ece(churned, [0.3] * 20) == pytest.approx(0.1)


def test_log_loss_and_brier_have_their_textbook_values():
    churned = np.array([1] * 4 + [0] * 6)

    assert metrics.log_loss(churned, np.full(10, 0.5)) == pytest.approx(math.log(2))
    assert metrics.brier(churned, np.full(10, 0.4)) == pytest.approx(0.24)
    assert metrics.log_loss(churned, 1.0 - churned) > 30


# Where a number would mean nothing


@pytest.mark.parametrize(
    ("churned", "score", "reason"),
    [
        ([0] * 20, np.linspace(0, 1, 20), "all 20 are kept"),
        ([1] * 20, np.linspace(0, 1, 20), "all 20 are lost"),
        ([0, 1] * 4, np.linspace(0, 1, 8), "at least 10 rows; found 8"),
        ([0, 1] * 10, [0.1] * 19 + [math.nan], "1 of 20 lack one"),
        ([0, 1] * 10, [0.1] * 19 + [math.inf], "1 of 20 lack one"),
        ([0.0, 1.0] * 9 + [0.0, math.nan], np.linspace(0, 1, 20), "1 of 20 lack one"),
        ([], [], "at least 10 rows; found 0"),
    ],
)
def test_rows_that_allow_no_metric_give_a_reason_and_no_number(churned, score, reason):
    assert {SCALAR[name](churned, score) for name in METRICS} == {None}
    assert metrics.empb(churned, score, clv=1.0, delta=0.1, contact_cost=1, gamma=0.3) is None
    assert reason in metrics.why_undefined(churned, score)
    assert reason in metrics.why_undefined(churned, score, ranking=False)


def test_a_constant_probability_has_a_loss_but_no_ranking():
    churned, prior = [0, 1, 0, 0] * 5, [0.25] * 20

    assert metrics.roc_auc(churned, prior) is metrics.average_precision(churned, prior) is None
    assert metrics.lift_at(churned, prior) is None
    assert "all 20 rows score 0.25" in metrics.why_undefined(churned, prior)
    assert metrics.brier(churned, prior) == pytest.approx(0.1875)
    assert metrics.why_undefined(churned, prior, ranking=False) is None


def test_scores_that_are_no_probabilities_rank_but_have_no_loss():
    churned, days = [0, 1, 0, 0] * 5, np.arange(20)

    assert metrics.roc_auc(churned, days) is not None
    assert {SCALAR[name](churned, days) for name in ("log_loss", "brier", "ece")} == {None}
    assert "found 0 to 19" in metrics.why_undefined(churned, days, ranking=False)


@pytest.mark.parametrize(
    ("churned", "score", "weight", "message"),
    [
        ([0, 1, 2], [0.1, 0.2, 0.3], None, r"0 and 1 only; found \[2.0\]"),
        ([0, 1], [0.1, 0.2, 0.3], None, "of one length"),
        ([0, 1], [0.1, 0.2], [1, -1], "not negative"),
        ([0, 1], [0.1, 0.2], [1, math.nan], "must be finite"),
    ],
)
def test_malformed_rows_are_refused(churned, score, weight, message):
    with pytest.raises(ValueError, match=message):
        metrics.brier(churned, score, sample_weight=weight)


# The intervals


@pytest.mark.parametrize("name", METRICS)
@given(rows=weighted_rows(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_all_draws_at_once_give_the_metric_of_each_draw(name, rows, seed):
    churned, score, _ = rows
    rng = np.random.default_rng(seed)
    parent = rng.integers(0, 8, churned.size)
    weights = rng.poisson(1.0, (10, 8)).astype(float)
    order = np.argsort(-score, kind="stable")
    at_once = KERNELS[name](
        _Sample(churned[order].astype(float), score[order], parent[order], np.zeros_like(parent)), weights
    )

    one_by_one = [SCALAR[name](churned, score, sample_weight=weight[parent]) for weight in weights]

    for vectorised, scalar in zip(at_once, one_by_one, strict=True):
        # Rules against too few rows, one class and one score hold for the data, not for each draw.
        assert scalar is None or vectorised == pytest.approx(scalar, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_all_draws_at_once_give_the_metric_of_each_draw_on_many_rows(name):
    rng = np.random.default_rng(5)
    score = np.sort(np.round(rng.beta(1, 10, 3000), 3))[::-1]
    churned = (rng.random(3000) < score).astype(float)
    parent = rng.integers(0, 900, 3000)
    weights = rng.poisson(1.0, (50, 900)).astype(float)
    at_once = KERNELS[name](_Sample(churned, score, parent, np.zeros_like(parent)), weights)
    one_by_one = [SCALAR[name](churned, score, sample_weight=weight[parent]) for weight in weights]

    np.testing.assert_allclose(at_once, one_by_one, rtol=0, atol=1e-12)


def test_rankings_are_averaged_over_instants_by_lost_accounts_and_never_pooled():
    rows = panel()
    rows.loc[rows["as_of"] == rows["as_of"].max(), "probability"] *= 0.1
    by_instant = list(rows.groupby("as_of"))
    estimates = evaluate_rows(rows, "probability", draws=20)

    for name in ("auc", "auc_pr", "lift_10"):
        values = [SCALAR[name](at["churned"], at["probability"]) for _, at in by_instant]
        lost = [at["churned"].sum() for _, at in by_instant]
        assert estimates[name].value == pytest.approx(np.average(values, weights=lost), abs=1e-12)
        assert estimates[name].value != pytest.approx(SCALAR[name](rows["churned"], rows["probability"]))
    for name in ("log_loss", "brier", "ece"):
        assert estimates[name].value == pytest.approx(SCALAR[name](rows["churned"], rows["probability"]), abs=1e-12)


def test_an_instant_without_lost_accounts_is_left_out_of_the_ranking():
    rows = panel()
    quiet = rows["as_of"] == rows["as_of"].max()
    rows.loc[quiet, "churned"] = 0

    assert evaluate_rows(rows, "probability", draws=20)["auc"].value == pytest.approx(
        evaluate_rows(rows[~quiet], "probability", draws=20)["auc"].value, abs=1e-12
    )


def test_an_interval_holds_its_value_and_has_the_published_shape():
    estimates = evaluate_rows(panel(), "probability", draws=200)

    assert tuple(estimates) == METRICS
    for name in ("auc", "log_loss", "brier", "lift_10"):
        estimate = estimates[name]
        assert estimate.low < estimate.value < estimate.high
        assert estimate.as_dict() == {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def test_same_seed_same_interval_whatever_the_order_of_rows():
    rows = panel()
    shuffled = rows.sample(frac=1, random_state=3)
    first, second, other = (
        evaluate_rows(table, "probability", draws=50, seed=seed)["auc"]
        for table, seed in ((rows, 1), (shuffled, 1), (rows, 2))
    )

    assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-12)
    assert first.low != other.low


def test_a_missing_score_is_a_reason_even_if_other_instants_are_complete():
    rows = panel()
    rows.loc[0, "probability"] = math.nan
    estimates = evaluate_rows(rows, "probability", draws=20)

    assert {estimate.value for estimate in estimates.values()} == {None}
    assert "1 of 600 lack one" in estimates["auc"].as_dict()["reason"]


def test_a_constant_probability_is_evaluated_without_a_ranking():
    estimates = evaluate_rows(panel().assign(prior=0.15), "prior", draws=20)

    assert estimates["auc"].as_dict().keys() == {"value", "reason"}
    assert estimates["brier"].low < estimates["brier"].value < estimates["brier"].high


def test_no_rows_give_reasons():
    estimates = evaluate_rows(panel().iloc[:0], "probability", draws=20)

    assert {estimate.reason for estimate in estimates.values()} == {"A metric needs at least 10 rows; found 0."}


def test_losses_of_a_single_parent_give_a_value_without_interval():
    rows = panel().assign(churned=0)
    rows.loc[:4, ["churned", "parent_id"]] = [1, "p0"]
    auc = evaluate_rows(rows, "probability", draws=20)["auc"]

    assert auc.value is not None
    assert auc.low is None
    assert auc.high is None
    assert "at least two parents; found 1" in auc.as_dict()["reason"]


def test_an_account_that_is_a_parent_is_drawn_with_its_children():
    rows = panel(instants=1, accounts=40, parents=1)
    by_name = rows.assign(parent_id=["a0"] * 20 + [None] * 20)
    spelled_out = rows.assign(parent_id=["a0"] * 20 + list(rows["account_id"][20:]))

    assert evaluate_rows(by_name, "probability", draws=50) == evaluate_rows(spelled_out, "probability", draws=50)


@pytest.mark.parametrize("metric", METRICS)
def test_a_column_does_not_differ_from_itself(metric):
    assert paired_difference(panel(), "probability", "probability", metric, draws=20) == Estimate(0, 0, 0)


def test_the_paired_interval_is_the_difference_of_the_same_draws():
    rows = panel()
    better = paired_difference(rows, "probability", "noise", "auc", draws=300)
    model, noise = (evaluate_rows(rows, column, draws=300)["auc"] for column in ("probability", "noise"))

    assert better.value == pytest.approx(model.value - noise.value, abs=1e-12)
    assert 0 < better.low < better.value < better.high
    worse = paired_difference(rows, "noise", "probability", "auc", draws=300)
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low), abs=1e-12)


def test_columns_are_compared_only_where_both_can_be_ranked():
    rows = panel()
    flat = rows["as_of"] == rows["as_of"].min()
    rows.loc[flat, "noise"] = 0.5
    difference = paired_difference(rows, "probability", "noise", "auc", draws=20)

    assert difference.value == pytest.approx(
        paired_difference(rows[~flat], "probability", "noise", "auc", draws=20).value, abs=1e-12
    )


def test_a_difference_to_a_constant_has_a_reason():
    difference = paired_difference(panel().assign(prior=0.15), "probability", "prior", "auc", draws=20)

    assert difference.value is None
    assert "rows score 0.15" in difference.reason


def test_a_metric_of_unknown_name_is_refused():
    with pytest.raises(ValueError, match="metric must be one of"):
        paired_difference(panel(), "probability", "noise", "accuracy")


def families_that_leave_together(seed, *, families=60, size=4, distance=1.0):
    """One instant; accounts of a parent share fate and most of their score; the true AUC is known."""
    rng = np.random.default_rng(seed)
    churned = np.repeat(rng.random(families) < 0.3, size)
    shared = np.repeat(rng.normal(size=families), size)
    score = distance * churned + math.sqrt(0.9) * shared + math.sqrt(0.1) * rng.normal(size=churned.size)
    return pd.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(churned.size)],
            "parent_id": np.repeat([f"p{i}" for i in range(families)], size),
            "as_of": pd.Timestamp(2024, 1, 1),
            "churned": churned.astype(int),
            "probability": norm.cdf(score),
        }
    )


def test_intervals_over_parents_cover_the_truth_where_intervals_over_accounts_do_not():
    truth = norm.cdf(1 / math.sqrt(2))
    covered = {"parents": 0, "accounts": 0}
    for seed in range(150):
        rows = families_that_leave_together(seed)
        for unit, table in (("parents", rows), ("accounts", rows.assign(parent_id=None))):
            auc = evaluate_rows(table, "probability", draws=200, seed=seed)["auc"]
            covered[unit] += auc.low <= truth <= auc.high

    assert covered["parents"] / 150 > 0.88
    assert covered["accounts"] / 150 < 0.8


def test_intervals_of_log_loss_and_lift_cover_the_truth():
    world = panel(instants=1, accounts=100_000, seed=99)
    truth = {name: SCALAR[name](world["churned"], world["probability"]) for name in ("log_loss", "lift_10")}
    covered = dict.fromkeys(truth, 0)
    for seed in range(100):
        estimates = evaluate_rows(panel(instants=1, accounts=300, seed=seed), "probability", draws=200)
        for name, true in truth.items():
            covered[name] += estimates[name].low <= true <= estimates[name].high

    assert all(count / 100 >= 0.86 for count in covered.values()), covered


def test_perfect_probabilities_exceed_the_noise_floor_in_one_world_of_twenty():
    rng = np.random.default_rng(0)
    probability = rng.beta(1, 9, 600)
    floor = ece_noise_floor(probability, draws=1000, seed=1)
    worlds = [metrics.ece(rng.random(600) < probability, probability) for _ in range(600)]

    assert 0.03 < np.mean(np.array(worlds) > floor) < 0.07
    assert metrics.ece(rng.random(600) < probability, np.minimum(2 * probability, 1)) > floor


def test_the_noise_floor_falls_with_more_accounts():
    probability = np.random.default_rng(0).beta(1, 9, 6000)

    assert ece_noise_floor(probability, draws=200) < ece_noise_floor(probability[:300], draws=200)


@pytest.mark.parametrize("probability", [[], [0.1, 1.1], [0.1, math.nan]])
def test_a_noise_floor_of_no_probabilities_is_refused(probability):
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        ece_noise_floor(probability)
