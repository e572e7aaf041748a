"""Rows that no feature may see at an instant, made from a company's own rows.

What to plant follows from the data contract alone: which columns are times, which of them tells when a row happened,
and which are outcomes, dates that come about after it. A table added to the contract is planted as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import lcm
from random import Random
from typing import Any

from features.schema import Column, Table
from features.staging import TIMES

Row = dict[str, Any]
DAY, INSTANT = timedelta(days=1), timedelta(microseconds=1)

AT, LATER, LATE = "happened at the instant", "happened later", "learned later"
VERSION, CLOSED = "newer version learned later", "outcome in a version learned later"
OUTCOME = "outcome dated later"
KINDS = (AT, LATER, LATE, VERSION, CLOSED, OUTCOME)
OPEN = "outcome still open"
"""Not forbidden: the twin of a row of the kind OUTCOME before anything came of it. Both tables compared hold one."""

GIVEN = frozenset({"term_end_at", "due_at", "released_at", "cohort_month", "ring_at", "period_start", "start_at"})
"""Dates planned beforehand, or that a row has from its first version; every other date of the contract that does not
say when the row happened is an outcome."""
_TOLD_WITH = {
    "responded_at": ("score", "comment"),
    "ended_at": ("end_reason",),
    "resolved_at": ("csat", "fulfilled"),
    "answered_at": ("accepted",),
    "done_at": ("outcome",),
}
"""Outcome → values that come with it."""
_WORD = re.compile(r"\w+")
_USUAL = 1e6
"""A bound beyond it is no value that a column would have."""
_FAR = 9000
"""Dates of such years stand for "never"; they stay where they are."""


@dataclass(frozen=True, kw_only=True)
class Planter:
    """Makes forbidden rows of one table around an instant."""

    table: Table
    as_of: datetime
    by_day: bool = False
    """Whether rows are dated by midnights, as rolled-up use is."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The columns that date what came of a row."""
        return tuple(
            column.name
            for column in self.table.columns
            if column.kind == "time" and not column.required and column.name not in {*GIVEN, *TIMES, self._anchor}
        )

    @property
    def _anchor(self) -> str:
        """The column that says when a row happened."""
        return str(next(name for name in _WORD.findall(self.table.event) if name != "coalesce"))

    @property
    def _new_ids(self) -> tuple[str, ...]:
        """The columns by which a row is another one and not a version of the same."""
        key = [name for name in self.table.key if name not in ("account_id", "known_at")]
        return tuple(column.name for column in self.table.columns if column.kind == "id" and column.name in key)

    def rows(self, templates: Sequence[Row], accounts: Sequence[str], number: int) -> Iterator[tuple[str, Row]]:
        """About `number` forbidden rows as kind and row, and the open twins of those of the kind OUTCOME.

        Parameters
        ----------
        templates : rows of the table with all columns of its contract, `event_at` and `known_at`
        accounts : around which the rows are planted, in turn
        """
        own: dict[str, list[Row]] = {}
        for row in templates:
            own.setdefault(row["account_id"], []).append(row)
        kinds = KINDS if self.outcomes else (AT, LATER, LATE, VERSION)
        for place in range(number):
            draw = Random(f"{self.table.name} {self.as_of} {place}")
            kind = kinds[place % len(kinds)]
            # Shifted now and then, or each account would always meet the same kinds.
            account = accounts[(place + place // lcm(len(kinds), len(accounts))) % len(accounts)]
            template = draw.choice(draw.choice((templates, own.get(account, templates))))
            if kind in (VERSION, CLOSED) or not self._new_ids:
                template = draw.choice(own.get(account, [{}]))
            if template:
                yield from self._of_kind(kind, {**template, "account_id": account}, f"planted-{place}", draw)

    def _of_kind(self, kind: str, template: Row, name: str, draw: Random) -> Iterator[tuple[str, Row]]:
        if kind == OUTCOME:
            yield from self._twins(template, name, draw)
        elif kind in (VERSION, CLOSED):
            yield kind, self._version(kind, template, draw)
        else:
            row = self._named(_moved(template, self._happened(kind, draw)), name, draw)
            yield kind, {**row, "known_at": self._known(kind, row["event_at"], draw)}

    def _happened(self, kind: str, draw: Random) -> datetime:
        least = DAY if self.by_day else INSTANT
        if kind == AT:
            return self.as_of
        if kind == LATER:
            return self.as_of + draw.choice((least, DAY, 7 * DAY, 40 * DAY, 90 * DAY))
        return self.as_of - draw.choice((least, DAY, 5 * DAY, 20 * DAY, 60 * DAY))

    def _known(self, kind: str, event_at: datetime, draw: Random) -> datetime:
        if kind == LATE:
            return self.as_of + draw.choice((DAY if self.by_day else INSTANT, DAY, 40 * DAY))
        # A clock may be wrong, or a fact be told before it happened; it is none at the instant for all that.
        return draw.choice((event_at, self.as_of, self.as_of - 10 * DAY))

    def _named(self, row: Row, name: str, draw: Random) -> Row:
        """`row` as another one than its template, every second time with other people, features and values too."""
        renewed = dict.fromkeys(self._new_ids, name)
        if draw.random() < 0.5:
            others = [column.name for column in self.table.columns if column.kind == "id"]
            renewed |= {column: name for column in others if column != "account_id" and row[column] is not None}
            row = self._altered(row)
        return {**row, **renewed}

    def _altered(self, row: Row) -> Row:
        values = {column.name: _other(column, row[column.name]) for column in self.table.columns}
        return {**row, **values}

    def _version(self, kind: str, template: Row, draw: Random) -> Row:
        """The template as it is told later, with outcomes before the instant or from it on."""
        event_at = template["event_at"]
        before = event_at + (min(self.as_of, event_at + 40 * DAY) - event_at) / 2
        at = before if kind == VERSION else self.as_of + draw.choice((timedelta(0), INSTANT, 20 * DAY))
        known_at = max(at, self.as_of) + draw.choice((INSTANT, DAY, 40 * DAY))
        dates = dict.fromkeys(self._chosen(draw), at)
        return {**self._altered(template), **dates, "known_at": known_at}

    def _twins(self, template: Row, name: str, draw: Random) -> Iterator[tuple[str, Row]]:
        """A row of which nothing has come yet, and the same with an outcome dated at the instant or later."""
        event_at = self.as_of - draw.choice((DAY, 5 * DAY, 20 * DAY, 27 * DAY))
        row = _moved(template, event_at) | dict.fromkeys(self._new_ids, name)
        # A version must be the newest that is known, or it would not be looked at.
        row["known_at"] = event_at if self._new_ids else self.as_of
        if self._anchor in row and self._anchor != "known_at":
            row[self._anchor] = event_at
        told = [(outcome, self._told_with(outcome)) for outcome in self.outcomes]
        blank = {column: None for outcome, others in told for column in (outcome, *others)}
        yield OPEN, {**row, **blank}
        chosen = self._chosen(draw)
        at = self.as_of + draw.choice((timedelta(0), INSTANT, 20 * DAY))
        values = {name: _some(self.table.column(name), row) for key, names in told if key in chosen for name in names}
        yield OUTCOME, {**row, **blank, **values, **dict.fromkeys(chosen, at)}

    def _chosen(self, draw: Random) -> tuple[str, ...]:
        """One outcome, now and then all of them."""
        turns = [(name,) for name in self.outcomes] + [self.outcomes]
        return draw.choice(turns)

    def _told_with(self, outcome: str) -> tuple[str, ...]:
        names = {column.name for column in self.table.columns}
        return tuple(name for name in _TOLD_WITH.get(outcome, ()) if name in names)


def _moved(row: Row, event_at: datetime) -> Row:
    """`row` as if it had happened at `event_at`: all its dates moved as far."""
    delta = event_at - row["event_at"]
    return {
        name: value + delta if isinstance(value, datetime) and value.year < _FAR else value
        for name, value in row.items()
    } | {"event_at": event_at}


def _other(column: Column, value: Any) -> Any:
    """Another value that the column may hold; keys and times stay."""
    if column.kind == "boolean":
        return not value
    if column.kind == "number":
        return _other_number(column, value)
    if column.kind == "text" and column.allowed:
        return next(choice for choice in column.allowed if choice != value)
    return f"{value}-later" if column.kind == "text" and value is not None else value


def _other_number(column: Column, value: Any) -> Any:
    low = column.low if column.low is not None and abs(column.low) < _USUAL else 0
    if value is None:
        return low
    other = value * 2 + 1
    return other if column.high is None or other <= column.high else low


def _some(column: Column, row: Mapping[str, Any]) -> Any:
    """A value of the column: the row's, else the least there can be."""
    value = row[column.name]
    if value is not None:
        return value
    if column.name == "score":
        return row["scale_min"] or 0.0
    return {"boolean": True, "number": _other_number(column, None)}.get(column.kind, "planted")
