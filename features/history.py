"""How far the past of each table can be trusted, and how a table that is overwritten gets one.

A table is *recorded* where its rows say when they became known: `known_at`, `loaded_at`, the versions of a dbt
snapshot (`dbt_valid_from`, `dbt_valid_to`), or the copies of `tenure snapshot`, from their first day on. It is
*assumed* where they do not and a row counts as known when it happened, and *current_state* where the company says
(`history = "none"`) that rows are overwritten: then only what cannot change is known before tenure saw it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import ibis

from features.data_contract import table as contract_table
from features.errors import ConfigurationError
from features.nightly_copies import Copies, column_names, copied_rows, mapped_sql, read_manifest, row_key, take_copies
from features.schema import Table
from features.settings import Settings, TableSource
from features.sources import CLEAN, RAW, data_errors, raw_name
from features.staging import SQL_TYPES

GRADES = ("recorded", "assumed", "current_state")
"""From the best to the worst."""

OVERWRITTEN = (
    "accounts", "contracts", "contacts", "milestones", "tasks", "entitlements", "opportunities", "goals", "assignments",
)  # fmt: skip
"""Tables whose rows change in place where nothing says when they became known: `tenure snapshot` copies them."""

VERSIONED = (*OVERWRITTEN, "tickets", "invoices")
"""Tables that are read in the version known at an instant."""

IMMUTABLE = {
    "accounts": ("segment", "industry", "region", "parent_id", "started_at"),
    "contracts": ("contract_id",),
}
"""Columns that are not overwritten, unless `[tables.X] immutable` says otherwise; beside them the required columns and
the times of what happened, which the point-in-time law blanks while they lie ahead."""

PLANNED = ("term_end_at", "due_at", "stage_entered_at")
"""Times that are moved: what they said before is lost."""

ENDS = {"accounts": "churned_at", "contracts": "ended_at", "contacts": "left_at", "assignments": "to_at"}
"""Column that says when a row ended; a version that vanished ended then."""

_STARTS = {"contracts": "start_at", "assignments": "from_at"}
"""No row ends before it starts."""

DBT = ("dbt_valid_from", "dbt_valid_to")


@dataclass(frozen=True, kw_only=True)
class Past:
    """How far the past of one table can be trusted."""

    grade: Literal["recorded", "assumed", "current_state"]
    first_seen: datetime | None = None
    """When tenure first saw the rows that were there before it; None where they say themselves when they were known."""

    def __str__(self) -> str:
        since = self.grade == "recorded" and self.first_seen is not None
        return f"{self.grade} since {self.first_seen:%Y-%m-%d}" if since else self.grade


def grade_rank(grade: str) -> tuple[int, str]:
    """For `max`: the worst of several grades."""
    return GRADES.index(grade.split(" ")[0]), grade


def is_immutable(table: str, column: str, declared: Sequence[str] | None = None) -> bool:
    """Whether `column` of `table` keeps what it said also where the table is overwritten."""
    contract = contract_table(table)
    item = next((item for item in contract.columns if item.name == column), None)
    if item is None:
        return False
    happened = item.kind == "time" and column not in PLANNED
    lasting = IMMUTABLE.get(table, ()) if declared is None else declared
    return item.required or happened or column in contract.key or column in lasting


def with_pasts(backend: ibis.BaseBackend, settings: Settings, *, now: datetime) -> tuple[Settings, dict[str, Past]]:
    """The settings by which each table is read with its `known_at`, and the past that it then has.

    Tables of versions are laid down as `raw.NAME__query`, so that they are read like the result of a query.
    """
    copied, tables, pasts = read_manifest(settings), {}, {}
    for name, source in settings.tables.items():
        if source.history is not None and name not in VERSIONED:
            raise ConfigurationError(
                f"[tables.{name}] history must not be set, only {sorted(VERSIONED)} are overwritten; "
                f"found '{source.history}'. Map known_at if its rows arrive late."
            )
        _refuse_unknown_columns(name, source)
        with data_errors(name):
            tables[name], pasts[name] = _with_past(backend, name, settings, copied.get(name), now=now)
    return replace(settings, tables=tables), pasts


def _refuse_unknown_columns(name: str, source: TableSource) -> None:
    known = [column.name for column in contract_table(name).columns]
    if strangers := sorted(set(source.immutable or ()) - set(known)):
        raise ConfigurationError(
            f"[tables.{name}] immutable must name columns of the contract {sorted(known)}; found {strangers}."
        )


def _with_past(
    backend: ibis.BaseBackend, name: str, settings: Settings, copies: Copies | None, *, now: datetime
) -> tuple[TableSource, Past]:
    source, rows = settings.tables[name], raw_name(name, settings.tables[name])
    found = column_names(backend, rows)
    if source.history == "snapshot" and copies is not None:
        versions = copied_rows(settings, copies)
        read = _from_versions(backend, name, source, versions, now=now)
        return read, Past(grade="recorded", first_seen=copies.since)
    if source.history is not None:
        return _known_from(source, f"timestamptz '{now:%Y-%m-%d %H:%M:%S}+00'"), _unseen(now)
    if source.loaded_at is not None:
        return _known_from(source, source.loaded_at), Past(grade="recorded")
    if "known_at" in source.columns or "known_at" in found:
        return source, Past(grade="recorded")
    if found.issuperset(DBT):
        versions = _dbt_versions(contract_table(name), source, rows, found)
        return _from_versions(backend, name, source, versions, now=now), Past(grade="recorded")
    return source, Past(grade="assumed")


def _unseen(now: datetime) -> Past:
    return Past(grade="current_state", first_seen=now)


def _known_from(source: TableSource, sql: str) -> TableSource:
    return replace(source, columns={**source.columns, "known_at": sql})


def _dbt_versions(table: Table, source: TableSource, rows: str, found: set[str]) -> str:
    """SQL of a dbt snapshot in the form of our own copies."""
    key = ", ".join(f"({sql})::varchar" for sql in row_key(table, source, found, None).values())
    times = ", ".join(
        f"try_cast({theirs}::varchar as timestamptz) as {ours}"
        for theirs, ours in zip(DBT, ("tenure_valid_from", "tenure_valid_to"), strict=True)
    )
    return f"select *, md5(concat_ws(chr(31), {key})) as tenure_entity, {times} from {rows}"


def _from_versions(
    backend: ibis.BaseBackend, name: str, source: TableSource, versions: str, *, now: datetime
) -> TableSource:
    """Lay down the versions, each known from its day, and after one that vanished a last one that says so."""
    follows = "lead(tenure_valid_from) over (partition by tenure_entity order by tenure_valid_from)"
    ended = f"tenure_valid_to <= timestamptz '{now:%Y-%m-%d %H:%M:%S}+00'"
    backend.raw_sql(
        "create or replace temp table versions as "
        f"with numbered as (select *, row_number() over () as tenure_row from ({versions})), "
        f"followed as (select *, {follows} as tenure_next from numbered) "
        "select * exclude (tenure_next), null::timestamptz as tenure_vanished_at from followed union all by name "
        "select * exclude (tenure_next) replace (tenure_valid_to as tenure_valid_from, null as tenure_row), "
        "tenure_valid_to as tenure_vanished_at from followed "
        f"where {ended} and (tenure_next is null or tenure_next > tenure_valid_to)"
    )
    if source.query is not None:
        backend.raw_sql(f'alter table {RAW}."{name}__query" rename to "{name}__now"')
    else:
        backend.raw_sql(f'create view {RAW}."{name}__now" as select * from {raw_name(name, source)}')
    # In the order of the source, so that row numbers in the quarantine are its own.
    kept = "select * exclude (tenure_row) from versions order by tenure_row nulls last"
    backend.raw_sql(f'create table {RAW}."{name}__query" as {kept}')
    found = column_names(backend, f'{RAW}."{name}__query"')
    columns = {**source.columns, "known_at": "coalesce(tenure_valid_from::varchar, 'no time')"}
    columns |= _ends(contract_table(name), source, found)
    return replace(source, query=source.query or "", columns=columns)


def _ends(table: Table, source: TableSource, found: set[str]) -> dict[str, str]:
    """The mapping of the column that says when a row ended, so that it says it also of one that vanished."""
    column = ENDS.get(table.name)
    if column is None:
        return {}
    mapped = mapped_sql(column, source, found)
    if mapped is None and table.name == "accounts":
        # Whether an account left is told by its contracts; one that is only deleted did not churn.
        return {}
    vanished = "tenure_vanished_at"
    if start := mapped_sql(_STARTS.get(table.name, ""), source, found):
        started = f"try_cast(({start})::varchar as timestamptz)"
        vanished = f"case when tenure_vanished_at is not null then greatest(tenure_vanished_at, {started}) end"
    return {column: f"coalesce(({mapped or 'null'})::varchar, ({vanished})::varchar)"}


def add_what_was_known_before(backend: ibis.BaseBackend, settings: Settings, pasts: Mapping[str, Past]) -> None:
    """Of rows that were there when tenure first saw their table, say what cannot have changed since they began."""
    for name, past in pasts.items():
        if past.first_seen is None:
            continue
        table, source = contract_table(name), settings.tables[name]
        replaced = ["event_at as known_at"]
        for column in table.columns:
            if column.name != "known_at" and not is_immutable(name, column.name, source.immutable):
                replaced.append(f"null::{SQL_TYPES[column.kind]} as {column.name}")
        seen = f"timestamp '{past.first_seen}'"
        backend.raw_sql(
            f"insert into {CLEAN}.{name} by name select * replace ({', '.join(replaced)}) from {CLEAN}.{name} "
            f"where known_at = {seen} and event_at < {seen}"
        )


def snapshot(
    backend: ibis.BaseBackend, settings: Settings, grades: Mapping[str, str], *, now: datetime
) -> list[dict[str, Any]]:
    """Copy every table that is overwritten and does not say itself when its rows became known.

    `backend` is one in which the tables were opened, and so found whole: of a table that was cut, half the rows would
    seem to have ended. Returns per table what was new, changed and vanished, and since when there are copies.
    """
    relations = {}
    for name, source in settings.tables.items():
        overwritten = name in OVERWRITTEN and not grades[name].startswith("recorded")
        if source.history is not None or overwritten:
            # A table that is read from its copies has the source itself beside it.
            beside = source.history == "snapshot" and grades[name].startswith("recorded")
            relations[name] = f'{RAW}."{name}__now"' if beside else raw_name(name, source)
    return take_copies(backend, settings, relations, now=now)
