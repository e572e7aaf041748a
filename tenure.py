"""The front door: Python API and command line.

The commands stand with the package they serve; each parses, calls one function and prints. Heavy libraries are imported
inside the function that needs them, so that `tenure --help` answers at once.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from features.command_line import Shown, command, now_utc, say, say_over
from features.commands import COMMANDS as DATA_COMMANDS
from features.settings import Settings, find_config, read_settings
from serving.list_commands import COMMANDS as LIST_COMMANDS
from serving.list_commands import ScoringProject
from serving.service_commands import COMMANDS as SERVICE_COMMANDS
from training.commands import COMMANDS as MODEL_COMMANDS
from training.commands import TrainingProject

if TYPE_CHECKING:
    import pandas as pd

    from features.tables import Tables
    from training.dataset import Dataset
    from training.run import TrainingRun
    from training.train import Prepared

SHOWN_BAD_ROWS = 5


class Project(TrainingProject, ScoringProject):
    """One company: its settings, its clean tables, and what can be done with them.

    It is what the commands ask for, as each package says it.
    """

    def __init__(self, settings: Settings, now: datetime) -> None:
        self.settings = settings
        self.now = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        self.accept_changes = False
        self.rebuild = False

    @functools.cached_property
    def tables(self) -> Tables:
        """The clean tables; bad rows are set aside when they are first asked for."""
        from features.tables import open_tables

        opened = open_tables(
            self.settings, now=self.now, accept=self.accept_changes, full=self.rebuild, progress=say_over
        )
        say_over("")
        for change in opened.warnings:
            say(f"changed since the last run: {change}")
        for row in opened.quarantine.slice(0, SHOWN_BAD_ROWS).to_pylist():
            say(f"set aside: {row['table']} row {row['row_number']}, {row['rule']}: {row['reason']}")
        if opened.quarantine.num_rows:
            say(f"{opened.quarantine.num_rows} rows set aside in all, see {self.settings.state_dir}/quarantine.parquet")
        return opened

    def features(self, as_of: datetime | Sequence[datetime]) -> pd.DataFrame:
        """The feature table at `as_of`, one row per active account; at several instants one per instant too."""
        from serving.scoring import features_at

        instants = [as_of] if isinstance(as_of, datetime) else list(as_of)
        return features_at(self.tables, self.settings, *instants)

    @functools.cached_property
    def prepared(self) -> Prepared:
        """What every training begins with, made once: the snapshots, and that nothing later moves their features."""
        from training.train import prepare

        return prepare(self.tables, self.settings, now=self.now, progress=say)

    def dataset(self) -> Dataset:
        """All snapshots with features and labels."""
        from training.dataset import build_dataset

        if "prepared" in self.__dict__:
            return self.prepared.dataset
        return build_dataset(self.tables, self.settings, now=self.now)

    def train(self, estimator: Any = None, **options: int | None) -> TrainingRun:
        """Train, judge and log; `estimator` is any classifier of scikit-learn, boosted trees where None.

        `ChurnClassifier` and boosted trees are registered; any other estimator is judged and logged by the same rules
        but not registered, for an artefact holds no code.
        """
        from training.run import train_and_register

        return train_and_register(self.tables, self.settings, options, self.prepared, estimator=estimator, progress=say)

    def score(self, as_of: datetime) -> dict[str, Any]:
        """Publish the risk list of `as_of` and return it."""
        from serving.nightly import score_and_publish

        return score_and_publish(self.tables, self.settings, as_of=as_of)


def open(config: str | Path | None = None) -> Project:  # named for its users: tenure.open("tenure.toml")
    """The company whose `tenure.toml` is `config`, by default the nearest one upwards from here."""
    _keep_quiet()
    path = find_config(Path.cwd()) if config is None else Path(config)
    return Project(read_settings(path), now_utc())


def _keep_quiet() -> None:
    """Nothing leaves this machine unless its user says so; and MLflow's own progress lines would hide ours."""
    for name, value in {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_LOGGING_LEVEL": "WARNING"}.items():
        os.environ.setdefault(name, value)


# Commands open their project by the context's object: they stand below and do not know `open`.
@click.group(context_settings={"help_option_names": ["-h", "--help"], "obj": open})
@click.version_option(package_name="tenure")
def main() -> None:
    """Who is about to leave, why, what to do about it, and whether it helped.

    Begin with `tenure demo`, or with `tenure check` beside your own tenure.toml.
    """
    _keep_quiet()


@command("demo")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("demo"))
@click.option(
    "--accounts", type=click.IntRange(1), default=2000, show_default=True, help="Accounts of the generated company."
)
@click.option("--months", type=click.IntRange(1), default=24, show_default=True, help="Months of its history.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Same seed, same company.")
def demo_command(folder: Path, accounts: int, months: int, seed: int) -> Shown:
    """The whole loop on a generated company, from its tables to a list with reasons."""
    from features.snapshots import data_span
    from features.world import write_world
    from features.world.truth import clear_world, true_probability
    from serving.text import demo_text
    from training.backtest import backtest
    from training.intervals import evaluate_rows

    clear_world(folder)
    say(f"1/5 generating {accounts:,} accounts × {months} months in {folder}/")
    write_world(folder, accounts=accounts, months=months, seed=seed, progress=say_over)
    project = open(folder / "tenure.toml")
    say("2/5 reading the tables")
    as_of = data_span(project.tables, project.now).until
    project.now = as_of
    say("3/5 training, judged on later months")
    run = project.train()
    say(f"4/5 scoring every account at {as_of:%Y-%m-%d}")
    published = project.score(as_of)
    say("5/5 looking back: what the lists of the last year would have said")
    past = backtest(project.dataset(), project.tables, project.settings, progress=say)
    judged = true_probability(folder, run.trained.evaluation.predictions)
    reachable = evaluate_rows(judged, "reachable", draws=200)
    facts = {"train": run.as_dict(), "reachable": {name: item.as_dict() for name, item in reachable.items()},
             "list": published["counts"], "backtest": past.summary()}  # fmt: skip
    return facts, lambda: demo_text(run.text(), reachable, published, past.summary(), folder=folder)


for item in (demo_command, *DATA_COMMANDS, *MODEL_COMMANDS, *LIST_COMMANDS, *SERVICE_COMMANDS):
    main.add_command(item)


if __name__ == "__main__":
    sys.exit(main())
