"""From raw files to clean tables: columns mapped and typed, bad rows set aside.

A clean table has every column of the contract (null where the source has none), `event_at`, when the fact
happened, and `known_at`, when the row reached the warehouse: where the source does not say, when it happened.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from features import drift, history, quarantine
from features.corrections import load_corrections
from features.csv_files import quoted
from features.data_contract import CONTRACT, USAGE
from features.errors import CannotWrite, ConfigurationError, DataError, EmptyTable
from features.identities import translated
from features.mapping import mapped_columns, zone
from features.schema import Table
from features.settings import Settings, TableSource
from features.sources import CLEAN, connect, data_errors, open_raw, raw_name
from features.staging import SQL_TYPES, TIMES, broken_rule, clean_columns, event, relations, staged_sql
from features.usage_store import open_nothing, open_usage

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
    grade: str
    """Whether the source says when each row became known, see `features/history.py`."""
    repeated: int = 0
    """Rows of `kept` that were delivered again, and count once."""

    @property
    def recorded(self) -> bool:
        """Whether the grade is `recorded`, be it since a day."""
        return self.grade.startswith("recorded")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The clean tables of one company, open in one engine."""

    backend: ibis.BaseBackend
    loaded: Mapping[str, Loaded]
    quarantine: pa.Table
    usage_period: str | None
    compiled: Path
    """Folder of compiled builds."""
    warnings: tuple[str, ...] = ()
    """What changed in the sources since the last run and does no harm."""
    replay: quarantine.Replay = field(default_factory=quarantine.Replay)
    """What became of the rows that the run before had set aside."""

    def __getitem__(self, name: str) -> ir.Table:
        """The clean table `name`, or a roll-up of usage; it has no rows where the source is not connected."""
        return self.backend.table("account_days" if name == "usage" else name, database=CLEAN)

    @property
    def shape(self) -> Hashable:
        """What queries over the tables depend on, beside the rows: the engine, and which columns there are."""
        columns = tuple((name, tuple(sorted(self.loaded[name].columns))) for name in sorted(self.loaded))
        return self.backend.name, columns, self.usage_period

    def has(self, name: str, column: str | None = None) -> bool:
        """Whether the source of `name` is connected and, if asked, carries `column`."""
        return name in self.loaded and (column is None or column in self.loaded[name].columns)


def open_tables(
    settings: Settings,
    *,
    now: datetime,
    accept: bool = False,
    full: bool = False,
    progress: Callable[[str], None] = lambda said: None,
) -> Tables:
    """Read every source, set bad rows aside, and write quarantine and profile once all tables passed.

    With `accept` the sources may differ from those of the last run.

    Usage is rolled up to days, and only what changed of it is read; `full` builds the roll-ups anew.

    Raises
    ------
    DataError
        A file or required column is missing, `accounts` is empty, too many rows break a rule, or a source is no longer
        shaped or filled as on the last run.
    """
    _refuse_strangers(settings)
    backend = connect(settings)
    open_raw(backend, settings)
    seen = drift.look(backend, settings, now=now, accept=accept)
    settings, pasts = history.with_pasts(backend, settings, now=now)
    loaded, bad = _load_all(backend, settings, pasts)
    _require_churn_source(loaded, settings)
    load_corrections(backend, settings, now=now)
    if "usage" in settings.tables:
        loaded["usage"], set_aside = _load_usage(backend, settings, pasts["usage"], full=full, progress=progress)
        bad["usage"] = set_aside
    else:
        open_nothing(backend)
    history.add_what_was_known_before(backend, settings, pasts)
    _add_csat_answers(backend, loaded)
    seen = drift.with_days(backend, seen, settings, now=now)
    in_order = [bad[table.name] for table in CONTRACT if table.name in bad]
    found, replay = _set_aside(pa.concat_tables(in_order), settings, seen, now=now)
    drift.remember(seen, settings, {name: table.grade for name, table in loaded.items()})
    return Tables(
        backend=backend,
        loaded=loaded,
        quarantine=found,
        usage_period=settings.tables["usage"].period if "usage" in loaded else None,
        compiled=settings.compiled_dir,
        warnings=seen.warnings,
        replay=replay,
    )


def _load_all(
    backend: ibis.BaseBackend, settings: Settings, pasts: Mapping[str, history.Past]
) -> tuple[dict[str, Loaded], dict[str, pa.Table]]:
    """All tables but usage, which is rolled up file by file; and the rows that were set aside."""
    loaded, bad = {}, {}
    for table in CONTRACT:
        if table is USAGE:
            continue
        if table.name in settings.tables:
            grade = str(pasts[table.name])
            loaded[table.name], bad[table.name] = _load(backend, table, settings, grade=grade)
        else:
            _create_empty(backend, table)
    return loaded, bad


