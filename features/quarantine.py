"""Rows that break a rule are set aside with table, source, row number and rule; nothing is dropped silently.

A row is set aside once, under the first rule it breaks. It comes back by itself when the source is mended:
the quarantine is made anew on every run and remembers only when a row was first seen in it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from features.csv_files import quoted
from features.errors import TooManyBadRows
from features.schema import Column, Table

SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("source", pa.string()),
        ("row_number", pa.int64()),
        ("row_hash", pa.string()),
        ("rule", pa.string()),
        ("reason", pa.string()),
        ("first_seen", pa.timestamp("us")),
    ]
)


@dataclass(frozen=True, kw_only=True)
class BrokenRule:
    """A predicate over a staged row, and what to say of a row for which it holds."""

    name: str
    broken: str
    reason: str
    """SQL text expression."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What became of the rows that the run before had set aside."""

    replayed: Mapping[str, int] = field(default_factory=dict)
    """By table, rows that are good now: mended in the source, or the account that they lacked is there."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """By table, rows that the source no longer holds."""
    remaining: int = 0
    remaining_since: datetime | None = None
    """When the oldest of the remaining rows was first set aside."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        since = None if self.remaining_since is None else f"{self.remaining_since:%Y-%m-%d}"
        return {"replayed": dict(self.replayed), "removed": dict(self.removed), "remaining": self.remaining,
                "remaining_since": since}  # fmt: skip


def row_rules(table: Table, present: Mapping[str, Any]) -> list[BrokenRule]:
    """The rules that a row of `table` can break by itself, in the order in which they are tried.

    A staged row has each mapped column twice: typed under its name and, as read, under `raw_` and its name.
    """
    rules = [rule for column in table.columns if column.name in present for rule in _column_rules(column)]
    for rule in table.rules:
        rules.append(BrokenRule(name=rule.name, broken=rule.broken, reason=quoted(rule.reason)))
    return rules


def _column_rules(column: Column) -> list[BrokenRule]:
    name, found = column.name, f"', found ' || coalesce(raw_{column.name}::varchar, 'nothing')"
    rules = []
    if column.required:
        empty = f"trim({name}) = '' or {name} is null" if column.kind in ("id", "text") else f"raw_{name} is null"
        rules.append(BrokenRule(name="required", broken=empty, reason=quoted(f"{name} must not be empty")))
    if column.kind in ("number", "boolean", "time"):
        unread = f"raw_{name} is not null and {name} is null"
        rules.append(BrokenRule(name="type", broken=unread, reason=f"'{name} must be a {column.kind}' || {found}"))
    if column.low is not None:
        below = f"{name} < {column.low}"
        rules.append(
            BrokenRule(name="range", broken=below, reason=f"'{name} must be at least {column.low:g}' || {found}")
        )
    if column.high is not None:
        above = f"{name} > {column.high}"
        rules.append(
            BrokenRule(name="range", broken=above, reason=f"'{name} must be at most {column.high:g}' || {found}")
        )
    if column.allowed:
        allowed = ", ".join(quoted(value) for value in column.allowed)
        reason = quoted(f"{name} must be one of {', '.join(column.allowed)}") + f" || {found}"
        rules.append(BrokenRule(name="enum", broken=f"{name} not in ({allowed})", reason=reason))
    return rules


def set_aside(rules: list[BrokenRule]) -> tuple[str, str]:
    """SQL of the first broken rule's name and reason; null for a good row."""
    if not rules:
        return "null::varchar", "null::varchar"
    names = " ".join(f"when {rule.broken} then {quoted(rule.name)}" for rule in rules)
    reasons = " ".join(f"when {rule.broken} then {rule.reason}" for rule in rules)
    return f"case {names} end", f"case {reasons} end"


def refuse_excess(table: str, rows: int, bad: pa.Table, limit: float) -> None:
    """Stop the run where more than `limit` of a table's rows would be set aside."""
    if not rows or bad.num_rows / rows <= limit:
        return
    counts = bad.group_by("rule").aggregate([("row_number", "count"), ("row_number", "min")]).to_pylist()
    worst = max(counts, key=lambda count: (count["row_number_count"], count["rule"]))
    first = next(row for row in bad.to_pylist() if row["row_number"] == worst["row_number_min"])
    example = f"row {first['row_number']}: {first['reason']}"
    raise TooManyBadRows(table, worst["rule"], bad=bad.num_rows, rows=rows, limit=limit, example=example)


def with_first_seen(bad: pa.Table, known: list[dict[str, Any]], now: datetime) -> pa.Table:
    """`bad` with the time each row was first set aside, from the rows `known` of the quarantine before."""
    seen = {(row["table"], row["row_hash"], row["rule"]): row["first_seen"] for row in known}
    now = now.replace(tzinfo=None)
    rows = [
        {**row, "first_seen": seen.get((row["table"], row["row_hash"], row["rule"]), now)} for row in bad.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def replayed(known: list[dict[str, Any]], found: pa.Table, shrunk: Mapping[str, int]) -> Replay:
    """What became of the rows `known` of the quarantine before, now that `found` is set aside.

    A mended row has other values than the one that was set aside, so the two are not matched: of the rows that are
    set aside no more as many count as removed as their table has `shrunk` by, and the others as replayed.
    """
    before = Counter((row["table"], row["row_hash"], row["rule"]) for row in known)
    rows = found.to_pylist()
    now = Counter((row["table"], row["row_hash"], row["rule"]) for row in rows)
    gone: Counter[str] = Counter()
    for (table, _, _), count in (before - now).items():
        gone[table] += count
    removed = {table: min(count, shrunk.get(table, 0)) for table, count in gone.items()}
    back = {table: count - removed[table] for table, count in gone.items()}
    stayed = before & now
    dates = [row["first_seen"] for row in rows if (row["table"], row["row_hash"], row["rule"]) in stayed]
    return Replay(
        replayed={table: count for table, count in sorted(back.items()) if count},
        removed={table: count for table, count in sorted(removed.items()) if count},
        remaining=stayed.total(),
        remaining_since=min(dates, default=None),
    )


def previous(path: Path) -> list[dict[str, Any]]:
    """The quarantine of the run before; a damaged one is made anew, and only the dates of first sight are lost."""
    try:
        return list(pq.read_table(path).to_pylist()) if path.is_file() else []
    except pa.ArrowInvalid:
        return []


def write(quarantine: pa.Table, path: Path) -> None:
    """Replace the quarantine at `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(f".{os.getpid()}")
    pq.write_table(quarantine, staged)
    os.replace(staged, path)


def nothing() -> pa.Table:
    """No rows, without `first_seen`."""
    return SCHEMA.remove(SCHEMA.get_field_index("first_seen")).empty_table()


def read_bad(backend: ibis.BaseBackend, query: str) -> pa.Table:
    """The rows that staging set aside, without `first_seen`."""
    found = backend.con.sql(f"from ({query}) order by row_number").to_arrow_table()
    return found.cast(nothing().schema)


def read_files(paths: list[Path]) -> pa.Table:
    """The rows that were set aside when usage was rolled up, without `first_seen`."""
    read = [pq.read_table(path, columns=nothing().schema.names).cast(nothing().schema) for path in paths]
    return pa.concat_tables([nothing(), *read])
