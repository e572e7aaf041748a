"""Whether the sources are still what they were on the last run that went well.

Every run that went well leaves the shape of each table in `profile.json`; the next one compares before it writes
anything. A change that would make features mean something else stops the run, any other is told and passes.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from math import sqrt
from pathlib import Path
from statistics import median

import ibis

from features.data_contract import table as contract_table
from features.errors import ConfigurationError, RowCountAnomaly, SchemaDrift
from features.profile import (
    SAMPLE,
    ColumnFacts,
    TableFacts,
    counted_days,
    direct_columns,
    is_read,
    mapping_of,
    measured,
)
from features.schema import Table
from features.settings import Settings, TableSource, find_config, read_settings
from features.sources import CLEAN, data_errors, fingerprint, is_whole, raw_name
from features.state import replace_file

PROFILE_FILE = "profile.json"
DAYS = 35
"""Days of which the rows are counted: five of each day of the week."""
UNIT_FACTOR = 50
"""A median that moved this far is in another unit: minutes and seconds, euros and cents are 60 and 100 apart."""
HALF_DAY = 0.6
"""A day with at most this share of the rows usual for its weekday was loaded in part."""
FEW_VALUES = 10
"""So many values must be expected of a column before their absence says anything."""
FEW_ROWS = 20
"""A table with fewer rows may shrink as it likes, and a median of fewer values may move."""
SOME_COMMAS = 0.1
"""Share of values with a decimal comma that names it as the cause."""
EVENTS = ("tickets", "surveys", "touches", "emails")
"""Tables beside usage whose rows are counted by the day."""
_READS = {"number": ("number",), "boolean": ("boolean", "number"), "time": ("date", "time", "zoned")}
"""Kinds of values that a contract column of a kind can be read from."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The sources as this run found them, beside how the last one did."""

    before: Mapping[str, TableFacts]
    tables: Mapping[str, TableFacts]
    warnings: tuple[str, ...]


@dataclass
class _Changes:
    """What differs in one table."""

    breaking: list[str] = field(default_factory=list)
    harmless: list[str] = field(default_factory=list)


def look(backend: ibis.BaseBackend, settings: Settings, *, now: datetime, accept: bool = False) -> Seen:
    """Measure every raw table and compare it with the last run; with `accept`, whatever is there is right.

    A table whose files are those of the last run is as it was then, unless a query or a database stands between.

    Raises
    ------
    SchemaDrift, RowCountAnomaly
        A table changed in a way that would change what features mean. Nothing was written.
    """
    before = {} if accept else read_profile(settings)
    tables, warnings = {}, []
    for name, source in settings.tables.items():
        table, today = contract_table(name), f"{now:%Y-%m-%d}"
        # What a query or a database gives may change though no file of theirs does.
        files = "" if is_whole(source) else fingerprint(settings, name)
        if files and name in before and (before[name].files, before[name].mapping) == (files, mapping_of(source)):
            tables[name] = replace(before[name], seen=today)
            continue
        with data_errors(name):
            found = measured(backend, raw_name(name, source), table=table, source=source, seen=today)
        tables[name] = found = replace(found, files=files)
        if name not in before or before[name].mapping != found.mapping:
            continue
        warnings += [f"{name}: {change}" for change in _compared(before[name], found, table, source)]
    return Seen(before=before, tables=tables, warnings=tuple(warnings))


def _compared(before: TableFacts, found: TableFacts, table: Table, source: TableSource) -> list[str]:
    """The harmless changes; raises over the others."""
    # Of usage in several files only the newest is looked at, and that one begins small.
    in_files = table.name == "usage" and source.is_pattern
    if before.rows >= FEW_ROWS and found.rows * 2 <= before.rows and not in_files:
        expected = f"more than half of the {before.rows} rows of {before.seen}"
        raise RowCountAnomaly(table.name, expected=expected, found=f"{found.rows}")
    changes = _Changes()
    _compare_names(before, found, (table, source), changes)
    direct = direct_columns(table, source, found.columns)
    for name in before.columns.keys() & found.columns.keys():
        if is_read(name, table, source):
            mapped = direct.get(name)
            # Values that tenure.toml translates are read by their names alone.
            kind = None if mapped is None else "text" if mapped in source.values else table.column(mapped).kind
            _compare_column(name, kind, before, found, changes)
    if changes.breaking:
        raise SchemaDrift(table.name, sorted(changes.breaking), since=before.seen)
    return sorted(changes.harmless)


