"""The only place that makes a time window.

A feature at `as_of` sees rows with `event_at < as_of` and `known_at <= as_of`, over windows `[as_of - w, as_of)`;
an outcome counts in `(as_of, as_of + horizon]`. `age_days` is 1 for all of yesterday, so that a window of w days
holds the ages 1 to w.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import ibis
import ibis.expr.types as ir

DAY = timedelta(days=1)
NEVER = "9999-12-31"
"""Later than any instant."""
_BEGINNING = "0001-01-01"
"""Earlier than any row."""
_BITS = 62
"""Instants that the bits of one integer stand for."""
TIMESTAMP = "timestamp(6)"
"""UTC without a zone, to the microsecond."""


def midnight(day: date) -> datetime:
    """The instant at which `day` begins, in UTC without a zone."""
    return datetime(day.year, day.month, day.day)


def first_of_months(start: datetime, end: datetime) -> list[datetime]:
    """Every first of a month in [start, end], at midnight."""
    month = datetime(start.year, start.month, 1)
    months = []
    while month <= end:
        if month >= start:
            months.append(month)
        month = (month + 31 * DAY).replace(day=1)
    return months


def instants_table(backend: ibis.BaseBackend, instants: Sequence[datetime], *, name: str | None = None) -> ir.Table:
    """The instants as a table of the engine with the one column `as_of`."""
    for instant in instants:
        if instant != midnight(instant):
            raise ValueError(f"instants must be midnights in UTC, got {instant}. Ask for {midnight(instant)}.")
    listed = ", ".join(f"(timestamp '{instant}')" for instant in sorted(set(instants)))
    name = name or "instants_" + hashlib.sha256(listed.encode()).hexdigest()[:16]
    # Spark keeps a view: it has no table of its own without a place to put it.
    kind = "temporary view" if backend.name == "pyspark" else "table"
    backend.raw_sql(f"create or replace {kind} {name} as select as_of from (values {listed}) as v(as_of)")
    return backend.table(name)


def known_before(events: ir.Table, instants: ir.Table, *, within_days: int | None = None) -> ir.Table:
    """Each instant beside every row it may see, with `age_days`.

    Parameters
    ----------
    events : table with `event_at` and `known_at`
    instants : table with `as_of`
    within_days
        Leave out rows older than so many days; None keeps all of the past.
    """
    if within_days is None:
        joined = events.join(instants, [events.event_at < instants.as_of, events.known_at <= instants.as_of])
        return joined.mutate(age_days=age_days(joined.event_at, joined.as_of))
    # By the day: instants are midnights, and engines look days up much faster than they compare times.
    ages = instants.mutate(age=ibis.range(1, within_days + 1).unnest())
    days = ages.select(
        "as_of", age_days=ages.age.cast("int64"), day_seen=(ages.as_of - ages.age.as_interval("D")).date()
    )
    dated = events.mutate(day_seen=events.event_at.date())
    return dated.join(days, [dated.day_seen == days.day_seen, dated.known_at <= days.as_of]).drop(
        "day_seen", "day_seen_right"
    )


def gathered_before(events: ir.Table, instants: ir.Table, **values: Callable[[ir.Table], ir.Value]) -> ir.Table:
    """`known_before` for values that can be gathered in steps, such as the largest: much faster over a long past.

    The rows that one instant is the first to see become one row, and only that is laid beside all later instants.

    Parameters
    ----------
    values : name → aggregate of `events`; the caller aggregates once more, by account and instant

    Returns
    -------
    table of account_id, as_of and the values; several rows for each account and instant
    """
    before = instants.as_of.lag().over(ibis.window(order_by=instants.as_of)).fill_null(ibis.timestamp(_BEGINNING))
    steps = instants.mutate(before=before)
    # What happens at the very instant is not before it.
    told = events.mutate(told_at=ibis.greatest(events.known_at, events.event_at + ibis.interval(microseconds=1)))
    first = told.join(steps, [told.told_at > steps.before, told.told_at <= steps.as_of])
    rows = first.group_by("account_id", since=first.as_of).agg(**{name: of(first) for name, of in values.items()})
    return rows.join(instants, rows.since <= instants.as_of).drop("since")


@ibis.udf.agg.builtin  # type: ignore[untyped-decorator]
def bit_or(marks: int) -> int:  # type: ignore[empty-body]
    """The bits that are set in any of `marks`: a function of every engine, which ibis does not know of Spark."""


def numbered(instants: ir.Table) -> ir.Table:
    """The instants, each with a `bit` of its own in an integer; beyond so many in the next `block`."""
    number = ibis.row_number().over(ibis.window(order_by=instants.as_of))
    rows = instants.mutate(block=(number // _BITS).cast("int64"), place=(number % _BITS).cast("int64"))
    return rows.mutate(bit=ibis.literal(1, "int64") << rows.place).drop("place")


def marked_before(days: ir.Table, instants: ir.Table, **within_days: int) -> ir.Table:
    """Each row once, with the instants that may see it as bits: faster than `known_before` where keys are many.

    Parameters
    ----------
    days : table with `event_at` and `known_at`, both midnights, as roll-ups have them
    instants : what `numbered` gave
    within_days : name → longest age in days

    Returns
    -------
    `days` with `block` and an integer of each name: of the bits that `numbered` gave, those of the instants that see
    the row and whose window of so many days holds it. `bit_or` over rows says which instants see any of them.
    """
    ages = instants.mutate(age=ibis.range(1, max(within_days.values()) + 1).unnest())
    dated = ages.mutate(day_seen=(ages.as_of - ages.age.as_interval("D")).date())
    by_day = dated.group_by("block", "day_seen").agg(
        **{name: bit_or((dated.age <= longest).ifelse(dated.bit, 0)) for name, longest in within_days.items()}
    )
    told = days.select(told_at=days.known_at).distinct()
    after = told.join(instants, told.told_at <= instants.as_of)
    by_told = after.group_by("block", "told_at").agg(told=bit_or(after.bit))
    rows = days.mutate(day_seen=days.event_at.date(), told_at=days.known_at)
    rows = rows.join(by_day, "day_seen").join(by_told, ["told_at", "block"])
    marks = {name: rows[name] & rows.told for name in within_days}
    return rows.mutate(**marks).select(*days.columns, "block", *within_days)


def beside(rows: ir.Table, found: ir.Table) -> ir.Table:
    """`rows` with the columns of `found`, one row per account and instant, beside them; missing where it has none."""
    joined = rows.left_join(found, ["account_id", "as_of"])
    return joined.drop("account_id_right", "as_of_right")


def age_days(event_at: ir.TimestampValue, as_of: ir.TimestampValue) -> ir.IntegerValue:
    """Calendar days from the day of `event_at` to `as_of`: 1 for yesterday."""
    return as_of.date().delta(event_at.date(), unit="day")


def known_outcome(outcome_at: ir.TimestampValue, as_of: ir.TimestampValue) -> ir.TimestampValue:
    """`outcome_at` where it lies before `as_of`, else missing: what comes later is not known yet."""
    return ibis.ifelse(outcome_at < as_of, outcome_at, ibis.null(TIMESTAMP))


def in_window(at: ir.TimestampValue, as_of: ir.TimestampValue, *, days: int) -> ir.BooleanValue:
    """Whether `at` lies in `[as_of - days, as_of)`."""
    return (at < as_of) & (at >= as_of - ibis.interval(days=days))


def in_outcome_window(at: ir.TimestampValue, as_of: ir.TimestampValue, *, days: int) -> ir.BooleanValue:
    """Whether `at` lies in `(as_of, as_of + days]`."""
    return (at > as_of) & (at <= as_of + ibis.interval(days=days))


def mature_by(
    instants: Sequence[datetime], until: datetime, *, horizon_days: int, grace_days: int, delay_days: int
) -> list[datetime]:
    """The instants whose labels are final at `until`: window, grace and reporting delay are over."""
    needed = timedelta(days=horizon_days + grace_days + delay_days)
    return [instant for instant in instants if instant + needed <= until]


class Window:
    """Rows seen through a window: a column outside it reads as missing, so that any aggregate leaves it out.

    A measure is written for the window it is given (`day.core.sum()`); `days` narrows it to a part, by age.
    """

    def __init__(self, rows: ir.Table, first: int = 1, last: int | None = None) -> None:
        self._rows, self._first, self._last = rows, first, last

    def __getattr__(self, column: str) -> Any:
        value = self._rows[column]
        if self._last is None:
            return value
        inside = self._rows.age_days.between(self._first, self._last)
        return ibis.ifelse(inside, value, ibis.null(value.type()))

    def days(self, first: int, last: int) -> Window:
        """The part of the window with ages `first` to `last`, both included."""
        if self._last is not None and last > self._last:
            raise ValueError(f"days must end within the window of {self._last} days, got {last}.")
        return Window(self._rows, first, last)


def masked(rows: ir.Table, window: int | None) -> Window:
    """`rows` seen through the last `window` days, or through all of the past."""
    return Window(rows, 1, window)


def newest_before(events: ir.Table, instants: ir.Table, *key: str, within_days: int | None = None) -> ir.Table:
    """`known_before`, of each `key` the version alone that was known last: one row per account, key and instant."""
    rows = in_force(versions(events, *key), instants)
    if within_days is None:
        return rows
    return rows.filter(rows.event_at >= rows.as_of - ibis.interval(days=within_days))


def versions(events: ir.Table, *key: str) -> ir.Table:
    """`events` with `told_at` and `replaced_at`: from when on each is known, and from when on a later one of its `key`.

    A version holds until a later one is known and has happened, so each is looked at once, however many the instants.
    """
    later = ibis.window(
        group_by=["account_id", *key], order_by=[events.known_at, events.event_at], preceding=None, following=(1, None)
    )
    # What happens at the very instant is not before it.
    told = events.mutate(told_at=ibis.greatest(events.known_at, events.event_at + ibis.interval(microseconds=1)))
    return told.mutate(replaced_at=told.told_at.min().over(later).fill_null(ibis.timestamp(NEVER)))


def in_force(versions: ir.Table, instants: ir.Table, *same: str) -> ir.Table:
    """Each instant beside the versions that hold at it, with `age_days`; where both have `same` columns, equal ones."""
    seen = [
        versions.told_at <= instants.as_of,
        versions.replaced_at > instants.as_of,
        versions.event_at < instants.as_of,
        *(versions[name] == instants[name] for name in same),
    ]
    joined = versions.join(instants, seen).drop("told_at", "replaced_at", *(f"{name}_right" for name in same))
    return joined.mutate(age_days=age_days(joined.event_at, joined.as_of))
