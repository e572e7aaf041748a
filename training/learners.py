"""What can learn: boosted trees, or any classifier of scikit-learn; both give raw log-odds to be calibrated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from training.model import fit_booster

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
RawScores = Callable[[Floats], Floats]
"""From rows of shape (n, n_features) to raw log-odds of shape (n,)."""

MAX_ROUNDS = 600
MIN_ROUNDS = 10
PARTS = 4

PARAMETERS: Mapping[str, Any] = {
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
"""Of the boosted trees. No class weights: they would double the mean probability."""
FORBIDDEN = ("scale_pos_weight", "is_unbalance", "class_weight")
"""Parameters that make probabilities mean something else than a share."""


@dataclass(frozen=True)
class HeldOut:
    """What was said of rows whose groups were not learned from."""

    scores: Floats
    """Raw log-odds of each row."""
    rounds: int
    """Number of trees at which log loss on held-out groups stopped to fall, the median over the parts."""


@dataclass(frozen=True)
class Learned:
    """A fitted model."""

    raw_scores: RawScores
    booster: Any = None
    """The LightGBM booster, where it is one: nothing else can be written to an artefact."""


class Learner(Protocol):
    """A way to learn."""

    @property
    def recipe(self) -> dict[str, Any]:
        """What it is, in plain values: two learners of one recipe learn alike."""

    def held_out(self, rows: Floats, churned: Labels, groups: npt.NDArray[Any], *, seed: int) -> HeldOut | None:
        """Each row scored without its group; None where a class has fewer than two groups."""

    def learn(self, rows: Floats, churned: Labels, names: tuple[str, ...], *, seed: int, rounds: int) -> Learned:
        """A model of all rows."""


@dataclass(frozen=True)
class Trees:
    """LightGBM with early stopping on held-out groups."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What differs from `PARAMETERS`."""

    @property
    def recipe(self) -> dict[str, Any]:
        """The kind and all parameters but the seed."""
        chosen = self._chosen(0)
        del chosen["seed"]
        return {"kind": "trees", "parameters": chosen}

    def held_out(self, rows: Floats, churned: Labels, groups: npt.NDArray[Any], *, seed: int) -> HeldOut | None:
        """Each row scored by trees that saw no row of its group."""
        names = tuple(f"f{number}" for number in range(rows.shape[1]))
        scores, rounds = np.zeros(len(churned)), []
        for learned, held in _parts(churned, groups, seed=seed):
            booster = fit_booster(
                rows[learned],
                churned[learned],
                names,
                parameters=self._chosen(seed),
                rounds=MAX_ROUNDS,
                stop_on=(rows[held], churned[held]),
            )
            best = max(booster.best_iteration, MIN_ROUNDS)
            scores[held] = booster.predict(rows[held], raw_score=True, num_iteration=best, num_threads=1)
            rounds.append(best)
        return HeldOut(scores, int(median(rounds))) if rounds else None

    def learn(self, rows: Floats, churned: Labels, names: tuple[str, ...], *, seed: int, rounds: int) -> Learned:
        """`rounds` trees on all rows."""
        booster = fit_booster(rows, churned, names, parameters=self._chosen(seed), rounds=rounds)
        return Learned(lambda other: np.asarray(booster.predict(other, raw_score=True, num_threads=1)), booster)

    def _chosen(self, seed: int) -> dict[str, Any]:
        if barred := sorted(set(FORBIDDEN) & set(self.parameters)):
            raise ValueError(f"parameters must leave the classes as they are; found {barred}. Leave them out.")
        return {**PARAMETERS, **self.parameters, "seed": seed}


@dataclass(frozen=True)
class Estimator:
    """Any classifier of scikit-learn with `predict_proba`; it must cope with missing values."""

    estimator: Any

    @property
    def recipe(self) -> dict[str, Any]:
        """The kind and how the estimator shows itself."""
        return {"kind": "estimator", "estimator": repr(self.estimator)}

    def held_out(self, rows: Floats, churned: Labels, groups: npt.NDArray[Any], *, seed: int) -> HeldOut | None:
        """Each row scored by a clone that saw no row of its group."""
        scores = np.full(len(churned), np.nan)
        for learned, held in _parts(churned, groups, seed=seed):
            scores[held] = _log_odds(self._fitted(rows[learned], churned[learned]), rows[held])
        return None if np.isnan(scores).any() else HeldOut(scores, 0)

    def learn(self, rows: Floats, churned: Labels, names: tuple[str, ...], *, seed: int, rounds: int) -> Learned:
        """A clone fitted on all rows."""
        fitted = self._fitted(rows, churned)
        return Learned(lambda other: _log_odds(fitted, other), getattr(fitted, "booster_", None))

    def _fitted(self, rows: Floats, churned: Labels) -> Any:
        return clone(self.estimator).fit(rows, churned)


def _log_odds(fitted: Any, rows: Floats) -> Floats:
    chance = np.clip(fitted.predict_proba(rows)[:, 1], 1e-6, 1 - 1e-6)
    return np.asarray(np.log(chance / (1 - chance)))


def _parts(churned: Labels, groups: npt.NDArray[Any], *, seed: int) -> Any:
    """Rows to learn from and rows held out, each group whole; none where a class has fewer than two groups."""
    parts = min(PARTS, *(np.unique(groups[churned == label]).size for label in (0, 1)))
    if parts < 2:
        return iter(())
    return StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(churned, churned, groups)
