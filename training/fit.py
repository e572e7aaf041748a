"""The recipe: how a model is fitted and calibrated on rows whose labels are known.

The number of trees is chosen on accounts held out, then all rows are learned from once more. The calibrator learns
from scores of rows the model did not see: earlier predictions that came true or not, where they hold enough losses,
else the held-out accounts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from training.calibration import Calibrator, fit_calibrator
from training.learners import Learned, Learner, Trees

MIN_LOST_TO_CALIBRATE = 50
"""Lost accounts among earlier predictions from which the calibrator learns from them."""
ROUNDS = 100
"""Trees where too little is lost to choose their number."""
UNCALIBRATED = "nothing: too few lost accounts"


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model and its calibrator."""

    learned: Learned
    calibrator: Calibrator
    rounds: int
    calibrated_on: str

    def raw_scores(self, rows: pd.DataFrame, features: tuple[str, ...]) -> npt.NDArray[np.float64]:
        """Raw log-odds of shape (n,)."""
        return self.learned.raw_scores(rows.loc[:, list(features)].to_numpy(dtype=np.float64))


def fit(
    rows: pd.DataFrame,
    features: tuple[str, ...],
    *,
    seed: int,
    learner: Learner | None = None,
    earlier: pd.DataFrame | None = None,
    rounds: int | None = None,
) -> Fitted:
    """Fit on rows with final labels.

    Parameters
    ----------
    rows : with account_id, parent_id, churned and the features
    learner : boosted trees where None
    earlier : with account_id, raw_score and churned
        Out-of-time predictions whose labels are final by now.
    rounds : number of trees; chosen on held-out accounts where None
    """
    learner = learner or Trees()
    matrix = rows.loc[:, list(features)].to_numpy(dtype=np.float64)
    churned = rows.churned.to_numpy(dtype=np.int8)
    came_true = earlier is not None and _lost(earlier) >= MIN_LOST_TO_CALIBRATE
    held_out = None
    if rounds is None or not came_true:
        held_out = learner.held_out(matrix, churned, _groups(rows), seed=seed)
        rounds = rounds or (ROUNDS if held_out is None else held_out.rounds)
    learned = learner.learn(matrix, churned, features, seed=seed, rounds=rounds)
    if earlier is not None and came_true:
        calibrator = fit_calibrator(earlier.raw_score.to_numpy(), earlier.churned.to_numpy(dtype=np.int8))
        told = "earlier predictions"
    elif held_out is not None:
        calibrator, told = fit_calibrator(held_out.scores, churned), "held-out accounts"
    else:
        calibrator, told = Calibrator(), UNCALIBRATED
    return Fitted(learned=learned, calibrator=calibrator, rounds=rounds, calibrated_on=told)


def _lost(rows: pd.DataFrame) -> int:
    return int(rows.loc[rows.churned == 1, "account_id"].nunique())


def _groups(rows: pd.DataFrame) -> npt.NDArray[np.str_]:
    return np.asarray(rows.parent_id.fillna(rows.account_id).to_numpy(dtype=str))
