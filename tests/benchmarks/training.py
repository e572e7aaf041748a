"""Training: fit, calibrate, judge and save on 300,000 rows with fixed parameters, beside the bare booster."""

from __future__ import annotations

import tempfile
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd

from tests.benchmarks.table import at_most, figure, median_seconds, report
from training.fit import fit
from training.intervals import evaluate_rows
from training.learners import PARAMETERS
from training.model import ChurnModel, golden_rows, save_model

ROWS, FEATURES, TREES = 300_000, 120, 100


def benchmark(folder: Path) -> bool:
    """The number of trees is fixed and the calibrator learns from earlier predictions, as in a scheduled refresh."""
    rng = np.random.default_rng(0)
    names = tuple(f"feature_{number}" for number in range(FEATURES))
    matrix = rng.normal(size=(ROWS, FEATURES))
    churned = (rng.random(ROWS) < 1 / (1 + np.exp(3 - matrix[:, :5].sum(axis=1)))).astype(np.int8)
    rows = pd.DataFrame(matrix, columns=list(names)).assign(
        account_id=(np.arange(ROWS) // 15).astype(str), parent_id=None, churned=churned, as_of=np.arange(ROWS) % 15
    )
    earlier = rows.head(20_000)[["account_id", "parent_id", "as_of", "churned"]].assign(raw_score=matrix[:20_000, 0])

    def bare() -> None:
        data = lightgbm.Dataset(matrix, churned, feature_name=list(names))
        lightgbm.train(dict(PARAMETERS) | {"seed": 7}, data, num_boost_round=TREES)

    def ours() -> None:
        fitted = fit(rows, names, seed=7, earlier=earlier, rounds=TREES)
        judged = earlier.assign(probability=fitted.calibrator.probability(earlier.raw_score.to_numpy()))
        evaluate_rows(judged, "probability", draws=200)
        model = ChurnModel(
            booster=fitted.learned.booster, features=names, calibrator=fitted.calibrator, base_rate=0.1,
            no_signal=False, horizon_days=90, catalogue="", typical={},
            golden=golden_rows(rows.head(4000), fitted.learned.booster, names),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as place:
            save_model(model, Path(place) / "artefact", b"key")

    alone, whole = (median_seconds(run, repeats=3) for run in (bare, ours))
    return report("training", [
        figure(f"{ROWS:,} rows × {FEATURES}: bare booster, {TREES} trees", alone, "s"),
        figure("fit, calibrate, judge, save", whole, "s"),
        at_most("fit, calibrate, judge, save / bare booster", whole / alone, 1.15),
    ])  # fmt: skip
