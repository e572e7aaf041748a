"""The front door: command line and Python API.

Each command parses, calls one function of a package and prints. Heavy libraries are imported inside the command that
needs them, so that `tenure --help` answers at once.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from features.errors import CannotWrite, TenureError
from features.settings import Settings, TrainSettings, find_config, read_settings

if TYPE_CHECKING:
    import pandas as pd

    from features.tables import Tables
    from training.dataset import Dataset
    from training.run import TrainingRun
    from training.train import Prepared

DEFAULTS = TrainSettings()
SHOWN_BAD_ROWS = 5

Shown = tuple[object, Callable[[], str]]
"""What a command found: facts for --json, and the text for a person, made only if it is asked for."""


class Project:
    """One company: its settings, its clean tables, and what can be done with them."""

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
    path = find_config(Path.cwd()) if config is None else Path(config)
    return Project(read_settings(path), datetime.now(UTC))


class Failure(click.ClickException):
    """A known failure: one sentence on standard error, the exit code of its class."""

    def __init__(self, error: TenureError, *, as_json: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.as_json = as_json

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The exit code of the failure's class."""
        return self.error.exit_code

    def show(self, file: Any = None) -> None:
        """Print the sentence, and with --json one object on standard output."""
        say(f"tenure: {self.message}")
        if self.as_json:
            click.echo(_json({"error": {"code": self.exit_code, "message": self.message}}))


def say(message: str) -> None:
    """A progress line on standard error."""
    click.echo(message, err=True)


