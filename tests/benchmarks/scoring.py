"""Scoring: calibrated probabilities of 200,000 accounts, beside the bare booster and MLflow's own flavour."""

from __future__ import annotations

import tempfile
from pathlib import Path

import lightgbm
import mlflow
import numpy as np
import pandas as pd

from tests.benchmarks.table import at_most, figure, median_seconds, report
from training.calibration import Calibrator
from training.learners import Trees
from training.model import ChurnModel

ROWS, FEATURES, TREES = 200_000, 120, 300


def benchmark(folder: Path) -> bool:
    """All three score the same matrix; ours takes columns by name and calibrates as well."""
    rng = np.random.default_rng(0)
    names = tuple(f"feature_{number}" for number in range(FEATURES))
    matrix = rng.normal(size=(ROWS, FEATURES))
    churned = (rng.random(ROWS) < 1 / (1 + np.exp(3 - matrix[:, :5].sum(axis=1)))).astype(np.int8)
    learned = Trees().learn(matrix[:20_000], churned[:20_000], names, seed=7, rounds=TREES)
    rows = pd.DataFrame(matrix, columns=list(names))
    model = ChurnModel(
        booster=learned.booster, features=names, calibrator=Calibrator(), base_rate=0.1, no_signal=False,
        horizon_days=90, catalogue="", typical={}, golden=rows.head(0),
    )  # fmt: skip
    bare = median_seconds(lambda: learned.booster.predict(matrix, num_threads=1))
    ours = median_seconds(lambda: model.probabilities(rows))
    assert np.allclose(model.probabilities(rows), learned.booster.predict(matrix, num_threads=1), atol=1e-9)
    stock = _pyfunc_seconds(rows.head(20_000), matrix[:20_000], churned[:20_000]) * ROWS / 20_000
    return report("scoring", [
        figure(f"{ROWS:,} accounts: bare booster, one thread", bare, "s"),
        figure("calibrated probabilities", ours, "s"),
        at_most("calibrated probabilities / bare booster", ours / bare, 1.15),
        figure("MLflow pyfunc of an LGBMClassifier (its own threads)", stock, "s"),
    ])  # fmt: skip


def _pyfunc_seconds(rows: pd.DataFrame, matrix: np.ndarray, churned: np.ndarray) -> float:
    stock = lightgbm.LGBMClassifier(n_estimators=TREES, num_leaves=15, verbosity=-1, n_jobs=1).fit(matrix, churned)
    with tempfile.TemporaryDirectory() as place:
        path = str(Path(place) / "model")
        mlflow.lightgbm.save_model(stock, path, pip_requirements=["lightgbm"])
        loaded = mlflow.pyfunc.load_model(path)
        return median_seconds(lambda: loaded.predict(rows), repeats=3)
