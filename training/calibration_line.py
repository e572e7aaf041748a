"""Whether probabilities mean what they say: intercept and slope of what happened on the log-odds that were said.

Source: Cox, "Two further applications of a model for binary regression", Biometrika 45 (1958): 0 and 1 where they do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Line:
    """The line through the mean log-odds: intercept 0 where the level is right, slope 1 where the spread is."""

    intercept: float
    slope: float
    covariance: Floats
    """(2, 2), of intercept and slope, robust against rows that share a group (Huber-White)."""

    @property
    def distance(self) -> float:
        """Squared distance from (0, 1) in standard errors: chi-squared with 2 degrees of freedom where both hold."""
        off = np.array([self.intercept, self.slope - 1.0])
        return float(off @ np.linalg.solve(self.covariance, off))

    def interval(self, part: int, quantile: float = 1.96) -> tuple[float, float]:
        """Interval of the intercept (part 0) or the slope (part 1)."""
        middle, width = (self.intercept, self.slope)[part], quantile * float(np.sqrt(self.covariance[part, part]))
        return middle - width, middle + width


def calibration_line(
    lost: Floats, chance: Floats, *, weights: Floats | None = None, groups: npt.NDArray[np.intp] | None = None
) -> Line | None:
    """Fit by Newton's method; None where the rows do not determine a line.

    Parameters
    ----------
    lost, chance : (n_rows,), what happened, 0 or 1, and its probability as said
    weights : (n_rows,); 1 by default
    groups : (n_rows,), numbers from 0 of the groups whose rows share a fate; by default each row stands alone
    """
    weights = np.ones_like(chance) if weights is None else weights
    clipped = np.clip(chance, 1e-6, 1 - 1e-6)
    odds = np.log(clipped / (1 - clipped))
    middle = float(np.average(odds, weights=weights))
    design = np.column_stack([np.ones_like(odds), odds - middle])
    beta = np.array([middle, 1.0])
    for _ in range(25):
        mean = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        scores = design * (weights * (lost - mean))[:, np.newaxis]
        curvature = (design * (weights * mean * (1 - mean))[:, np.newaxis]).T @ design
        if np.linalg.cond(curvature) > 1e12:
            return None
        step = np.linalg.solve(curvature, scores.sum(axis=0))
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            return Line(
                intercept=float(beta[0] - middle), slope=float(beta[1]), covariance=_robust(scores, curvature, groups)
            )
    return None


def _robust(scores: Floats, curvature: Floats, groups: npt.NDArray[np.intp] | None) -> Floats:
    if groups is not None:
        scores = np.column_stack([np.bincount(groups, column) for column in scores.T])
    inverse = np.linalg.inv(curvature)
    return np.asarray(inverse @ (scores.T @ scores) @ inverse)
