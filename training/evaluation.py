"""Honest figures: at each of several instants a model is fitted on labels known then and judged on what came after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from training.baselines import BASELINES, SINGLE_FACTS
from training.dataset import Dataset
from training.fit import Fitted, fit
from training.intervals import Estimate, ece_noise_floor, evaluate_rows, paired_difference

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of the model and of each baseline on the same later rows."""

    predictions: pd.DataFrame
    """Rows of the test instants with churned, part, `probability`, `raw_score` and a column per baseline."""
    figures: Mapping[str, Estimate]
    baselines: Mapping[str, Mapping[str, Estimate]]
    against_prior: Estimate
    """Log loss of the model less that of the prior; below 0 the model is better."""
    ece_floor: float
    instants: tuple[datetime, ...]
    rounds: int

    @property
    def best_fact(self) -> str:
        """The single fact with the highest AUC."""
        return max(SINGLE_FACTS, key=lambda name: _auc(self.baselines[name]))

    def why_no_signal(self) -> str | None:
        """Why the model says nothing that is worth acting on; None where it does.

        A model has shown skill when its AUC lies above chance, its log loss below the prior's, and its AUC above that
        of the best single fact (the prior, the age of the account, the distance to its renewal).
        """
        auc, fact = self.figures["auc"], _auc(self.baselines[self.best_fact])
        if auc.value is None or auc.low is None:
            return auc.reason or "too few lost accounts to tell"
        if auc.low <= 0.5:
            return f"its AUC of {auc.value:.3f} may be chance (95 % interval from {auc.low:.3f})"
        if self.against_prior.value is None or self.against_prior.value >= 0:
            return "its log loss is not below that of the base rate given to everyone"
        if auc.value <= fact:
            return f"its AUC of {auc.value:.3f} is not above the {fact:.3f} of a single fact, {self.best_fact}"
        return None

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before trusting the figures."""
        why = self.why_no_signal()
        return [] if why is None else [f"no_signal: no better than the prior, for {why}"]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: metrics, baselines, warnings."""
        return {
            "metrics": _plain(self.figures),
            "baselines": {name: _plain(figures) for name, figures in self.baselines.items()},
            "log_loss_against_prior": self.against_prior.as_dict(),
            "ece_noise_floor": self.ece_floor,
            "instants": [f"{instant:%Y-%m-%d}" for instant in self.instants],
            "rows": len(self.predictions),
            "lost_accounts": int(self.predictions.loc[self.predictions.churned == 1, "account_id"].nunique()),
            "warnings": self.warnings,
        }


def _auc(figures: Mapping[str, Estimate]) -> float:
    value = figures["auc"].value
    return 0.5 if value is None else value


def _plain(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.as_dict() for name, estimate in figures.items()}


def rolling_predictions(
    dataset: Dataset, instants: Sequence[datetime], *, seed: int, progress: Progress | None = None
) -> tuple[pd.DataFrame, list[int]]:
    """At each instant the recipe fitted on what was known then, applied to every account active then.

    Returns the rows with `probability`, `raw_score` and a column per baseline, and the number of trees of each fit.
    """
    parts: list[pd.DataFrame] = []
    rounds = []
    for number, instant in enumerate(instants, start=1):
        past, rows = dataset.known_at(instant), dataset.at(instant)
        fitted = fit(past, dataset.features, seed=seed, earlier=_come_true(parts, dataset, instant))
        parts.append(_predicted(fitted, past, rows, dataset.features))
        rounds.append(fitted.rounds)
        if progress is not None:
            progress(f"fold {number} of {len(instants)}: trained on what was known on {instant:%Y-%m-%d}")
    return pd.concat(parts, ignore_index=True), rounds


def _come_true(parts: Sequence[pd.DataFrame], dataset: Dataset, instant: datetime) -> pd.DataFrame | None:
    """Earlier predictions whose labels were final at `instant`, with the labels known then."""
    if not parts:
        return None
    labels = dataset.maturity.known_at(instant)[["account_id", "as_of", "churned"]]
    past = pd.concat(parts, ignore_index=True)[["account_id", "as_of", "raw_score"]]
    return past.merge(labels, on=["account_id", "as_of"])


def _predicted(fitted: Fitted, past: pd.DataFrame, rows: pd.DataFrame, features: tuple[str, ...]) -> pd.DataFrame:
    raw = fitted.raw_scores(rows, features)
    baselines = {name: baseline(past, rows, features) for name, baseline in BASELINES.items()}
    kept = rows[["account_id", "parent_id", "as_of", "mrr", "state", "churned", "part", "decided_at", "lost_at"]]
    return kept.assign(raw_score=raw, probability=fitted.calibrator.probability(raw), **baselines)


def evaluate(dataset: Dataset, *, folds: int, seed: int, draws: int, progress: Progress | None = None) -> Evaluation:
    """Judge the recipe at the latest `folds` instants that allow it."""
    instants = dataset.maturity.folds()[-folds:]
    predictions, rounds = rolling_predictions(dataset, instants, seed=seed, progress=progress)
    judged = predictions[predictions.state == "labelled"].assign(churned=lambda rows: rows.churned.astype(int))
    if progress is not None:
        progress(f"intervals from {draws} bootstrap draws over accounts")
    return Evaluation(
        predictions=judged,
        figures=evaluate_rows(judged, "probability", draws=draws, seed=seed),
        baselines={name: evaluate_rows(judged, name, draws=draws, seed=seed) for name in BASELINES},
        against_prior=paired_difference(judged, "probability", "prior", "log_loss", draws=draws, seed=seed),
        ece_floor=ece_noise_floor(judged.probability.to_numpy(), seed=seed),
        instants=tuple(instants),
        rounds=sorted(rounds)[len(rounds) // 2],
    )
