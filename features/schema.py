"""How a table of the data contract is described: columns, keys and rules, as data.

A column that a table does not carry is missing (null), never zero. Times are UTC; a date is its midnight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["id", "text", "number", "boolean", "time"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A row for which `broken` holds is set aside under `name`."""

    name: str
    broken: str
    """SQL predicate over the typed columns; null counts as kept."""
    reason: str
    """What is wrong, in words, for the reader of the quarantine."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the contract."""

    name: str
    kind: Kind
    required: bool = False
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """One source table of the contract."""

    name: str
    grain: str
    columns: tuple[Column, ...]
    event: str
    """SQL for `event_at`: when the fact happened. A row counts at instants after it."""
    key: tuple[str, ...] = ()
    any_of: tuple[tuple[str, ...], ...] = ()
    """Of each group at least one column must be there."""
    rules: tuple[Rule, ...] = ()
    costs: str = ""
    """What is missing where the table is."""

    def column(self, name: str) -> Column:
        """The column called `name`."""
        return next(column for column in self.columns if column.name == name)


def ident(name: str, *, required: bool = False) -> Column:
    """A column of ids, kept byte for byte."""
    return Column(name=name, kind="id", required=required)


def text(name: str, *allowed: str) -> Column:
    """A column of text; with `allowed`, of these values alone."""
    return Column(name=name, kind="text", allowed=allowed)


def time(name: str, *, required: bool = False) -> Column:
    """A column of instants."""
    return Column(name=name, kind="time", required=required)


def flag(name: str) -> Column:
    """A column of yes and no."""
    return Column(name=name, kind="boolean")


LARGEST = 1e11
"""No sum of seats, minutes or money of one row comes near; a larger number is a slip."""


def number(name: str, *, low: float = -LARGEST, high: float = LARGEST, required: bool = False) -> Column:
    """A column of numbers in [low, high]."""
    return Column(name=name, kind="number", low=low, high=high, required=required)


def order(later: str, earlier: str) -> Rule:
    """No fact comes before the one it follows."""
    return Rule(name="time_order", broken=f"{later} < {earlier}", reason=f"{later} must not be before {earlier}")
