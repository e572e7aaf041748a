"""`tenure train`: the training run, registered, and what it says to its reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from features.settings import Settings
from features.tables import Tables
from training.card import figures_table, told_views
from training.classifier import ChurnClassifier
from training.dataset import build_dataset
from training.evaluation import Evaluation, evaluate
from training.flat import flat_settings, read_table, scored, train_table
from training.learners import Estimator, Learner, Trees
from training.tracking import Registered, load_version, log_and_register
from training.train import Prepared, Progress, Trained, train

REFUSED = (
    "It cannot become champion. Correct the source, or write into [leakage.accept] of tenure.toml why the feature may "
    "stay, and train again."
)


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A registered version and the figures it was judged by."""

    trained: Trained
    registered: Registered

    @property
    def evaluation(self) -> Evaluation:
        """The figures it was judged by."""
        return self.trained.evaluation

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `version` is None where nothing could be registered."""
        return {
            "version": self.registered.version,
            "alias": self.registered.alias,
            "run_id": self.registered.run_id,
            "artefact": self.registered.artefact,
            **self.evaluation.as_dict(),
            "leakage": self.trained.audit.faults,
        }

    def text(self) -> str:
        """The figures beside the baselines, and the version."""
        version, alias, faults = self.registered.version, self.registered.alias, self.trained.audit.faults
        lines = [
            _heading(self.evaluation),
            *figures_table(self.evaluation),
            *told_views(self.evaluation.views),
            *(f"Warning: {warning}." for warning in self.evaluation.warnings),
            *(f"The gate refuses it: {fault}." for fault in faults),
            *([REFUSED] if faults else []),
            f"Version {version} is the {alias}." if version else "Logged, not registered: an artefact holds no code.",
        ]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        """How a notebook shows it."""
        return _markdown(self.text())


def train_and_register(
    tables: Tables,
    settings: Settings,
    options: Mapping[str, int | None],
    ready: Prepared,
    *,
    estimator: Any = None,
    progress: Progress,
) -> TrainingRun:
    """Train with `[train]` of tenure.toml, changed by the `options` that are given, and register the version.

    An `estimator` that is no boosted trees of ours is judged and logged, and not registered.
    """
    given = {name: value for name, value in options.items() if value is not None}
    chosen = replace(settings, train=replace(settings.train, **given))
    trained = train(tables, chosen, ready, learner=learner_of(estimator), progress=progress)
    progress("logging the run in MLflow")
    return TrainingRun(trained=trained, registered=log_and_register(trained, chosen))


def train_on_table(
    path: Path, settings: Settings | None, columns: Mapping[str, str | None], options: Mapping[str, int | None], *,
    progress: Progress,
) -> tuple[TrainingRun, pd.DataFrame]:  # fmt: skip
    """Train on a ready-made table of features, register the version under the table's name, and score every row."""
    given = {name: value for name, value in options.items() if value is not None}
    chosen = flat_settings(path, settings)
    chosen = replace(chosen, train=replace(chosen.train, **given))
    label = str(columns["label"])
    table = read_table(path, id_column=columns["id"], label_column=label, time_column=columns["time"])
    for column in table.left_out:
        progress(f"left out: {column}")
    trained = train_table(table, chosen, progress=progress)
    run = TrainingRun(trained=trained, registered=log_and_register(trained, chosen, name=f"tenure-table-{table.name}"))
    return run, scored(table, trained)


def learner_of(estimator: Any) -> Learner:
    """The way to learn that an estimator stands for."""
    if estimator is None:
        return Trees()
    if isinstance(estimator, ChurnClassifier):
        return estimator.trees()
    return Estimator(estimator)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A registered version's recipe on the data of today."""

    version: str
    evaluation: Evaluation

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"version": self.version, **self.evaluation.as_dict()}

    def text(self) -> str:
        """The figures beside the baselines."""
        return "\n".join(
            [_heading(self.evaluation), *figures_table(self.evaluation), *told_views(self.evaluation.views)]
        )

    def _repr_markdown_(self) -> str:
        """How a notebook shows it."""
        return _markdown(self.text())


def evaluated(tables: Tables, settings: Settings, version: str, *, now: datetime, progress: Progress) -> Judged:
    """Fit the recipe of `version` at every fold that the data of today allow, and judge it there."""
    model = load_version(settings, version)
    dataset = replace(build_dataset(tables, settings, now=now), features=model.features)
    learner = Trees(dict(model.evaluation["recipe"]["parameters"]))
    judged = evaluate(dataset, settings.train, policy=settings.policy, learner=learner, progress=progress)
    return Judged(version=version, evaluation=judged)


def _heading(evaluation: Evaluation) -> str:
    first, last, number = evaluation.instants[0], evaluation.instants[-1], len(evaluation.instants)
    several = f"{number} instants, {first:%Y-%m-%d} to {last:%Y-%m-%d}, each time"
    places = f"{first:%Y-%m-%d}," if number == 1 else several
    return f"Judged later in time, at {places} knowing only what was known then; 95 % intervals over accounts:"


def _markdown(text: str) -> str:
    """Text whose lines with bars are a table, the others each a paragraph."""
    parts = groupby(text.splitlines(), key=lambda line: line.startswith("|"))
    return "\n\n".join(("\n" if is_table else "\n\n").join(lines) for is_table, lines in parts)
