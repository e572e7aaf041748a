"""The recipe: how a model is fitted on rows whose labels are known.

Boosted trees without class weights, their number chosen on accounts held out, then all rows once more. The calibrator
learns from scores of rows the trees did not see: earlier predictions that came true or not, where they hold enough
losses, else the held-out accounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from training.calibration import Calibrator, fit_calibrator
from training.model import fit_booster

MAX_ROUNDS = 600
MIN_ROUNDS = 10
PARTS = 4
MIN_LOST_TO_CALIBRATE = 50
"""Lost accounts among earlier predictions from which the calibrator learns from them."""

PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "max_bin": 127,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
}


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A booster and its calibrator."""

    booster: Any
    """A LightGBM booster."""
    calibrator: Calibrator
    rounds: int
    calibrated_on: str

    def raw_scores(self, rows: pd.DataFrame, features: tuple[str, ...]) -> npt.NDArray[np.float64]:
        """Raw log-odds of shape (n,)."""
        matrix = rows.loc[:, list(features)].to_numpy(dtype=np.float64)
        return np.asarray(self.booster.predict(matrix, raw_score=True, num_threads=1))


def fit(
    rows: pd.DataFrame,
    features: tuple[str, ...],
    *,
    seed: int,
    earlier: pd.DataFrame | None = None,
    rounds: int | None = None,
) -> Fitted:
    """Fit on rows with final labels.

    Parameters
    ----------
    rows : with account_id, parent_id, churned and the features
    earlier : with account_id, raw_score and churned
        Out-of-time predictions whose labels are final by now.
    rounds : number of trees; chosen on held-out accounts where None
    """
    matrix = rows.loc[:, list(features)].to_numpy(dtype=np.float64)
    churned = rows.churned.to_numpy(dtype=np.int8)
    parameters = PARAMETERS | {"seed": seed}
    came_true = earlier is not None and _lost(earlier) >= MIN_LOST_TO_CALIBRATE
    held_out = None
    if rounds is None or not came_true:
        held_out, best = _held_out_scores(matrix, churned, features, _groups(rows), parameters)
        rounds = rounds or best
    booster = fit_booster(matrix, churned, features, parameters=parameters, rounds=rounds)
    if earlier is not None and came_true:
        calibrator = fit_calibrator(earlier.raw_score.to_numpy(), earlier.churned.to_numpy(dtype=np.int8))
    else:
        calibrator = fit_calibrator(np.asarray(held_out), churned)
    told = "earlier predictions" if came_true else "held-out accounts"
    return Fitted(booster=booster, calibrator=calibrator, rounds=rounds, calibrated_on=told)


def _lost(rows: pd.DataFrame) -> int:
    return int(rows.loc[rows.churned == 1, "account_id"].nunique())


def _groups(rows: pd.DataFrame) -> npt.NDArray[np.str_]:
    return np.asarray(rows.parent_id.fillna(rows.account_id).to_numpy(dtype=str))


def _held_out_scores(
    matrix: npt.NDArray[np.float64],
    churned: npt.NDArray[np.int8],
    features: tuple[str, ...],
    groups: npt.NDArray[np.str_],
    parameters: dict[str, Any],
) -> tuple[npt.NDArray[np.float64], int]:
    """Raw scores of each row by trees that saw no row of its account, and the median number of trees."""
    held_out = np.zeros(len(churned))
    rounds = []
    splitter = StratifiedGroupKFold(PARTS, shuffle=True, random_state=int(parameters["seed"]))
    for learn, hold in splitter.split(matrix, churned, groups):
        booster = fit_booster(
            matrix[learn],
            churned[learn],
            features,
            parameters=parameters,
            rounds=MAX_ROUNDS,
            stop_on=(matrix[hold], churned[hold]),
        )
        best = max(booster.best_iteration, MIN_ROUNDS)
        held_out[hold] = booster.predict(matrix[hold], raw_score=True, num_iteration=best, num_threads=1)
        rounds.append(best)
    return held_out, int(median(rounds))
