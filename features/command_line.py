"""What every command has in common: the project it is handed, how it prints and fails, and the clock.

The commands stand in `commands.py` of each package and are put together in `tenure.py`. Nothing heavy is imported.
"""

from __future__ import annotations

import builtins
import functools
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from features.errors import CannotWrite, TenureError
from features.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from features.tables import Tables

CONFIG_HELP = "Settings file; default: the nearest tenure.toml upwards from here."
DAY = click.DateTime(["%Y-%m-%d"])
as_of_option = click.option("--as-of", type=DAY, default=None, help="Midnight UTC to look from; default: the latest.")

Shown = tuple[object, Callable[[], str]]
"""What a command found: facts for --json, and the text for a person, made only if it is asked for."""


class OpenProject(Protocol):
    """What any command may ask of the `tenure.Project` that it is handed."""

    settings: Settings
    now: datetime
    accept_changes: bool
    rebuild: bool

    @property
    def tables(self) -> Tables:
        """The clean tables."""

    def features(self, as_of: datetime | Sequence[datetime]) -> pd.DataFrame:
        """The feature table at one or more instants."""


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


def command(name: str, group: click.Group | None = None) -> Callable[[Callable[..., Shown]], click.Command]:
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

        made = click.command(name)(guarded)
        if group is not None:
            group.add_command(made)
        return made

    return decorate


def company_command(name: str, group: click.Group | None = None) -> Callable[[Callable[..., Shown]], click.Command]:
    """A command about one company: knows --config, and is handed the open project."""

    def decorate(function: Callable[..., Shown]) -> click.Command:
        @click.option("--config", type=click.Path(path_type=Path), default=None, help=CONFIG_HELP)
        @functools.wraps(function)
        def with_project(*, config: Path | None, **options: Any) -> Shown:
            return function(opened(config), **options)

        return command(name, group)(with_project)

    return decorate


def opened(config: Path | None) -> Any:
    """The project of `config`: `tenure.py` gives every command its `open` as the object of click's context."""
    return click.get_current_context().obj(config)


def asked_or_latest(project: OpenProject, as_of: datetime | None) -> datetime:
    """The instant of --as-of, which must not lie ahead, or today's."""
    if as_of is not None and as_of > project.now:
        said = f"must not be after {project.now:%Y-%m-%d}; found {as_of:%Y-%m-%d}."
        raise click.BadParameter(said, param_hint="--as-of")
    return as_of or project.now


def now_utc() -> datetime:
    """Now, with its time zone; all commands are given the time by these two functions."""
    return datetime.now(UTC)


def clock() -> datetime:
    """Now, in UTC and without a time zone, as tables and runs keep it."""
    return now_utc().replace(tzinfo=None)


def day(as_of: datetime | None) -> str | None:
    """The date, as lists are named by it."""
    return None if as_of is None else f"{as_of:%Y-%m-%d}"


def write(out: Path, content: bytes) -> None:
    """Write what --out asks for.

    Raises
    ------
    CannotWrite
        The file cannot be written.
    """
    try:
        out.write_bytes(content)
    except OSError as error:
        raise CannotWrite(f"{out} must be a file that can be written; {error.strerror}. Name another.") from error


def say(message: str) -> None:
    """A progress line on standard error; in a notebook, which shows that in red, among what the cell prints."""
    click.echo(message, err=not hasattr(builtins, "__IPYTHON__"))


def say_over(message: str) -> None:
    """A progress line that the next one overwrites, where a person watches; else nothing."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{message}\r", nl=False, err=True)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str, allow_nan=False)
