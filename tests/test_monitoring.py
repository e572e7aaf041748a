"""Monitoring: shifts that chance does not make are named, stable months raise nothing, promotion asks about them."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from training.calibration_line import calibration_line
from training.monitoring import calibration_of, drifts_by_nature, gains, input_shifts, keep, monitor, psi
from training.promotion import _drift

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
STABLE_RUNS, SHIFTED_RUNS = (100, 20) if FULL else (20, 8)
RIGHT_WORLDS, WRONG_WORLDS = (200, 50) if FULL else (60, 12)
ACCOUNTS = 5000
GAIN = {"active_days_28d": 9.0, "open_tickets": 5.0, "nps_last_score": 2.0, "tenure_days": 1.0}


def snapshot(rng, accounts=ACCOUNTS):
    """Features of a month in which nothing is special: counts, a skewed sum, a score that half never gave."""
    answered = rng.random(accounts) < 0.5
    return pd.DataFrame(
        {
            "active_days_28d": rng.integers(0, 29, accounts).astype(float),
            "open_tickets": rng.poisson(0.7, accounts).astype(float),
            "nps_last_score": np.where(answered, rng.integers(0, 11, accounts), np.nan),
            "tenure_days": rng.lognormal(6, 1, accounts),
        }
    )


def test_the_index_is_that_of_the_reference_vector():
    state, numbers = 7, []
    for _ in range(8000):
        state = (1103515245 * state + 12345) % 2**31
        numbers.append(state / 2**31)
    then, now = np.array(numbers[:1000]), np.clip(np.array(numbers[1000:2000]) ** 1.2, 0, 1)
    found, bins = psi(then, now)
    assert bins == 10
    assert found == pytest.approx(0.030135, abs=1e-6)


def test_stable_months_raise_no_alarm():
    alarms = 0
    for seed in range(STABLE_RUNS):
        rng = np.random.default_rng(seed)
        alarms += any(shift.is_alarm for shift in input_shifts(snapshot(rng), snapshot(rng), GAIN))
    assert alarms <= STABLE_RUNS / 100


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("active_days_28d", lambda values: values * 0.6),
        ("nps_last_score", lambda values: np.where(np.arange(len(values)) % 2, values, np.nan)),
        ("open_tickets", lambda values: values + (np.arange(len(values)) % 3 == 0) * 2),
    ],
    ids=["a counter that lost two fifths", "a survey that half stopped answering", "a queue that grew"],
)
def test_a_planted_shift_is_named_every_time(feature, change):
    for seed in range(SHIFTED_RUNS):
        rng = np.random.default_rng(1000 + seed)
        then, now = snapshot(rng), snapshot(rng)
        now[feature] = change(now[feature].to_numpy())
        assert [shift.name for shift in input_shifts(then, now, GAIN) if shift.is_alarm] == [feature]


def test_what_moves_by_nature_is_shown_and_raises_nothing():
    rng = np.random.default_rng(1)
    then, now = snapshot(rng), snapshot(rng)
    now["tenure_days"] += 2000
    found = {shift.name: shift for shift in input_shifts(then, now, GAIN)}
    assert found["tenure_days"].psi > found["tenure_days"].limit
    assert not found["tenure_days"].is_alarm
    assert drifts_by_nature("days_to_renewal")


def test_few_accounts_raise_the_limit():
    rng = np.random.default_rng(2)
    found = input_shifts(snapshot(rng, 150), snapshot(rng, 150), GAIN)
    at_150 = next(shift.limit for shift in found if shift.name == "active_days_28d")
    assert at_150 == pytest.approx(chi2.ppf(0.999, 9) * (1 / 150 + 1 / 150), rel=1e-6)


def fates(seed, *, shift=0.0, slope=1.0, accounts=4000, instants=1):
    """Rows whose true log-odds are `shift + slope · said`, an account's fate the same at every instant."""
    rng = np.random.default_rng(seed)
    said = np.repeat(rng.normal(-2.4, 1.0, accounts), instants)
    truth = 1 / (1 + np.exp(-(shift + slope * said)))
    rows = pd.DataFrame(
        {"account_id": np.repeat([f"a{i}" for i in range(accounts)], instants), "parent_id": None}
    )  # fmt: skip
    rows["churned"] = (np.repeat(rng.random(accounts), instants) < truth).astype(int)
    return rows, 1 / (1 + np.exp(-said))


@pytest.mark.parametrize("instants", [1, 3])
def test_right_probabilities_are_warned_of_in_few_worlds(instants):
    warned = sum(
        calibration_of(*fates(seed, instants=instants), draws=400).verdict == "off" for seed in range(RIGHT_WORLDS)
    )
    assert warned <= max(3, 0.05 * RIGHT_WORLDS)


@pytest.mark.parametrize("wrong", [{"shift": 0.4}, {"slope": 0.6}], ids=["too low", "too bold"])
def test_wrong_probabilities_are_caught(wrong):
    caught = sum(calibration_of(*fates(seed, **wrong), draws=400).verdict == "off" for seed in range(WRONG_WORLDS))
    assert caught >= 0.96 * WRONG_WORLDS


def test_few_outcomes_give_no_verdict():
    found = calibration_of(*fates(1, accounts=500))
    assert found.verdict == "not judged"
    assert "2,000" in found.said


def test_a_line_that_rows_do_not_determine_is_none():
    assert calibration_line(np.array([0.0, 1.0, 0.0]), np.full(3, 0.2)) is None


def test_monitoring_a_model_tells_shifts_scores_and_calibration(trained, generated, tmp_path):
    found = monitor(trained.dataset, trained.model, version="1")
    assert {shift.name for shift in found.shifts} == set(trained.model.features)
    assert found.reference < found.current
    assert found.calibration.verdict in {"holds", "off", "not judged"}
    assert found.score.name in found.text()
    kept = json.loads(keep(found, replace(generated[0], state_dir=tmp_path)).read_text())
    assert kept["warnings"] == found.warnings


def test_promotion_asks_about_inputs_that_moved(trained):
    leaned_on = {name: gain for name, gain in gains(trained.model).items() if not drifts_by_nature(name)}
    top = max(leaned_on, key=leaned_on.get)
    rows = trained.dataset.rows.copy()
    latest = rows.as_of == rows.as_of.max()
    rows.loc[latest, top] = rows.loc[latest, top].fillna(0) * 5 + 100
    moved = replace(trained.dataset, rows=rows)
    refused, taken = (_drift(moved, trained.model, despite=despite) for despite in (False, True))

    assert refused.verdict == "failed"
    assert top in refused.said
    assert "--despite-drift" in refused.said
    assert (taken.verdict, "despite" in taken.said) == ("watch", True)
