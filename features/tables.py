"""From raw files to clean tables: columns mapped and typed, bad rows set aside.

A clean table has every column of the contract (null where the source has none), `event_at`, when the fact
happened, and `known_at`, when the row reached the warehouse: where the source does not say, when it happened.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import available_timezones

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from features import quarantine
from features.csv_files import quoted
from features.data_contract import CONTRACT
from features.errors import CannotWrite, ConfigurationError, DataError, EmptyTable, MissingColumns
from features.identities import translated, unmatched
from features.rollup import roll_up
from features.schema import Table
from features.settings import Settings, TableSource
from features.sources import CLEAN, connect, data_errors, open_raw, raw_name
from features.staging import SQL_TYPES, TIMES, clean_columns, event, relations, staged_sql

QUARANTINE_FILE = "quarantine.parquet"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What became of one source table."""

    name: str
    source: str
    columns: frozenset[str]
    """Contract columns that the source carries."""
    rows: int
    kept: int
    recorded: bool
    """Whether the source says when each row became known."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The clean tables of one company, open in one engine."""

    backend: ibis.BaseBackend
    loaded: Mapping[str, Loaded]
    quarantine: pa.Table
    usage_period: str | None

    def __getitem__(self, name: str) -> ir.Table:
        """The clean table `name`; it has no rows where the source is not connected."""
        return self.backend.table(name, database=CLEAN)

    @property
    def shape(self) -> Hashable:
        """What queries over the tables depend on, beside the rows: the engine, and which columns there are."""
        columns = frozenset((name, loaded.columns) for name, loaded in self.loaded.items())
        return self.backend.name, columns, self.usage_period

    def has(self, name: str, column: str | None = None) -> bool:
        """Whether the source of `name` is connected and, if asked, carries `column`."""
        return name in self.loaded and (column is None or column in self.loaded[name].columns)


def open_tables(settings: Settings, *, now: datetime) -> Tables:
    """Read every source, set bad rows aside, and write the quarantine once all tables passed.

    Raises
    ------
    DataError
        A file or required column is missing, `accounts` is empty, or too many rows break a rule.
    """
    _refuse_strangers(settings)
    backend = connect(settings)
    open_raw(backend, settings)
    loaded, bad = {}, []
    for table in CONTRACT:
        if table.name in settings.tables:
            loaded[table.name], set_aside = _load(backend, table, settings)
            bad.append(set_aside)
        else:
            _create_empty(backend, table)
    _require_churn_source(loaded)
    _add_csat_answers(backend, loaded)
    has_core = "usage" in loaded and "is_core" in loaded["usage"].columns
    roll_up(backend, f"{CLEAN}.usage", has_core=has_core)
    path = settings.state_dir / QUARANTINE_FILE
    found = quarantine.with_first_seen(pa.concat_tables(bad), path, now)
    _write(found, settings)
    period = settings.tables["usage"].period if "usage" in loaded else None
    return Tables(backend=backend, loaded=loaded, quarantine=found, usage_period=period)


def _refuse_strangers(settings: Settings) -> None:
    known = [table.name for table in CONTRACT]
    for name in settings.tables:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{close[0]}'? " if close else ""
            raise ConfigurationError(
                f"[tables] must name tables of the data contract {known}; found '{name}'. {hint}"
                f"For a raw file that only queries read, write [sources.{name}]."
            )
    if "accounts" not in settings.tables:
        raise DataError("Table 'accounts' must be mapped; found no [tables.accounts] in tenure.toml. Add it.")


def _require_churn_source(loaded: Mapping[str, Loaded]) -> None:
    if "contracts" in loaded or "churned_at" in loaded["accounts"].columns:
        return
    raise DataError(
        "One source must say who left: table 'contracts', or a column 'churned_at' of table 'accounts'; "
        "found neither. Map one of them in tenure.toml."
    )


def _write(found: pa.Table, settings: Settings) -> None:
    try:
        quarantine.write(found, settings.state_dir / QUARANTINE_FILE)
    except OSError as error:
        raise CannotWrite(
            f"The state directory {settings.state_dir} must be a folder that can be written; {error.strerror}. "
            "Free space, change its permissions, or set [state] dir."
        ) from error


def _load(backend: ibis.BaseBackend, table: Table, settings: Settings) -> tuple[Loaded, pa.Table]:
    source = settings.tables[table.name]
    with data_errors(table.name):
        present = _mapped_columns(backend, table, source)
        backend.raw_sql(f"set TimeZone = {quoted(_zone(table, source))}")
        try:
            rows = _stage(backend, table, source, present)
        finally:
            backend.raw_sql("set TimeZone = 'UTC'")
        bad = quarantine.read_bad(backend, f"bad_{table.name}")
    limit = settings.quarantine.limit if source.limit is None else source.limit
    if table.name == "accounts" and rows == bad.num_rows:
        raise EmptyTable("accounts", "account_id", set_aside=rows)
    quarantine.refuse_excess(table.name, rows, bad, limit)
    loaded = Loaded(
        name=table.name,
        source=source.shown,
        columns=frozenset(present),
        rows=rows,
        kept=rows - bad.num_rows,
        recorded="known_at" in present,
    )
    return loaded, bad