def _compare_names(
    before: TableFacts, found: TableFacts, contract: tuple[Table, TableSource], changes: _Changes
) -> None:
    added = {name: facts for name, facts in found.columns.items() if name not in before.columns}
    for name, facts in before.columns.items():
        if name in found.columns:
            continue
        if not is_read(name, *contract):
            changes.harmless.append(f"column '{name}', which nothing reads, is gone")
            continue
        alike = _lookalike(name, facts, added)
        hint = f", and the new column '{alike}' looks like it" if alike else ""
        changes.breaking.append(f"column '{name}' gone{hint}")
    changes.harmless += [f"column '{name}' is new" for name in added]
    kept = [name for name in before.columns if name in found.columns]
    if kept != [name for name in found.columns if name in before.columns]:
        changes.harmless.append("the columns stand in another order")


def _lookalike(name: str, facts: ColumnFacts, added: Mapping[str, ColumnFacts]) -> str | None:
    """The new column that is the old one under another name, judged by its values first and then by its name."""
    alike = [other for other, item in added.items() if _same_values(facts, item)]
    alike.sort(key=lambda other: difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio())
    if alike:
        return alike[-1]
    close = difflib.get_close_matches(name, added, n=1)
    return close[0] if close else None


def _same_values(one: ColumnFacts, other: ColumnFacts) -> bool:
    near = abs(one.nulls - other.nulls) <= 0.1 and abs(one.distinct - other.distinct) <= 0.25
    long = max(one.length, other.length) <= 1.5 * min(one.length, other.length)
    return one.kind == other.kind and near and long and not _is_other_unit(one.median, other.median, factor=2)


def _is_other_unit(one: float | None, other: float | None, *, factor: float) -> bool:
    return bool(one and other) and max(one or 0, other or 0) >= factor * min(one or 0, other or 0)


def _compare_column(name: str, kind: str | None, before: TableFacts, found: TableFacts, changes: _Changes) -> None:
    """`kind` is the contract's for a column that is mapped as it is, None for one that an expression reads."""
    old, new = before.columns[name], found.columns[name]
    if "empty" in (old.kind, new.kind):
        if new.kind == "empty" and (1 - old.nulls) * found.rows >= FEW_VALUES:
            changes.breaking.append(f"column '{name}' without any value")
        return
    if kind != "text" and (change := _retyped(kind, old, new)):
        changes.breaking.append(f"column '{name}' {change}")
    elif kind in ("number", None) and _moved(before, found, name):
        factor = (new.median or 0) / (old.median or 1)
        times = f"×{factor:g}" if factor > 1 else f"÷{1 / factor:g}"
        medians = f"from {old.median:g} to {new.median:g}"
        changes.breaking.append(f"column '{name}' in another unit, its median went {medians} ({times})")
    elif old.type != new.type:
        changes.harmless.append(f"column '{name}' is now of type {new.type}, before {old.type}")
    if old.nulls == 0 < new.nulls:
        changes.harmless.append(f"column '{name}' has rows without a value ({new.nulls:.1%})")
    if unknown := sorted(set(new.values or []) - set(old.values or [])):
        changes.harmless.append(f"column '{name}' has values it did not have: {', '.join(unknown)}")


def _retyped(kind: str | None, old: ColumnFacts, new: ColumnFacts) -> str | None:
    """What is wrong where the values can no longer be read as they were."""
    if kind == "id":
        # 001 is another account than 1.
        same = (old.type == "VARCHAR") == (new.type == "VARCHAR")
        return None if same else f"of ids as {new.type}, before {old.type}"
    if {old.kind, new.kind} == {"time", "zoned"}:
        offset = "with an offset to UTC, before without" if new.kind == "zoned" else "without the offset to UTC it had"
        return f"in another time zone, its times come {offset}"
    readable = _READS.get(kind or "")
    lost = old.kind in readable and new.kind not in readable if readable else _is_other_kind(old.kind, new.kind)
    if not lost:
        return None
    comma = ", its numbers have a decimal comma" if new.decimal_comma > SOME_COMMAS else ""
    return f"of another type, {new.kind} in place of {old.kind}{comma}"