def say_over(message: str) -> None:
    """A progress line that the next one overwrites, where a person watches; else nothing."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{message}\r", nl=False, err=True)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str, allow_nan=False)


def command(group: click.Group, name: str) -> Callable[[Callable[..., Shown]], click.Command]:
    """A command that prints text or, with --json, one object, and turns known failures into a sentence and a code."""

    def decorate(function: Callable[..., Shown]) -> click.Command:
        @click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
        @functools.wraps(function)
        def guarded(*, as_json: bool, **options: Any) -> None:
            try:
                facts, text = function(**options)
                click.echo(_json(facts) if as_json else text())
            except TenureError as error:
                raise Failure(error, as_json=as_json) from error

        return group.command(name)(guarded)

    return decorate


CONFIG_HELP = "Settings file; default: the nearest tenure.toml upwards from here."


def company_command(group: click.Group, name: str) -> Callable[[Callable[..., Shown]], click.Command]:
    """A command about one company: knows --config, and is handed the open project."""

    def decorate(function: Callable[..., Shown]) -> click.Command:
        @click.option("--config", type=click.Path(path_type=Path), default=None, help=CONFIG_HELP)
        @functools.wraps(function)
        def with_project(*, config: Path | None, **options: Any) -> Shown:
            return function(open(config), **options)

        return command(group, name)(with_project)

    return decorate


DAY = click.DateTime(["%Y-%m-%d"])
as_of_option = click.option("--as-of", type=DAY, default=None, help="Midnight UTC to look from; default: the latest.")


def _instant(project: Project, as_of: datetime | None) -> datetime:
    if as_of is not None and as_of > project.now:
        said = f"must not be after {project.now:%Y-%m-%d}; found {as_of:%Y-%m-%d}."
        raise click.BadParameter(said, param_hint="--as-of")
    return as_of or project.now


def _clock() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _write(out: Path, content: bytes) -> None:
    try:
        out.write_bytes(content)
    except OSError as error:
        raise CannotWrite(f"{out} must be a file that can be written; {error.strerror}. Name another.") from error


def _day(as_of: datetime | None) -> str | None:
    return None if as_of is None else f"{as_of:%Y-%m-%d}"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tenure")
def main() -> None:
    """Who is about to leave, why, what to do about it, and whether it helped.

    Begin with `tenure demo`, or with `tenure check` beside your own tenure.toml.
    """
    # Nothing leaves this machine unless its user says so; and MLflow's own progress lines would hide ours.
    for name, value in {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_LOGGING_LEVEL": "WARNING"}.items():
        os.environ.setdefault(name, value)


@command(main, "demo")
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


@command(main, "world")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--accounts", type=click.IntRange(1), default=2000, show_default=True, help="Accounts of the company.")
@click.option("--months", type=click.IntRange(1), default=24, show_default=True, help="Months of its history.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--late",
    "late_share",
    type=click.FloatRange(0, 0.9),
    default=0.01,
    show_default=True,
    help="Share of the rows that are known days late.",
)
@click.option(
    "--wrong",
    "wrong_share",
    type=click.FloatRange(0, 0.9),
    default=0.0,
    show_default=True,
    help="Rows that break a rule, as a share of each table.",
)
@click.option("--drift-month", type=click.IntRange(0), help="Month from which the product and the causes are others.")
@click.option(
    "--format",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
    help="Of the tables; the truth is always Parquet.",
)
def world_command(folder: Path, **options: Any) -> Shown:
    """Generate a company: its tables, its tenure.toml, and a sealed truth/."""
    from features.world import write_world
    from features.world.truth import clear_world

    clear_world(folder)
    write_world(folder, progress=say_over, **options)
    return {"config": str(folder / "tenure.toml")}, lambda: str(folder / "tenure.toml")


@command(main, "init")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path), default=Path())
@click.option("--force", is_flag=True, help="Replace the tenure.toml that is there.")
def init_command(folder: Path, *, force: bool) -> Shown:
    """Look at the files in DIR and write a first tenure.toml, with comments."""
    from features.draft import draft

    drafted = draft(folder, now=datetime.now(UTC).replace(tzinfo=None), force=force)
    return drafted.as_dict(), drafted.text


@company_command(main, "check")
@click.option("--accept", is_flag=True, help="Take the sources as they are now, though they differ from the last run.")
def check_command(project: Project, accept: bool) -> Shown:
    """Read every source: rows, span, freshness, rows set aside, and what the labels allow."""
    from features.check import check
    from serving.text import check_text

    project.accept_changes = accept
    report = check(project.tables, project.settings, now=project.now)
    return report.as_dict(), lambda: check_text(report)


@company_command(main, "snapshot")
def snapshot_command(project: Project) -> Shown:
    """Copy what changed in tables that are overwritten, so that their past stays known; once a day, before scoring."""
    from features.history import snapshot
    from serving.text import facts_table

    grades = {name: loaded.grade for name, loaded in project.tables.loaded.items()}
    copied = snapshot(project.tables.backend, project.settings, grades, now=project.now)
    return {"tables": copied}, lambda: facts_table(copied, ("table", "since", "copied", "new", "changed", "vanished"))


@command(main, "train")
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
        project = open(config)
        run = project.train(**options)
        return run.as_dict(), run.text
    if label_column is None:
        raise click.UsageError("--table needs --label, the column that says who was lost.")
    settings = None if config is None else read_settings(config)
    run, scores = train_on_table(table, settings, columns, options, progress=say)
    place = out or table.with_name(f"{table.stem}.scores.csv")
    _write(place, scores.to_csv(index=False).encode())
    return {**run.as_dict(), "scores": str(place)}, lambda: f"{run.text()}\n{len(scores):,} scores in {place}"


@company_command(main, "backtest")
@click.option(
    "--top", type=click.IntRange(1), default=20, show_default=True, help="Latest losses to print; --json has all."
)
def backtest_command(project: Project, top: int) -> Shown:
    """Each lost account by name: first listed when, how long before the decision, at which rank."""
    from serving.text import facts_table
    from training.backtest import LOSS_COLUMNS, backtest

    past = backtest(project.dataset(), project.tables, project.settings, progress=say)
    facts = past.as_dict()
    lines = [facts_table(facts["losses"][-top:], LOSS_COLUMNS), "", *past.summary()]
    return facts, lambda: "\n".join(lines)


@company_command(main, "models")
def models_command(project: Project) -> Shown:
    """Registered versions and their aliases."""
    from serving.text import facts_table
    from training.tracking import versions

    found = versions(project.settings)
    return {"versions": found}, lambda: facts_table(found, ("version", "alias", "run_id", "artefact"))


@company_command(main, "evaluate")
@click.argument("version")
def evaluate_command(project: Project, version: str) -> Shown:
    """Judge the recipe of a registered version on the data of today, at every later instant they allow."""
    from training.run import evaluated

    judged = evaluated(project.tables, project.settings, version, now=project.now, progress=say)
    return judged.as_dict(), judged.text


@company_command(main, "promote")
@click.argument("version")
@click.option("--despite-drift", is_flag=True, help="Though the features it leans on moved since it learned.")
def promote_command(project: Project, version: str, despite_drift: bool) -> Shown:
    """Make a version champion, if it is better than the one that is, and safe; else exit 78."""
    from training.promotion import promote

    done = promote(
        project.tables, project.settings, version, now=project.now, progress=say, despite_drift=despite_drift
    )
    return done.as_dict(), done.text


@company_command(main, "rollback")
def rollback_command(project: Project) -> Shown:
    """Swap the champion and the version that it replaced."""
    from training.promotion import rollback

    done = rollback(project.settings, now=datetime.now(UTC))
    return done, lambda: f"Version {done['champion']} is champion again, version {done['previous']} is previous."


@company_command(main, "monitor")
def monitor_command(project: Project) -> Shown:
    """What moved since the champion learned, and whether its probabilities came true."""
    from training.monitoring import keep, monitor
    from training.tracking import champion

    version, model = champion(project.settings)
    found = monitor(project.dataset(), model, version=version)
    keep(found, project.settings)
    return found.as_dict(), found.text


@company_command(main, "verify")
@click.argument("version")
def verify_command(project: Project, version: str) -> Shown:
    """Make the leakage certificate of a version again from the stored data; exit 78 where it does not hold."""
    from training.verify import verify

    done = verify(project.tables, project.settings, version, progress=say)
    return done.as_dict(), lambda: f"Version {version} holds: {done.verdict}."


@company_command(main, "score")
@as_of_option
def score_command(project: Project, as_of: datetime | None) -> Shown:
    """Score every active account with the champion and publish the risk list."""
    from serving.text import list_text

    made = project.score(_instant(project, as_of))
    facts = {name: made[name] for name in ("as_of", "model_version", "heading", "counts")}
    return facts, lambda: list_text(made, made["rows"][:10])


@company_command(main, "run")
@as_of_option
def run_command(project: Project, as_of: datetime | None) -> Shown:
    """The night's work under one lock: read and check the sources, copy what is overwritten, score, publish."""
    from serving.nightly import run_night

    done = run_night(lambda: project.tables, project.settings, as_of=_instant(project, as_of), clock=_clock)
    return done.as_dict(), done.text