def _set_aside(
    bad: pa.Table, settings: Settings, seen: drift.Seen, *, now: datetime
) -> tuple[pa.Table, quarantine.Replay]:
    """Write the quarantine; also what became of the rows that were in it before."""
    known = quarantine.previous(settings.state_dir / QUARANTINE_FILE)
    found = quarantine.with_first_seen(bad, known, now)
    _write(found, settings)
    return found, quarantine.replayed(known, found, drift.shrunk(seen))


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


def _require_churn_source(loaded: Mapping[str, Loaded], settings: Settings) -> None:
    if settings.label.kind == "silence":
        if "usage" not in settings.tables:
            raise DataError(
                "Table 'usage' must say who fell silent, where [label] kind is silence; found no [tables.usage]. "
                "Map use or purchases in tenure.toml."
            )
        return
    if "contracts" in loaded or "churned_at" in loaded["accounts"].columns:
        return
    raise DataError(
        "One source must say who left: table 'contracts', or a column 'churned_at' of table 'accounts'; "
        "found neither. Map one of them in tenure.toml, or, for a company without contracts, usage and "
        'write [label] kind = "silence".'
    )


def _write(found: pa.Table, settings: Settings) -> None:
    try:
        quarantine.write(found, settings.state_dir / QUARANTINE_FILE)
    except OSError as error:
        raise CannotWrite(
            f"The state directory {settings.state_dir} must be a folder that can be written; {error.strerror}. "
            "Free space, change its permissions, or set [state] dir."
        ) from error


def _load(backend: ibis.BaseBackend, table: Table, settings: Settings, *, grade: str) -> tuple[Loaded, pa.Table]:
    source = settings.tables[table.name]
    with data_errors(table.name):
        present = mapped_columns(backend, table, source, raw_name(table.name, source))
        backend.raw_sql(f"set TimeZone = {quoted(zone(table, source))}")
        try:
            rows, bad = _stage(backend, table, source, present)
        finally:
            backend.raw_sql("set TimeZone = 'UTC'")
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
        grade=grade,
    )
    return loaded, bad


def _stage(
    backend: ibis.BaseBackend, table: Table, source: TableSource, present: Mapping[str, str]
) -> tuple[int, pa.Table]:
    """Create `clean.NAME`; return how many rows were read, and those that were set aside."""
    staged = staged_sql(backend, table, source, present, raw_name(table.name, source))
    staged = translated(backend, table, source, staged, event(table, source))
    rule, reason = broken_rule(table, source, present)
    related = relations(table, present)
    judged = f"select row_number, {clean_columns(table, source)}, {rule} as rule from ({staged})"
    for relation in related:
        broken = f"case when {relation.broken} then {quoted(relation.name)} end"
        judged = f"select * replace (coalesce(rule, {broken}) as rule) from ({judged})"
    clean = f"{CLEAN}.{table.name}"
    backend.raw_sql(f"create or replace table {clean} as {judged}")
    rows, good = backend.raw_sql(f"select count(*), count(*) filter (rule is null) from {clean}").fetchall()[0]
    bad = quarantine.nothing()
    if good < rows:
        reasons = " ".join(f"when rule = {quoted(relation.name)} then {relation.reason}" for relation in related)
        why = f"coalesce({reason}, case {reasons} end)" if related else reason
        bad = quarantine.read_bad(
            backend,
            f'select {quoted(table.name)} as "table", {quoted(source.shown)} as source, row_number, row_hash, rule, '
            f"{why} as reason from ({staged}) join (from {clean} select row_number, rule where rule is not null) "
            "using (row_number)",
        )
        backend.raw_sql(f"delete from {clean} where rule is not null")
    for column in ("row_number", "rule"):
        backend.raw_sql(f"alter table {clean} drop column {column}")
    return rows, bad


def _load_usage(
    backend: ibis.BaseBackend, settings: Settings, past: history.Past, *, full: bool, progress: Callable[[str], None]
) -> tuple[Loaded, pa.Table]:
    usage = open_usage(backend, settings, full=full, progress=progress)
    source = settings.tables["usage"]
    bad = quarantine.read_files(usage.quarantines)
    rows, set_aside = usage.total("rows"), usage.total("set_aside")
    limit = settings.quarantine.limit if source.limit is None else source.limit
    quarantine.refuse_excess("usage", rows, bad, limit)
    loaded = Loaded(
        name="usage",
        source=source.shown,
        columns=usage.columns,
        rows=rows,
        kept=rows - set_aside,
        repeated=usage.total("repeated"),
        grade=str(past),
    )
    return loaded, bad


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