def _zone(table: Table, source: TableSource) -> str:
    if source.timezone not in available_timezones():
        raise ConfigurationError(
            f"[tables.{table.name}] timezone must be a name such as 'Europe/Berlin'; found '{source.timezone}'."
        )
    return source.timezone


def _mapped_columns(backend: ibis.BaseBackend, table: Table, source: TableSource) -> dict[str, str]:
    """Contract column → SQL over the raw columns, for all that the source carries."""
    described = backend.raw_sql(f"describe {raw_name(table.name, source)}").fetchall()
    found = {row[0] for row in described}
    known = {column.name for column in table.columns}
    if strangers := (set(source.columns) | set(source.values)) - known:
        raise ConfigurationError(
            f"[tables.{table.name}] columns and values must name columns of the contract {sorted(known)}; "
            f"found {sorted(strangers)}. Correct the names on the left."
        )
    mapped = {column: (f'"{text}"' if text in found else f"({text})") for column, text in source.columns.items()}
    mapped |= {column: f'"{column}"' for column in known & found if column not in mapped}
    missing = [column.name for column in table.columns if column.required and column.name not in mapped]
    missing += [" or ".join(group) for group in table.any_of if not set(group) & set(mapped)]
    if source.period is not None and "period_start" not in mapped:
        missing.append("period_start")
    if missing:
        raise MissingColumns(table.name, missing, found)
    _refuse_periods_without_end(table, source, mapped)
    return mapped


def _refuse_periods_without_end(table: Table, source: TableSource, mapped: Mapping[str, str]) -> None:
    if table.name != "usage" and source.period is not None:
        raise ConfigurationError(
            f"[tables.{table.name}] period must not be set, only usage comes in aggregates; found '{source.period}'."
        )
    if table.name == "usage" and source.period is None and "event_at" not in mapped:
        raise ConfigurationError(
            "[tables.usage] period must say what a row sums up, where rows have a period_start and no event_at; "
            'found none. Write period = "day" or period = "month".'
        )


def _stage(backend: ibis.BaseBackend, table: Table, source: TableSource, present: Mapping[str, str]) -> int:
    """Create `clean.NAME` and `bad_NAME`; return how many rows were read."""
    staged = staged_sql(backend, table, source, present)
    staged = translated(backend, table, source, staged, event(table, source))
    undated = quarantine.BrokenRule(
        name="required",
        broken=f"({event(table, source)}) is null",
        reason=quoted("the row must say when it happened"),
    )
    rule, reason = quarantine.set_aside([*unmatched(source), *quarantine.row_rules(table, present), undated])
    place = f'{quoted(table.name)} as "table", {quoted(source.shown)} as source'
    backend.raw_sql(
        f"create or replace table {CLEAN}.{table.name} as "
        f"select row_number, {clean_columns(table, source)} from ({staged}) where ({rule}) is null"
    )
    backend.raw_sql(
        f"create or replace table bad_{table.name} as "
        f"select {place}, row_number, row_hash, {rule} as rule, {reason} as reason "
        f"from ({staged}) where ({rule}) is not null"
    )
    for name, said, broken in relations(table, present):
        backend.raw_sql(f"create or replace temp table broken as {broken}")
        backend.raw_sql(
            f"insert into bad_{table.name} select {place}, row_number, row_hash, {quoted(name)}, {quoted(said)} "
            f"from ({staged}) where row_number in (select row_number from broken)"
        )
        backend.raw_sql(f"delete from {CLEAN}.{table.name} where row_number in (select row_number from broken)")
    backend.raw_sql(f"alter table {CLEAN}.{table.name} drop column row_number")
    return int(backend.raw_sql(f"select count(*) from {raw_name(table.name, source)}").fetchall()[0][0])


def _create_empty(backend: ibis.BaseBackend, table: Table) -> None:
    columns = [f"{column.name} {SQL_TYPES[column.kind]}" for column in table.columns if column.name not in TIMES]
    columns += [f"{name} timestamp" for name in TIMES]
    backend.raw_sql(f"create table {CLEAN}.{table.name} ({', '.join(columns)})")


def _add_csat_answers(backend: ibis.BaseBackend, loaded: Mapping[str, Loaded]) -> None:
    """Add the score a ticket carries to the surveys: kind csat, on the scale 1 to 5, given when it was resolved."""
    if "tickets" not in loaded or "csat" not in loaded["tickets"].columns:
        return
    # A ticket in several versions was scored once.
    backend.raw_sql(
        f"insert into {CLEAN}.surveys by name "
        "select account_id, 'csat' as kind, csat as score, 1 as scale_min, 5 as scale_max, 'ticket' as trigger, "
        "done_at as responded_at, done_at as event_at, greatest(known_at, done_at) as known_at "
        # By the resolution where there is one: a closing that comes days later must not take back what was known.
        f"from (select *, coalesce(resolved_at, closed_at) as done_at from {CLEAN}.tickets) "
        "where csat is not null and done_at is not null "
        "qualify row_number() over (partition by account_id, ticket_id order by known_at) = 1"
    )
