"""Every failure a user can meet, each with its exit code.

TenureError
├── Misuse (2)                the call asks for what is not there
├── DataError (65)            a source is missing, malformed, empty or stale
│   ├── MissingColumns
│   ├── MissingSource
│   ├── EmptyTable
│   ├── TooManyBadRows
│   ├── StaleData
│   ├── SchemaDrift
│   ├── RowCountAnomaly
│   └── TooFewChurns
├── DependencyDown (69)       a database, registry or server does not answer
├── CannotWrite (73)          disk full, no permission
├── AlreadyRunning (75)       another run holds the lock
└── ConfigurationError (78)   `tenure.toml`, a token or a model is refused

A message has the shape: *subject must be X; found Y; do Z*.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime


class TenureError(Exception):
    """A failure with a sentence for its reader and an exit code for the scheduler."""

    exit_code = 1


class Misuse(TenureError):
    """The call asks for something that does not exist; fix the call."""

    exit_code = 2


class DataError(TenureError):
    """The input is not what the data contract promises; fix the source."""

    exit_code = 65


class DependencyDown(TenureError):
    """Something tenure needs does not answer; try again later."""

    exit_code = 69


class CannotWrite(TenureError):
    """The state directory cannot be written; free space or fix permissions."""

    exit_code = 73


class AlreadyRunning(TenureError):
    """Another run of the same kind holds the lock; try again later."""

    exit_code = 75


class ConfigurationError(TenureError):
    """Settings or a model are refused; fix them or roll back."""

    exit_code = 78


class MissingColumns(DataError):
    """A table lacks columns that the contract requires."""

    def __init__(self, table: str, missing: Iterable[str], found: Iterable[str]) -> None:
        self.table, self.missing, self.found = table, sorted(missing), sorted(found)
        guesses = [_guess(column, self.found) for named in self.missing for column in named.split(" or ")]
        hint = " ".join(guess for guess in guesses if guess)
        super().__init__(
            f"Table '{table}' must have columns {self.missing}; found {self.found}. "
            f"{hint + ' ' if hint else ''}Map them in [tables.{table}] of tenure.toml."
        )


def _guess(column: str, found: list[str]) -> str:
    lowered = {name.lower(): name for name in found}
    close = difflib.get_close_matches(column, lowered, n=1)
    return f"Did you mean '{lowered[close[0]]}' for '{column}'?" if close else ""


class MissingSource(DataError):
    """A file or table that `tenure.toml` names does not exist."""

    def __init__(self, table: str, source: str) -> None:
        self.table, self.source = table, source
        super().__init__(
            f"Table '{table}' must be read from '{source}'; found nothing there. "
            f"Correct [tables.{table}] path in tenure.toml, or put the file back."
        )


class EmptyTable(DataError):
    """A required table has no rows."""

    def __init__(self, table: str, column: str, *, set_aside: int = 0) -> None:
        self.table = table
        found = f"all {set_aside} rows were set aside" if set_aside else "no rows"
        super().__init__(
            f"Table '{table}' must have at least one row that gives '{column}'; found {found}. "
            f"Check the export behind [tables.{table}] in tenure.toml."
        )


class TooManyBadRows(DataError):
    """So many rows break one rule that the source itself must be wrong."""

    def __init__(self, table: str, rule: str, *, bad: int, rows: int, limit: float, example: str) -> None:
        self.table, self.rule = table, rule
        super().__init__(
            f"Table '{table}' may have at most {limit:.0%} rows set aside; found {bad} of {rows}, "
            f"most of them by rule '{rule}' ({example}). Fix the source or its mapping in [tables.{table}], "
            "or raise [quarantine] limit in tenure.toml."
        )


class StaleData(DataError):
    """The newest usage is too old to tell who is at risk at an instant."""

    def __init__(self, newest: datetime | None, as_of: datetime, *, limit_days: int) -> None:
        found = "there is none before it" if newest is None else f"the newest row is of {newest:%Y-%m-%d}"
        super().__init__(
            f"Usage must be at most {limit_days} days older than --as-of {as_of:%Y-%m-%d}; {found}. "
            "Load newer data, or score the past with --as-of."
        )


class SchemaDrift(DataError):
    """A source is no longer shaped as on the last run that went well."""

    def __init__(self, table: str, found: Iterable[str], *, since: str) -> None:
        self.table, self.found = table, list(found)
        super().__init__(
            f"Table '{table}' must be shaped as on {since} (schema_drift); found {'; '.join(self.found)}. "
            "Mend the export or its mapping in tenure.toml, or run `tenure check --accept` if the change is wanted."
        )


class RowCountAnomaly(DataError):
    """A source holds far fewer rows than it should: half loaded, or cut."""

    def __init__(self, table: str, *, expected: str, found: str) -> None:
        self.table = table
        super().__init__(
            f"Table '{table}' must hold {expected} (row_count_anomaly); found {found}. "
            "Load it again, or run `tenure check --accept` if it is complete."
        )


class TooFewChurns(DataError):
    """Too few accounts were lost to learn from, or none of it can be judged."""

    def __init__(self, lost: int, *, needed: int, instants: int, advice: str) -> None:
        self.lost = lost
        if lost < needed:
            found = f"Training must see at least {needed} lost accounts; found {lost} in {instants} mature instants."
        else:
            found = (
                f"Training must have an instant at which {needed} losses were known and more came after; found none "
                f"among {instants} mature instants with {lost} lost accounts."
            )
        super().__init__(f"{found} {advice}")
