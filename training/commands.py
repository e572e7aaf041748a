"""The commands about models: train, judge, promote, watch.

Heavy libraries are imported inside the command that needs them, so that `tenure --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from features.command_line import CONFIG_HELP, OpenProject, Shown, command, company_command, now_utc, opened, say, write
from features.model_settings import TrainSettings
from features.settings import read_settings

if TYPE_CHECKING:
    from training.dataset import Dataset
    from training.run import TrainingRun

DEFAULTS = TrainSettings()


class TrainingProject(OpenProject, Protocol):
    """What these commands ask of the project beside its tables."""

    def dataset(self) -> Dataset:
        """All snapshots with features and labels."""

    def train(self, estimator: Any = None, **options: int | None) -> TrainingRun:
        """Train, judge and log."""


@command("train")
@click.option("--config", type=click.Path(path_type=Path), default=None, help=CONFIG_HELP)
@click.option("--seed", type=click.IntRange(0), help=f"Same seed, same data: same model. [default: {DEFAULTS.seed}]")
@click.option("--folds", type=click.IntRange(1), help=f"Later instants to judge at. [default: {DEFAULTS.folds}]")
@click.option("--draws", type=click.IntRange(50), help=f"Bootstrap draws per interval. [default: {DEFAULTS.draws}]")
@click.option("--table", type=click.Path(path_type=Path), help="A ready-made table of features, CSV or Parquet …")
@click.option(
    "--id", "id_column", metavar="COL", help="… its column that says who a row is about (default: each row alone) …"
)
@click.option("--label", "label_column", metavar="COL", help="… the one that says who was lost, yes or no …")
@click.option("--time", "time_column", metavar="COL", help="… and, if it has one, when: folds are then later in time.")
@click.option("--out", type=click.Path(path_type=Path), help="With --table: CSV file for the scores of every row.")
def train_command(
    config: Path | None, table: Path | None, id_column: str | None, label_column: str | None, time_column: str | None,
    out: Path | None, **options: int | None,
) -> Shown:  # fmt: skip
    """Train on mature snapshots, judge on later ones, register the version; or do it on a table of your own."""
    from training.run import train_on_table

    columns = {"id": id_column, "label": label_column, "time": time_column}
    if table is None:
        if any(columns.values()) or out is not None:
            raise click.UsageError("--id, --label, --time and --out say what is in a --table; give one.")
        project: TrainingProject = opened(config)
        run = project.train(**options)
        return run.as_dict(), run.text
    if label_column is None:
        raise click.UsageError("--table needs --label, the column that says who was lost.")
    settings = None if config is None else read_settings(config)
    run, scores = train_on_table(table, settings, columns, options, progress=say)
    place = out or table.with_name(f"{table.stem}.scores.csv")
    write(place, scores.to_csv(index=False).encode())
    return {**run.as_dict(), "scores": str(place)}, lambda: f"{run.text()}\n{len(scores):,} scores in {place}"


@company_command("backtest")
@click.option(
    "--top", type=click.IntRange(1), default=20, show_default=True, help="Latest losses to print; --json has all."
)
def backtest_command(project: TrainingProject, top: int) -> Shown:
    """Each lost account by name: first listed when, how long before the decision, at which rank."""
    from features.text_tables import facts_table
    from training.backtest import LOSS_COLUMNS, backtest

    past = backtest(project.dataset(), project.tables, project.settings, progress=say)
    facts = past.as_dict()
    lines = [facts_table(facts["losses"][-top:], LOSS_COLUMNS), "", *past.summary()]
    return facts, lambda: "\n".join(lines)


@company_command("models")
def models_command(project: TrainingProject) -> Shown:
    """Registered versions and their aliases."""
    from features.text_tables import facts_table
    from training.tracking import versions

    found = versions(project.settings)
    return {"versions": found}, lambda: facts_table(found, ("version", "alias", "run_id", "artefact"))


@company_command("evaluate")
@click.argument("version")
def evaluate_command(project: TrainingProject, version: str) -> Shown:
    """Judge the recipe of a registered version on the data of today, at every later instant they allow."""
    from training.run import evaluated

    judged = evaluated(project.tables, project.settings, version, now=project.now, progress=say)
    return judged.as_dict(), judged.text


@company_command("promote")
@click.argument("version")
@click.option("--despite-drift", is_flag=True, help="Though the features it leans on moved since it learned.")
def promote_command(project: TrainingProject, version: str, despite_drift: bool) -> Shown:
    """Make a version champion, if it is better than the one that is, and safe; else exit 78."""
    from training.promotion import promote

    done = promote(
        project.tables, project.settings, version, now=project.now, progress=say, despite_drift=despite_drift
    )
    return done.as_dict(), done.text


@company_command("rollback")
def rollback_command(project: TrainingProject) -> Shown:
    """Swap the champion and the version that it replaced."""
    from training.promotion import rollback

    done = rollback(project.settings, now=now_utc())
    return done, lambda: f"Version {done['champion']} is champion again, version {done['previous']} is previous."


@company_command("monitor")
def monitor_command(project: TrainingProject) -> Shown:
    """What moved since the champion learned, and whether its probabilities came true."""
    from training.monitoring import keep, monitor
    from training.tracking import champion

    version, model = champion(project.settings)
    found = monitor(project.dataset(), model, version=version)
    keep(found, project.settings)
    return found.as_dict(), found.text


@company_command("verify")
@click.argument("version")
def verify_command(project: TrainingProject, version: str) -> Shown:
    """Make the leakage certificate of a version again from the stored data; exit 78 where it does not hold."""
    from training.verify import verify

    done = verify(project.tables, project.settings, version, progress=say)
    return done.as_dict(), lambda: f"Version {version} holds: {done.verdict}."


COMMANDS = (
    train_command, backtest_command, models_command, evaluate_command, promote_command, rollback_command,
    monitor_command, verify_command,
)  # fmt: skip
"""What `tenure` takes from here."""
