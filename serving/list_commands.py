"""The commands about the list: make it, every night or again, read it, and ask why an account is on it.

Heavy libraries are imported inside the command that needs them, so that `tenure --help` answers at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import click

from features.command_line import (
    DAY,
    OpenProject,
    Shown,
    as_of_option,
    asked_or_latest,
    clock,
    company_command,
    day,
    write,
)


class ScoringProject(OpenProject, Protocol):
    """What these commands ask of the project beside its tables."""

    def score(self, as_of: datetime) -> dict[str, Any]:
        """Publish the risk list of `as_of` and return it."""


@company_command("score")
@as_of_option
def score_command(project: ScoringProject, as_of: datetime | None) -> Shown:
    """Score every active account with the champion and publish the risk list."""
    from serving.text import list_text

    made = project.score(asked_or_latest(project, as_of))
    facts = {name: made[name] for name in ("as_of", "model_version", "heading", "counts")}
    return facts, lambda: list_text(made, made["rows"][:10])


@company_command("run")
@as_of_option
def run_command(project: ScoringProject, as_of: datetime | None) -> Shown:
    """The night's work under one lock: read and check the sources, copy what is overwritten, score, publish."""
    from serving.nightly import run_night

    done = run_night(lambda: project.tables, project.settings, as_of=asked_or_latest(project, as_of), clock=clock)
    return done.as_dict(), done.text


@company_command("runs")
@click.option("--last", type=click.IntRange(1), default=14, show_default=True, help="So many runs, newest first.")
@click.option("--within", type=click.FloatRange(0), help="Hours; exit 69 unless a run ended well within so many.")
def runs_command(project: ScoringProject, last: int, within: float | None) -> Shown:
    """The nightly runs and how each ended; with --within, whether the last one happened at all."""
    from features.text_tables import facts_table
    from serving.nightly import history, require_recent

    rows = history(project.settings, last=last)
    if within is not None:
        require_recent(rows, within=timedelta(hours=within), now=clock())
    columns = ("started_at", "ended_at", "as_of", "exit_code", "said")
    return {"runs": rows}, lambda: facts_table(rows, columns)


@company_command("list")
@as_of_option
@click.option("--csm", help="Only the accounts of this CSM.")
@click.option("--top", type=click.IntRange(1), help="So many rows; default: the list's capacity.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "xlsx", "parquet", "json"]), default="table")
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file instead.")
def list_command(
    project: ScoringProject, *, as_of: datetime | None, csm: str | None, top: int | None, form: str, out: Path | None
) -> Shown:
    """The published list, by default the latest."""
    from serving.listing import chosen, formatted

    found = chosen(project.settings, as_of=day(as_of), csm=csm, top=top)
    if out is None:
        if form in ("xlsx", "parquet"):
            raise click.UsageError(f"--format {form} is no text; name a file with --out.")
        return found, lambda: formatted(found, form).decode().removesuffix("\n")
    write(out, formatted(found, form))
    return found, lambda: f"{len(found['rows'])} rows in {out}"


@company_command("explain")
@as_of_option
@click.argument("account")
def explain_command(project: ScoringProject, as_of: datetime | None, account: str) -> Shown:
    """Why an account is, or is not, on the published list."""
    from serving.listing import explained

    facts, text = explained(project.settings, account, as_of=day(as_of))
    return facts, lambda: text


@company_command("replay")
@click.option("--as-of", type=DAY, required=True, help="Day of the list to make again.")
@click.option("--model", "version", help="Version that must have made it.")
def replay_command(project: ScoringProject, as_of: datetime, version: str | None) -> Shown:
    """Make a past list again from today's tables, and say whether it is the one that was published; exit 65 if not."""
    from serving.replay import replay

    done = replay(project.tables, project.settings, as_of=as_of, version=version)
    return done.as_dict(), done.text


COMMANDS = (score_command, run_command, runs_command, list_command, explain_command, replay_command)
"""What `tenure` takes from here."""
