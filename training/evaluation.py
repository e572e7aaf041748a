"""Honest figures: at each of several instants a model is fitted on labels known then and judged on what came after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from features.model_settings import PolicySettings, TrainSettings
from training import metrics, views
from training.baselines import BASELINES, SINGLE_FACTS, told_baselines
from training.dataset import Dataset
from training.fit import Fitted, fit
from training.intervals import Estimate, ece_noise_floor, evaluate_rows, paired_difference
from training.learners import Learner, Trees
from training.views import plain

Progress = Callable[[str], None]

CONTRACT_TIMING = ("days_to_renewal", "days_to_notice_deadline", "renewal_stage_days")
"""Features that say when a contract can end; without them a model must know more than the calendar."""
VIEW_DRAWS = 500
"""Bootstrap draws of the figures by part and segment, where there are many."""


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
    views: Mapping[str, Any]
    """The figures from other sides, see `training/views.py`."""

    @property
    def best_fact(self) -> str:
        """The single fact with the highest AUC."""
        return max(
            (name for name in self.baselines if name in SINGLE_FACTS), key=lambda name: _auc(self.baselines[name])
        )

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
            "metrics": plain(self.figures),
            "baselines": {name: plain(figures) for name, figures in self.baselines.items()},
            "log_loss_against_prior": self.against_prior.as_dict(),
            "ece_noise_floor": self.ece_floor,
            "instants": [f"{instant:%Y-%m-%d}" for instant in self.instants],
            "rows": len(self.predictions),
            "lost_accounts": int(self.predictions.loc[self.predictions.churned == 1, "account_id"].nunique()),
            "views": dict(self.views),
            "warnings": self.warnings,
        }


def _auc(figures: Mapping[str, Estimate]) -> float:
    value = figures["auc"].value
    return 0.5 if value is None else value


def rolling_predictions(
    dataset: Dataset,
    instants: Sequence[datetime],
    *,
    seed: int,
    learner: Learner | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, list[int]]:
    """At each instant the recipe fitted on what was known then, applied to every account active then.

    Returns the rows with `probability`, `raw_score`, `is_new` (the account was in no row learned from) and a column
    per baseline, and the number of trees of each fit.
    """
    parts: list[pd.DataFrame] = []
    rounds = []
    for number, instant in enumerate(instants, start=1):
        past, rows = dataset.known_at(instant), dataset.at(instant)
        fitted = fit(past, dataset.features, seed=seed, learner=learner, earlier=_come_true(parts, dataset, instant))
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
    baselines = {name: told(past, rows, features) for name, told in told_baselines(past, features).items()}
    kept = rows[
        ["account_id", "parent_id", "segment", "as_of", "mrr", "state", "churned", "part", "decided_at", "lost_at"]
    ]
    return kept.assign(
        raw_score=raw,
        probability=fitted.calibrator.probability(raw),
        is_new=~rows.account_id.isin(past.account_id),
        **baselines,
    )


def evaluate(
    dataset: Dataset,
    options: TrainSettings,
    *,
    policy: PolicySettings | None = None,
    learner: Learner | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge the recipe at the latest instants that allow it."""
    learner, seed, draws = learner or Trees(), options.seed, options.draws
    instants = dataset.maturity.folds()[-options.folds :]
    predictions, rounds = rolling_predictions(dataset, instants, seed=seed, learner=learner, progress=progress)
    judged = predictions[predictions.state == "labelled"].assign(churned=lambda rows: rows.churned.astype(int))
    trees = sorted(rounds)[len(rounds) // 2]
    if progress is not None:
        progress(f"intervals from {draws} bootstrap draws over accounts")
    names = [name for name in BASELINES if name in judged and judged[name].notna().all()]
    return Evaluation(
        predictions=judged,
        figures=evaluate_rows(judged, "probability", draws=draws, seed=seed),
        baselines={name: evaluate_rows(judged, name, draws=draws, seed=seed) for name in names},
        against_prior=paired_difference(judged, "probability", "prior", "log_loss", draws=draws, seed=seed),
        ece_floor=ece_noise_floor(judged.probability.to_numpy(), seed=seed),
        instants=tuple(instants),
        rounds=trees,
        views=_views(judged, policy or PolicySettings(), draws=min(draws, VIEW_DRAWS), seed=seed)
        | _counterparts(dataset, judged, instants, learner=learner, rounds=trees, seed=seed),
    )


def _views(judged: pd.DataFrame, policy: PolicySettings, *, draws: int, seed: int) -> dict[str, Any]:
    return {
        "parts": views.by_part(judged, draws=draws, seed=seed),
        "new_accounts": views.judged(judged[judged.is_new], draws=draws, seed=seed),
        "segments": views.by_segment(judged, draws=draws, seed=seed),
        "instants": views.by_instant(judged),
        "capacity": views.at_capacity(judged, policy, draws=draws, seed=seed),
        "days_of_notice": views.days_of_notice(judged, policy),
        "money": views.in_money(judged, policy),
    }


def _counterparts(
    dataset: Dataset, judged: pd.DataFrame, instants: Sequence[datetime], *, learner: Learner, rounds: int, seed: int
) -> dict[str, Any]:
    """AUC of what the model is not: one that cannot see contract dates, and one judged on a random split."""
    blind = tuple(name for name in dataset.features if name not in CONTRACT_TIMING)
    parts = []
    for instant in instants:
        past, rows = dataset.known_at(instant), dataset.at(instant)
        rows = rows[rows.state == "labelled"]
        raw = _raw_scores(learner, past, rows, blind, rounds=rounds, seed=seed)
        parts.append(rows[["account_id", "parent_id", "as_of", "churned"]].assign(raw_score=raw))
    found: dict[str, Any] = {}
    if len(blind) < len(dataset.features):
        figures = evaluate_rows(pd.concat(parts), "raw_score", draws=VIEW_DRAWS, seed=seed)
        found["without_contract_timing"] = plain({name: figures[name] for name in ("auc", "auc_pr", "lift_10")})
    found["optimism"] = _optimism(dataset, judged, learner=learner, rounds=rounds, seed=seed)
    return found


def _optimism(
    dataset: Dataset, judged: pd.DataFrame, *, learner: Learner, rounds: int, seed: int
) -> dict[str, float | None]:
    """What a random split of the same rows would have claimed, which learns from the very accounts it judges."""
    rows = dataset.labelled
    held = np.random.default_rng(seed).random(len(rows)) < 0.25
    raw = _raw_scores(learner, rows[~held], rows[held], dataset.features, rounds=rounds, seed=seed)
    in_random = metrics.roc_auc(rows[held].churned.astype(int), raw)
    in_time = metrics.roc_auc(judged.churned, judged.raw_score)
    gap = None if in_random is None or in_time is None else in_random - in_time
    return {"random_split_auc": in_random, "later_in_time_auc": in_time, "optimism": gap}


def _raw_scores(
    learner: Learner, past: pd.DataFrame, rows: pd.DataFrame, names: tuple[str, ...], *, rounds: int, seed: int
) -> np.ndarray:
    matrix, churned = past.loc[:, list(names)].to_numpy(np.float64), past.churned.to_numpy(np.int8)
    learned = learner.learn(matrix, churned, names, seed=seed, rounds=rounds)
    return learned.raw_scores(rows.loc[:, list(names)].to_numpy(np.float64))
