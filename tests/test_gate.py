"""The promotion gate: planted worse, equal, better, miscalibrated and one-sided challengers get what they deserve."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from features.model_settings import PolicySettings
from training.gate import decide

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
SEEDS = 100 if FULL else 3
POLICY = PolicySettings(capacity=0.1, contact_cost=50.0)


def logistic(odds):
    return 1 / (1 + np.exp(-odds))


def world(seed=0, accounts=2500, instants=4):
    """Rows of accounts whose true log-odds are known; the champion sees them through noise."""
    rng = np.random.default_rng(seed)
    size = accounts * instants
    truth = np.repeat(rng.normal(-2.6, 1.2, accounts), instants) + rng.normal(0, 0.3, size)
    return rng, pd.DataFrame(
        {
            "account_id": np.repeat([f"a{number}" for number in range(accounts)], instants),
            "parent_id": None,
            "segment": np.repeat(rng.choice(["small", "mid", "large"], accounts, p=[0.5, 0.3, 0.2]), instants),
            "as_of": np.tile(pd.date_range("2024-01-01", periods=instants, freq="QS"), accounts),
            "mrr": np.repeat(rng.lognormal(6, 0.5, accounts), instants),
            "truth": truth,
            "churned": (rng.random(size) < logistic(truth)).astype(int),
        }
    )


def seen(rows, rng, noise):
    """Calibrated probabilities of a model that sees the truth through normal noise of this size."""
    spread = rows.truth.var()
    kept = spread / (spread + noise**2)
    guess = rows.truth.mean() + kept * (rows.truth + rng.normal(0, noise, len(rows)) - rows.truth.mean())
    left = np.sqrt(spread * (1 - kept))
    # The mean of the logistic over what the noise hides.
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    return (logistic(guess.to_numpy()[:, np.newaxis] + left * nodes) * weights).sum(axis=1) / weights.sum()


def candidates(seed):
    rng, rows = world(seed)
    rows["champion"] = seen(rows, rng, 1.0)
    better = seen(rows, rng, 0.4)
    one_sided = np.where(
        rows.segment == "large", seen(rows, rng, 0.4).mean() * rng.uniform(0.2, 0.5, len(rows)), better
    )
    return rows, {
        "worse": seen(rows, rng, 3.0),
        "equal": seen(rows, rng, 1.0),
        "better": better,
        "miscalibrated": logistic(np.log(better / (1 - better)) * 1.25 + 0.35),
        "one_sided": one_sided,
    }


def outcome(rows, challenger, **options):
    return decide(rows.assign(challenger=challenger), POLICY, draws=400, is_refresh=False, **options)


def test_planted_challengers_get_what_they_deserve():
    rows, offered = candidates(3)
    found = {name: outcome(rows, challenger) for name, challenger in offered.items()}

    assert {name: decision.outcome for name, decision in found.items()} == {
        "worse": "reject", "equal": "keep", "better": "promote", "miscalibrated": "reject", "one_sided": "reject",
    }  # fmt: skip
    assert found["worse"].reason.startswith("log loss: challenger less champion +")
    assert found["miscalibrated"].reason.startswith("calibration: ECE ")
    assert "segment: large: MRR recall -" in found["one_sided"].reason


def test_an_equal_challenger_is_kept_and_a_clearly_better_one_promoted_nearly_always():
    kept = promoted = 0
    for seed in range(1, SEEDS + 1):
        rows, offered = candidates(seed)
        kept += outcome(rows, offered["equal"]).outcome == "keep"
        promoted += outcome(rows, offered["better"]).outcome == "promote"

    assert kept >= 0.9 * SEEDS
    assert promoted >= 0.9 * SEEDS


def test_a_leak_rejects_whatever_the_figures():
    rows, offered = candidates(3)

    found = outcome(rows, offered["better"], faults=["status: alone it tells the lost from the kept"])

    assert found.outcome == "reject"
    assert "status" in found.reason


def test_shuffled_scores_are_rejected():
    rows, offered = candidates(3)
    shuffled = np.random.default_rng(0).permutation(offered["better"])

    assert outcome(rows, shuffled).outcome == "reject"


def test_the_same_recipe_on_newer_data_is_taken_unless_it_is_worse():
    rows, offered = candidates(3)
    found = {
        name: decide(rows.assign(challenger=offered[name]), POLICY, draws=400, is_refresh=True).outcome
        for name in ("worse", "equal", "better")
    }

    assert found == {"worse": "reject", "equal": "promote", "better": "promote"}


def test_the_order_of_rows_changes_nothing():
    rows, offered = candidates(3)
    rows = rows.assign(challenger=offered["equal"])
    mixed = rows.sample(frac=1, random_state=1)

    first, second = (decide(each, POLICY, draws=200, is_refresh=False) for each in (rows, mixed))

    assert [check.said for check in first.checks] == [check.said for check in second.checks]
