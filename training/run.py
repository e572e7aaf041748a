"""`tenure train`: the training run, registered, and what it says to its reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from features.settings import Settings
from features.tables import Tables
from training.tracking import Registered, log_and_register
from training.train import Progress, Trained, figures_table, train


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A registered version and the figures it was judged by."""

    trained: Trained
    registered: Registered

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        judged = self.trained.evaluation.as_dict()
        return {
            "version": self.registered.version,
            "alias": self.registered.alias,
            "run_id": self.registered.run_id,
            "artefact": self.registered.artefact,
            **judged,
        }

    def text(self) -> str:
        """The figures beside the baselines, and the version."""
        evaluation = self.trained.evaluation
        first, last = evaluation.instants[0], evaluation.instants[-1]
        verdict = [f"Warning: {warning}." for warning in evaluation.warnings]
        return "\n".join(
            [
                f"Judged at {len(evaluation.instants)} later instants, {first:%Y-%m-%d} to {last:%Y-%m-%d}, each time "
                "knowing only what was known then; 95 % intervals over accounts:",
                *figures_table(evaluation),
                *verdict,
                f"Version {self.registered.version} is the {self.registered.alias}.",
            ]
        )


def train_and_register(
    tables: Tables, settings: Settings, options: Mapping[str, int | None], *, now: datetime, progress: Progress
) -> TrainingRun:
    """Train with `[train]` of tenure.toml, changed by the `options` that are given, and register the version."""
    given = {name: value for name, value in options.items() if value is not None}
    chosen = replace(settings, train=replace(settings.train, **given))
    trained = train(tables, chosen, now=now, progress=progress)
    progress("logging the run and registering the version in MLflow")
    return TrainingRun(trained=trained, registered=log_and_register(trained, chosen))
