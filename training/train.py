"""The training run: dataset, honest figures, final fit, artefact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import pandas as pd

from features.catalogue import FEATURES, catalogue_hash, catalogue_rows
from features.certificate import Certificate, certify
from features.settings import Settings
from features.tables import Tables
from training.audit import Audit, audited
from training.card import card
from training.dataset import Dataset, build_dataset
from training.evaluation import Evaluation, evaluate
from training.fit import fit
from training.learners import Learner, Trees
from training.model import ChurnModel, golden_rows

Progress = Callable[[str], None]


class Learned(Protocol):
    """What a model was learned from."""

    @property
    def rows(self) -> pd.DataFrame:
        """With account_id, as_of and the features."""

    @property
    def features(self) -> tuple[str, ...]:
        """Those learned from."""

    @property
    def identity(self) -> str:
        """sha256 of the rows."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run produced; nothing of it is stored yet."""

    model: ChurnModel | None
    """None where an estimator learned that is no boosted trees: an artefact holds no code."""
    card: str
    evaluation: Evaluation
    dataset: Learned
    audit: Audit
    recipe: Mapping[str, Any]
    """How the model learned, in plain values."""

    @property
    def described(self) -> list[dict[str, Any]]:
        """What each feature means, where tenure made it."""
        return [row for row in catalogue_rows() if row["name"] in self.dataset.features]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What every training on the same tables begins with."""

    dataset: Dataset
    planted: Certificate


def prepare(tables: Tables, settings: Settings, *, now: datetime, progress: Progress) -> Prepared:
    """The snapshots, and the certificate that nothing later moves their features.

    Raises
    ------
    TooFewChurns
        There is too little to learn from.
    ConfigurationError
        A feature sees what happened or was learned after its instant.
    """
    dataset = build_dataset(tables, settings, now=now)
    accounts = dataset.rows.account_id.nunique()
    progress(f"{len(dataset.rows):,} rows of {accounts:,} accounts, {len(dataset.features)} features")
    progress("planting rows that no feature may see")
    planted = certify(tables, settings, as_of=dataset.span.instants()[-1])
    planted.refuse_leaks()
    progress(planted.verdict)
    return Prepared(dataset=dataset, planted=planted)


def train(
    tables: Tables, settings: Settings, ready: Prepared, *, learner: Learner | None = None, progress: Progress
) -> Trained:
    """Judge the recipe on later months, look for leaks, then fit it on everything whose label is final."""
    dataset = ready.dataset
    evaluation = evaluate(dataset, settings.train, policy=settings.policy, learner=learner, progress=progress)
    progress("looking for features that know too much")
    audit = audited(dataset, evaluation, ready.planted, tables, settings, learner=learner)
    progress(audit.verdict)
    return finish(dataset, evaluation, audit, settings, learner=learner, progress=progress)


def finish(
    dataset: Dataset,
    evaluation: Evaluation,
    audit: Audit,
    settings: Settings,
    *,
    learner: Learner | None = None,
    progress: Progress,
) -> Trained:
    """Fit the judged recipe on all rows whose label is final."""
    progress("final fit on all mature rows")
    rows = dataset.rows[dataset.rows.state == "labelled"].assign(churned=lambda frame: frame.churned.astype(int))
    fitted = fit(
        rows,
        dataset.features,
        seed=settings.train.seed,
        learner=learner,
        earlier=evaluation.predictions,
        rounds=evaluation.rounds,
    )
    told = card(dataset, evaluation, audit, settings, calibrated_on=fitted.calibrated_on)
    booster = fitted.learned.booster
    recipe = {**(learner or Trees()).recipe, "features": list(dataset.features)}
    model = (
        None
        if booster is None
        else ChurnModel(
            booster=booster,
            features=dataset.features,
            calibrator=fitted.calibrator,
            base_rate=float(rows.churned.mean()),
            no_signal=evaluation.why_no_signal() is not None,
            horizon_days=settings.label.horizon_days,
            catalogue=catalogue_hash(item for item in FEATURES if item.name in dataset.features),
            typical=medians(rows, dataset.features),
            percentiles=percentiles(_newest(rows), dataset.features),
            golden=golden_rows(rows, booster, dataset.features),
            evaluation=evaluation.as_dict()
            | {
                "recipe": recipe,
                "learned_until": f"{rows.as_of.max():%Y-%m-%d}",
            },
            certificate=audit.as_dict(),
            card=told,
        )
    )
    return Trained(model=model, card=told, evaluation=evaluation, dataset=dataset, audit=audit, recipe=recipe)


def medians(rows: pd.DataFrame, features: tuple[str, ...]) -> dict[str, float | None]:
    """The median of each feature, None where it is always missing: what reasons call typical."""
    medians = rows.loc[:, list(features)].median()
    return {str(name): None if pd.isna(value) else float(value) for name, value in medians.items()}


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    """The last row of each account, for what is said of accounts."""
    return rows.sort_values("as_of", kind="stable").drop_duplicates("account_id", keep="last")


def percentiles(rows: pd.DataFrame, features: tuple[str, ...]) -> dict[str, list[float]]:
    """Values of each feature at 0, 1, … 100 % of the rows that know it; none where it is always missing."""
    known = {name: rows[name].dropna().to_numpy(dtype=np.float64) for name in features}
    steps = np.linspace(0, 1, 101)
    found = {name: np.quantile(values, steps, method="inverted_cdf") for name, values in known.items() if values.size}
    return {name: values.tolist() for name, values in found.items()}
