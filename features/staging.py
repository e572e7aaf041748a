"""SQL that turns a raw table into the contract's: columns mapped, values translated and typed, times made UTC."""

from __future__ import annotations

from collections.abc import Mapping

import ibis

from features import quarantine
from features.csv_files import quoted
from features.identities import unmatched
from features.schema import Column, Table
from features.settings import TableSource
from features.sources import CLEAN

SQL_TYPES = {
    "id": "varchar",
    "text": "varchar",
    "number": "double",
    "boolean": "boolean",
    "time": "timestamp",
}
TIMES = ("event_at", "known_at")
"""Columns that every clean table has beside its own."""


def staged_sql(
    backend: ibis.BaseBackend, table: Table, source: TableSource, present: Mapping[str, str], raw: str
) -> str:
    """Every column of the contract, typed; beside it, as read, each mapped one under `raw_` and its name.

    `raw` is a table, view or reader of the raw rows. `row_number` and `row_hash` cost a pass of their own over the
    rows: a query that does not ask for them does not pay.
    """
    mapped = ", ".join(f"{sql} as {name}" for name, sql in present.items())
    read = f"select row_number() over () as row_number, {mapped} from {raw}"
    kinds = {row[0]: row[1] for row in backend.raw_sql(f"describe {read}").fetchall()}
    given = ", ".join(f"{_as_given(name, source)} as {name}" for name in present)
    row = " || chr(31) || ".join(f"coalesce({name}::varchar, chr(0))" for name in sorted(present))
    meant = f"select row_number, md5({row}) as row_hash, {given} from ({read}) as mapped"
    typed = [
        f"{_typed(column, kinds[column.name], source)} as {column.name}"
        if column.name in present
        else f"null::{SQL_TYPES[column.kind]} as {column.name}"
        for column in table.columns
    ]
    raw_values = [f"meant.{name} as raw_{name}" for name in present]
    return f"select row_number, row_hash, {', '.join(typed + raw_values)} from ({meant}) as meant"


def broken_rule(table: Table, source: TableSource, present: Mapping[str, str]) -> tuple[str, str]:
    """SQL of the name and the reason of the first rule that a staged row breaks by itself; null for a good row."""
    undated = quarantine.BrokenRule(
        name="required",
        broken=f"({event(table, source)}) is null",
        reason=quoted("the row must say when it happened"),
    )
    return quarantine.set_aside([*unmatched(source), *quarantine.row_rules(table, present), undated])


def relations(table: Table, present: Mapping[str, str]) -> list[quarantine.BrokenRule]:
    """Rules that need other rows: predicates over rows with their `row_number` and the `rule` broken so far."""
    found = []
    if table.name != "accounts":
        stranger = f"account_id not in (select account_id from {CLEAN}.accounts)"
        said = quoted("account_id is in no row of accounts")
        found.append(quarantine.BrokenRule(name="unknown_account", broken=stranger, reason=said))
    if table.key:
        key = ", ".join(name for name in table.key if name in present)
        # A row that broke another rule is not the earlier one of a good row.
        again = f"row_number() over (partition by {key}, rule is null order by row_number) > 1"
        said = quoted(f"an earlier row has the same {key}")
        found.append(quarantine.BrokenRule(name="duplicate_key", broken=again, reason=said))
    return found


def event(table: Table, source: TableSource) -> str:
    """When a staged row's fact happened."""
    if source.period is None:
        return f"({table.event})"
    # An aggregate is complete, and known, only when its period is over.
    return f"(period_start + interval 1 {source.period} - interval 1 microsecond)"


def clean_columns(table: Table, source: TableSource) -> str:
    """The contract's columns of a staged row, with `event_at` and `known_at`."""
    names = [column.name for column in table.columns if column.name not in TIMES]
    happened, known = event(table, source), "known_at"
    if source.period is not None:
        known = f"coalesce(known_at, period_start + interval 1 {source.period})"
    return ", ".join(
        [*names, f"{happened}::timestamp as event_at", f"coalesce({known}, {happened})::timestamp as known_at"]
    )


def _as_given(name: str, source: TableSource) -> str:
    """The column, or what `[tables.X.values]` says its values mean."""
    if name not in source.values:
        return name
    cases = " ".join(f"when {quoted(given)} then {quoted(meant)}" for given, meant in source.values[name].items())
    return f"case {name}::varchar {cases} else {name}::varchar end"


def _typed(column: Column, kind: str, source: TableSource) -> str:
    value = f"meant.{column.name}"
    match column.kind:
        case "number":
            number = f"try_cast({value} as double)"
            return f"case when isfinite({number}) then {number} end"
        case "boolean" if kind == "BOOLEAN":
            return value
        case "boolean":
            text = f"lower(trim({value}::varchar))"
            return (
                f"case when {text} in ('true', 't', '1', '1.0', 'yes', 'y') then true "
                f"when {text} in ('false', 'f', '0', '0.0', 'no', 'n') then false end"
            )
        case "time":
            return _instant(value, kind, source.timezone)
    return f"{value}::varchar"


def _instant(value: str, kind: str, timezone: str) -> str:
    """A UTC timestamp. A date is its midnight in UTC, whatever the time zone of the timestamps beside it."""
    is_zoned = kind == "TIMESTAMP WITH TIME ZONE"
    text = f"trim({value}::varchar)"
    if kind == "DATE" or (kind.startswith("TIMESTAMP") and not is_zoned and timezone == "UTC"):
        read = f"{value}::timestamp"
    elif kind.startswith("TIMESTAMP"):
        read = f"{value}::timestamptz at time zone 'UTC'"
    else:
        read = (
            f"case when length({text}) <= 10 then try_cast({text} as date)::timestamp "
            f"else try_cast({text} as timestamptz) at time zone 'UTC' end"
        )
    # A year of two digits would be read as one of antiquity.
    return f"case when {read} between timestamp '1900-01-01' and timestamp '9999-12-31 23:59:59' then {read} end"
