"""The commands about the data: what a company told, and the features made of it.

Heavy libraries are imported inside the command that needs them, so that `tenure --help` answers at once.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from features.command_line import (
    DAY,
    OpenProject,
    Shown,
    as_of_option,
    asked_or_latest,
    clock,
    command,
    company_command,
    day,
    now_utc,
    say,
    say_over,
    write,
)


@command("world")
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


@command("init")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path), default=Path())
@click.option("--force", is_flag=True, help="Replace the tenure.toml that is there.")
def init_command(folder: Path, *, force: bool) -> Shown:
    """Look at the files in DIR and write a first tenure.toml, with comments."""
    from features.draft import draft

    drafted = draft(folder, now=clock(), force=force)
    return drafted.as_dict(), drafted.text


@company_command("check")
@click.option("--accept", is_flag=True, help="Take the sources as they are now, though they differ from the last run.")
def check_command(project: OpenProject, accept: bool) -> Shown:
    """Read every source: rows, span, freshness, rows set aside, and what the labels allow."""
    from features.check import check

    project.accept_changes = accept
    report = check(project.tables, project.settings, now=project.now)
    return report.as_dict(), report.text


@company_command("snapshot")
def snapshot_command(project: OpenProject) -> Shown:
    """Copy what changed in tables that are overwritten, so that their past stays known; once a day, before scoring."""
    from features.history import snapshot
    from features.text_tables import facts_table

    grades = {name: loaded.grade for name, loaded in project.tables.loaded.items()}
    copied = snapshot(project.tables.backend, project.settings, grades, now=project.now)
    return {"tables": copied}, lambda: facts_table(copied, ("table", "since", "copied", "new", "changed", "vanished"))


@company_command("correct")
@click.argument("account", required=False)
@click.option("--kind", type=click.Choice(["did_not_churn", "churned", "merged", "renamed"]), help="What is true.")
@click.option("--at", type=click.DateTime(["%Y-%m-%d"]), help="Day of the loss; default: the only one, or today.")
@click.option("--into", help="The account that goes on, of one merged or renamed.")
@click.option("--undo", "undone", help="Take the correction with this id back.")
@click.option("--reason", required=True, help="Why; kept with the line.")
@click.option("--by", envvar="USER", required=True, help="Who says so. [default: the user's name]")
def correct_command(
    project: OpenProject, *, account: str | None, kind: str | None, undone: str | None, at: datetime | None,
    into: str | None, **said: str,
) -> Shown:  # fmt: skip
    """Put the label of an account right, on a line of the audit file that is never rewritten."""
    from features.correct import correct, correction_text, undo

    if (undone is None) == (account is None or kind is None):
        raise click.UsageError("Name an ACCOUNT and its --kind, or the correction to --undo.")
    now = now_utc()
    if undone is not None:
        line = undo(project.tables, project.settings, undone, said=dict(said), now=now)
    else:
        facts = {"at": day(at), "into_account_id": into, **said}
        line = correct(project.tables, project.settings, str(account), kind=str(kind), said=facts, now=now)
    return line, lambda: correction_text(line)


@click.group("features")
def features_group() -> None:
    """The feature catalogue and the feature table."""


@command("list", features_group)
@click.option("--config", type=click.Path(path_type=Path), default=None, help="Company whose grades to tell.")
def features_list_command(config: Path | None) -> Shown:
    """Every feature with its meaning and, beside a tenure.toml that was read before, its grade."""
    from features.catalogue import catalogue_rows
    from features.drift import last_grades
    from features.text_tables import facts_table

    rows = catalogue_rows(last_grades(config, start=Path.cwd()))
    columns = ("name", "meaning", "unit", "window", "missing", "group", *(["grade"] if "grade" in rows[0] else []))
    return {"features": rows}, lambda: facts_table(rows, columns)


@company_command("build", features_group)
@as_of_option
@click.option("--from", "first", type=DAY, help="Every first of a month from this day …")
@click.option("--to", "last", type=DAY, help="… to this one, in place of --as-of.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file to write.")
@click.option("--full", is_flag=True, help="Roll usage up anew instead of reading what changed.")
@click.option("--certify", is_flag=True, help="First show that nothing later moves a feature, or stop.")
def features_build_command(
    project: OpenProject, *, out: Path, full: bool, certify: bool, **when: datetime | None
) -> Shown:
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
    write(out, rows.to_parquet(index=False))
    return {"rows": len(rows), "file": str(out), **facts}, lambda: f"{len(rows):,} rows in {out}"


def _instants(
    project: OpenProject, *, as_of: datetime | None, first: datetime | None, last: datetime | None
) -> list[datetime]:
    """The one instant asked for, or the firsts of months from `first` to `last`."""
    from features.windows import first_of_months

    if first is None and last is None:
        return [asked_or_latest(project, as_of)]
    if first is None or last is None or as_of is not None:
        raise click.UsageError("Give --from and --to together, and no --as-of beside them.")
    months = first_of_months(first, asked_or_latest(project, last))
    if not months:
        raise click.UsageError(f"Between --from {first:%Y-%m-%d} and --to {last:%Y-%m-%d} must lie a first of a month.")
    return months


COMMANDS = (
    world_command, init_command, check_command, snapshot_command, correct_command, features_group,
)  # fmt: skip
"""What `tenure` takes from here."""