def _is_other_kind(old: str, new: str) -> bool:
    return old != new and {old, new} != {"date", "time"}


def _moved(before: TableFacts, found: TableFacts, name: str) -> bool:
    """Whether the median of a number column is so far off that it must be in another unit."""
    old, new = before.columns[name], found.columns[name]
    enough = all(
        (1 - facts.nulls) * min(table.rows, SAMPLE) >= FEW_ROWS for facts, table in ((old, before), (new, found))
    )
    return enough and _is_other_unit(old.median, new.median, factor=UNIT_FACTOR)


def with_days(backend: ibis.BaseBackend, seen: Seen, settings: Settings, *, now: datetime) -> Seen:
    """`seen` with the rows of the last days of each table of events, once the clean tables are there.

    Raises
    ------
    RowCountAnomaly
        The last day was loaded in part.
    """
    tables = dict(seen.tables)
    for name, rows, count in _dated(settings):
        days = counted_days(backend, rows, count=count, before=now, days=DAYS + 1)
        before = seen.before.get(name)
        if before is not None and before.mapping == tables[name].mapping:
            _refuse_half_day(name, days, before)
        tables[name] = replace(tables[name], days=days)
    return replace(seen, tables=tables)


def _dated(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Tables whose rows are events of a day: name, relation, and SQL that counts."""
    for name in settings.tables:
        if name == "usage" and settings.tables[name].period != "month":
            yield name, f"{CLEAN}.account_days", "sum(events)"
        elif name in EVENTS:
            yield name, f"{CLEAN}.{name}", "count(*)"


def _refuse_half_day(name: str, days: Mapping[str, int], before: TableFacts) -> None:
    if not days:
        return
    last = max(days)
    weekdays = [(date.fromisoformat(last) - timedelta(weeks=back)).isoformat() for back in range(1, 6)]
    usual = [days[day] for day in weekdays if day in days]
    # A day that stood like this on a run that went well was complete, or was accepted.
    if len(usual) < 3 or before.days.get(last) == days[last]:
        return
    middle = median(usual)
    if days[last] <= HALF_DAY * middle and middle - days[last] >= 4 * sqrt(middle):
        expected = f"about {middle:g} rows on {last}, as on the same day of other weeks"
        raise RowCountAnomaly(name, expected=expected, found=f"{days[last]}")


def shrunk(seen: Seen) -> dict[str, int]:
    """By how many rows each table is shorter than on the last run."""
    both = seen.before.keys() & seen.tables.keys()
    return {name: max(0, seen.before[name].rows - seen.tables[name].rows) for name in both}


def read_profile(settings: Settings) -> dict[str, TableFacts]:
    """The tables as of the last run that went well; none where there was none, or where its file is damaged."""
    try:
        facts = json.loads((settings.state_dir / PROFILE_FILE).read_text(encoding="utf-8"))
        return {name: TableFacts.from_dict(table) for name, table in facts["tables"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def last_grades(config: Path | None, *, start: Path) -> dict[str, str]:
    """The grade of each table as of the last run; none where no company was read.

    The company is that of `config`, else the nearest one upwards from `start`, if its settings can be read.
    """
    try:
        settings = read_settings(config or find_config(start))
    except ConfigurationError:
        if config is not None:
            raise
        return {}
    return {name: facts.grade for name, facts in read_profile(settings).items()}


def remember(seen: Seen, settings: Settings, grades: Mapping[str, str]) -> None:
    """Leave the tables as this run found them to the next one."""
    tables = {name: replace(facts, grade=grades[name]).as_dict() for name, facts in seen.tables.items()}
    text = json.dumps({"tables": tables}, indent=1)
    replace_file(settings.state_dir / PROFILE_FILE, lambda staged: staged.write_text(text, encoding="utf-8"))
