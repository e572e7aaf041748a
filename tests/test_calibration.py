"""What scores are worth decides the calibrator: useless ones give the base rate, overconfident ones are calmed."""

from __future__ import annotations

import numpy as np
import pytest

from training.calibration import fit_calibrator


@pytest.mark.parametrize("scores", ["backwards", "noise", "constant"])
def test_useless_scores_keep_their_order_and_give_the_base_rate(scores):
    draw = np.random.default_rng(2)
    churned = (draw.random(2000) < 0.05).astype(np.int8)
    noise = draw.normal(size=2000)
    raw = {"backwards": noise - 3.0 * churned, "noise": noise, "constant": np.full(2000, -3.0)}[scores]
    probability = fit_calibrator(raw, churned).probability(raw)
    order = np.argsort(raw)

    assert (np.diff(probability[order]) >= 0).all()
    assert (np.diff(probability[order]) > 0).any() == (scores != "constant")
    assert probability.mean() == pytest.approx(churned.mean(), abs=1e-4)


def test_overconfident_scores_are_calmed():
    draw = np.random.default_rng(3)
    log_odds = draw.normal(-3, 1, 20_000)
    churned = (draw.random(20_000) < 1 / (1 + np.exp(-log_odds))).astype(np.int8)
    calibrator = fit_calibrator(3 * log_odds + 1, churned)

    assert calibrator.slope == pytest.approx(1 / 3, rel=0.1)
    assert calibrator.probability(3 * log_odds + 1).mean() == pytest.approx(churned.mean(), abs=1e-4)