@company_command(main, "runs")
@click.option("--last", type=click.IntRange(1), default=14, show_default=True, help="So many runs, newest first.")
@click.option("--within", type=click.FloatRange(0), help="Hours; exit 69 unless a run ended well within so many.")
def runs_command(project: Project, last: int, within: float | None) -> Shown:
    """The nightly runs and how each ended; with --within, whether the last one happened at all."""
    from serving.nightly import history, require_recent
    from serving.text import facts_table

    rows = history(project.settings, last=last)
    if within is not None:
        require_recent(rows, within=timedelta(hours=within), now=_clock())
    columns = ("started_at", "ended_at", "as_of", "exit_code", "said")
    return {"runs": rows}, lambda: facts_table(rows, columns)


@company_command(main, "list")
@as_of_option
@click.option("--csm", help="Only the accounts of this CSM.")
@click.option("--top", type=click.IntRange(1), help="So many rows; default: the list's capacity.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "xlsx", "parquet", "json"]), default="table")
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file instead.")
def list_command(
    project: Project, *, as_of: datetime | None, csm: str | None, top: int | None, form: str, out: Path | None
) -> Shown:
    """The published list, by default the latest."""
    from serving.listing import chosen, formatted

    found = chosen(project.settings, as_of=_day(as_of), csm=csm, top=top)
    if out is None:
        if form in ("xlsx", "parquet"):
            raise click.UsageError(f"--format {form} is no text; name a file with --out.")
        return found, lambda: formatted(found, form).decode().removesuffix("\n")
    _write(out, formatted(found, form))
    return found, lambda: f"{len(found['rows'])} rows in {out}"


@company_command(main, "replay")
@click.option("--as-of", type=DAY, required=True, help="Day of the list to make again.")
@click.option("--model", "version", help="Version that must have made it.")
def replay_command(project: Project, as_of: datetime, version: str | None) -> Shown:
    """Make a past list again from today's tables, and say whether it is the one that was published; exit 65 if not."""
    from serving.replay import replay

    done = replay(project.tables, project.settings, as_of=as_of, version=version)
    return done.as_dict(), done.text


@company_command(main, "explain")
@as_of_option
@click.argument("account")
def explain_command(project: Project, as_of: datetime | None, account: str) -> Shown:
    """Why an account is, or is not, on the published list."""
    from serving.listing import explained

    facts, text = explained(project.settings, account, as_of=_day(as_of))
    return facts, lambda: text


@company_command(main, "correct")
@click.argument("account", required=False)
@click.option("--kind", type=click.Choice(["did_not_churn", "churned", "merged", "renamed"]), help="What is true.")
@click.option("--at", type=click.DateTime(["%Y-%m-%d"]), help="Day of the loss; default: the only one, or today.")
@click.option("--into", help="The account that goes on, of one merged or renamed.")
@click.option("--undo", "undone", help="Take the correction with this id back.")
@click.option("--reason", required=True, help="Why; kept with the line.")
@click.option("--by", envvar="USER", required=True, help="Who says so. [default: the user's name]")
def correct_command(
    project: Project, *, account: str | None, kind: str | None, undone: str | None, at: datetime | None,
    into: str | None, **said: str,
) -> Shown:  # fmt: skip
    """Put the label of an account right, on a line of the audit file that is never rewritten."""
    from features.correct import correct, correction_text, undo

    if (undone is None) == (account is None or kind is None):
        raise click.UsageError("Name an ACCOUNT and its --kind, or the correction to --undo.")
    now = datetime.now(UTC)
    if undone is not None:
        line = undo(project.tables, project.settings, undone, said=dict(said), now=now)
    else:
        facts = {"at": _day(at), "into_account_id": into, **said}
        line = correct(project.tables, project.settings, str(account), kind=str(kind), said=facts, now=now)
    return line, lambda: correction_text(line)


@company_command(main, "erase")
@click.argument("name", metavar="ID")
@click.option("--kind", type=click.Choice(["account", "contact"]), help="Which of the two ID is, where it is both.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--by", envvar="USER", default="tenure", help="Who says so; for the audit.")
def erase_command(
    project: Project, *, name: str, kind: Literal["account", "contact"] | None, yes: bool, by: str
) -> Shown:
    """Erase an account or a contact from all that tenure keeps, and leave it out from now on; the sources stay."""
    from serving.erasure import erase

    if not yes:
        _confirm(f"Erase {name} from all that tenure keeps? It cannot be taken back.")
    done = erase(project.settings, name, kind, now=_clock(), by=by)
    return done.as_dict(), done.text


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody is there to be asked; say --yes.")
    click.confirm(question, abort=True, err=True)


@main.group("features")
def features_group() -> None:
    """The feature catalogue and the feature table."""


@command(features_group, "list")
@click.option("--config", type=click.Path(path_type=Path), default=None, help="Company whose grades to tell.")
def features_list_command(config: Path | None) -> Shown:
    """Every feature with its meaning and, beside a tenure.toml that was read before, its grade."""
    from features.catalogue import catalogue_rows
    from features.drift import last_grades
    from serving.text import facts_table

    rows = catalogue_rows(last_grades(config, start=Path.cwd()))
    columns = ("name", "meaning", "unit", "window", "missing", "group", *(["grade"] if "grade" in rows[0] else []))
    return {"features": rows}, lambda: facts_table(rows, columns)


@company_command(features_group, "build")
@as_of_option
@click.option("--from", "first", type=DAY, help="Every first of a month from this day …")
@click.option("--to", "last", type=DAY, help="… to this one, in place of --as-of.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file to write.")
@click.option("--full", is_flag=True, help="Roll usage up anew instead of reading what changed.")
@click.option("--certify", is_flag=True, help="First show that nothing later moves a feature, or stop.")
def features_build_command(project: Project, *, out: Path, full: bool, certify: bool, **when: datetime | None) -> Shown:
    """Write the feature table at one instant, or at every first of a month."""
    from features.certificate import certify as certified

    instants = _instants(project, **when)
    project.rebuild = full
    facts: dict[str, Any] = {}
    if certify:
        certificate = certified(project.tables, project.settings, as_of=instants[-1])
        certificate.refuse_leaks()
        facts["certificate"] = certificate.as_dict()
        say(certificate.verdict)
    rows = project.features(instants)
    _write(out, rows.to_parquet(index=False))
    return {"rows": len(rows), "file": str(out), **facts}, lambda: f"{len(rows):,} rows in {out}"


def _instants(
    project: Project, *, as_of: datetime | None, first: datetime | None, last: datetime | None
) -> list[datetime]:
    """The one instant asked for, or the firsts of months from `first` to `last`."""
    from features.windows import first_of_months

    if first is None and last is None:
        return [_instant(project, as_of)]
    if first is None or last is None or as_of is not None:
        raise click.UsageError("Give --from and --to together, and no --as-of beside them.")
    months = first_of_months(first, _instant(project, last))
    if not months:
        raise click.UsageError(f"Between --from {first:%Y-%m-%d} and --to {last:%Y-%m-%d} must lie a first of a month.")
    return months


@main.group("token")
def token_group() -> None:
    """Bearer tokens for `tenure serve`."""


@company_command(token_group, "create")
@click.option("--role", type=click.Choice(["viewer", "csm", "manager", "admin", "ds"]), required=True)
@click.option("--csm", help="Whose book the token sees; for the role csm.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="Days until it expires.")
def token_create_command(project: Project, role: str, csm: str | None, days: int) -> Shown:
    """Make a token; its secret is shown once."""
    from serving.access import token_store

    if role == "csm" and csm is None:
        raise click.UsageError("A token of the role csm needs --csm NAME; without a book it would see nothing.")
    token, secret = token_store(project.settings).create(role=role, csm_id=csm, days=days, now=datetime.now(UTC))
    return {"id": token.id, "role": role, "expires_at": token.expires_at, "secret": secret}, lambda: secret


@company_command(token_group, "list")
def token_list_command(project: Project) -> Shown:
    """Tokens that were made, without their secrets."""
    from serving.access import token_store
    from serving.text import facts_table

    columns = ("id", "role", "csm_id", "created_at", "expires_at", "revoked_at")
    rows = [{name: getattr(token, name) for name in columns} for token in token_store(project.settings).list()]
    return {"tokens": rows}, lambda: facts_table(rows, columns)


@company_command(token_group, "revoke")
@click.argument("token_id")
def token_revoke_command(project: Project, token_id: str) -> Shown:
    """Refuse a token from now on."""
    from serving.access import token_store

    token_store(project.settings).revoke(token_id, now=datetime.now(UTC))
    return {"revoked": token_id}, lambda: f"{token_id} is refused from now on."


@company_command(main, "bento")
def bento_command(project: Project) -> Shown:
    """Build a bento with the champion inside, which `bentoml serve` runs without the registry."""
    from serving.bento import build

    made = build(project.settings)
    return made.as_dict(), made.text


@company_command(main, "cover")
@click.argument("csm")
@click.option("--by", "covered_by", required=True, help="Who sees the book of CSM meanwhile.")
@click.option("--from", "first", type=DAY, required=True, help="First day …")
@click.option("--to", "last", type=DAY, required=True, help="… and last day, included.")
@click.option("--who", envvar="USER", default="tenure", help="Who says so; for the audit.")
def cover_command(project: Project, *, csm: str, covered_by: str, first: datetime, last: datetime, who: str) -> Shown:
    """Let a CSM see the book of another for some days: holidays, illness."""
    from serving.access import Cover, cover
    from serving.ledger import open_ledger

    given = Cover(csm_id=csm, covered_by=covered_by, first=first.date(), last=last.date())
    cover(open_ledger(project.settings), given, now=datetime.now(UTC), by=who)
    facts = {"csm": csm, "by": covered_by, "from": _day(first), "to": _day(last)}
    return facts, lambda: f"{covered_by} sees the book of {csm} from {first:%Y-%m-%d} to {last:%Y-%m-%d}."


@main.group("ledger")
def ledger_group() -> None:
    """The ledger: runs, lists, tokens, audit."""


@company_command(ledger_group, "backup")
@click.argument("file", type=click.Path(path_type=Path))
def ledger_backup_command(project: Project, file: Path) -> Shown:
    """Copy an SQLite ledger into FILE while others go on writing; a PostgreSQL one is backed up by pg_dump."""
    from serving.ledger import open_ledger

    open_ledger(project.settings).backup(file)
    return {"file": str(file)}, lambda: f"The ledger is copied to {file}. To restore it, put it in its place."


@company_command(ledger_group, "audit")
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="So many lines, newest first.")
def ledger_audit_command(project: Project, last: int) -> Shown:
    """Who did what; the database refuses to change these lines."""
    from serving.ledger import audit_lines, open_ledger
    from serving.text import facts_table

    rows = audit_lines(open_ledger(project.settings), last=last)
    return {"audit": rows}, lambda: facts_table(rows, ("number", "at", "by", "action", "subject", "facts"))


@company_command(main, "serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, help="Processes that answer.")
def serve_command(project: Project, host: str, port: int, workers: int) -> Shown:
    """Serve the champion and the published lists over HTTP, behind the guard."""
    from serving.server import serve

    serve(project.settings, host=host, port=port, workers=workers, now=datetime.now(UTC))
    return {"stopped": True}, lambda: "stopped"


if __name__ == "__main__":
    sys.exit(main())
