"""The shape of a raw table, measured on a sample: what `features/drift.py` compares from run to run.

Nothing of a person is kept: of text columns only lengths and counts, and the values of enumerations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import ibis

from features.csv_files import quoted
from features.schema import Table
from features.settings import TableSource

SAMPLE = 5000
"""Rows that are looked at; a smaller table is looked at whole."""
READABLE = 0.5
"""Share of a text column's values that must read as a kind for it to be of that kind; the others are bad rows."""
MOST_VALUES = 50
_TEXT_KINDS = ("number", "boolean", "zoned", "date", "time")
_TYPES = {
    r"^(TINY|SMALL|BIG|HUGE|U\w*)?INT|^FLOAT|^DOUBLE|^DECIMAL": "number",
    "^BOOLEAN": "boolean",
    "^DATE": "date",
    "^TIMESTAMP WITH TIME ZONE": "zoned",
    "^TIMESTAMP": "time",
}


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """What one raw column looks like."""

    type: str
    """As the engine names it."""
    kind: str
    """What its values read as: number, boolean, date, time, zoned (a time with its offset), text, or empty."""
    nulls: float
    """Share of rows without a value."""
    decimal_comma: float
    """Share of values such as `12,50`."""
    distinct: float
    """Distinct values per value."""
    length: float
    """Mean characters of a value."""
    median: float | None
    """Of the sizes of a number column's values, zeros left out."""
    values: list[str] | None = None
    """The values of a column that the contract enumerates, in order."""


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """What one raw table looks like."""

    mapping: str
    """What tenure.toml says of the table; another mapping has another past."""
    rows: int
    columns: dict[str, ColumnFacts]
    """In the order of the source."""
    seen: str
    """Day of the look, as YYYY-MM-DD."""
    days: dict[str, int] = field(default_factory=dict)
    """Rows of each of the last days, by YYYY-MM-DD."""
    grade: str = "assumed"
    files: str = ""
    """Identity of the files that the rows were read from; empty where they do not say whether the rows changed."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> TableFacts:
        """From what `as_dict` gave."""
        columns = {name: ColumnFacts(**column) for name, column in facts["columns"].items()}
        return cls(**{**facts, "columns": columns})


def direct_columns(table: Table, source: TableSource, names: Mapping[str, Any]) -> dict[str, str]:
    """Raw column → the contract column that it is, where the mapping is a mere rename or none at all."""
    sources = {column.name: source.columns.get(column.name, column.name) for column in table.columns}
    return {raw: column for column, raw in sources.items() if raw in names}


def is_read(name: str, table: Table, source: TableSource) -> bool:
    """Whether the raw column `name` is read by the mapping of `table`, now or if it were there."""
    if name in {column.name for column in table.columns} - set(source.columns):
        return True
    used = (*source.columns.values(), source.loaded_at or "")
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", expression) for expression in used)


def mapping_of(source: TableSource) -> str:
    """What tenure.toml says of a table."""
    return repr((source.query, sorted(source.columns.items()), sorted(map(repr, source.values.items()))))


def measured(backend: ibis.BaseBackend, rows: str, *, table: Table, source: TableSource, seen: str) -> TableFacts:
    """The shape of the relation `rows`, which holds the raw rows of `table`."""
    backend.raw_sql(
        f"create or replace temp table shape_sample as select * from {rows} "
        f"using sample reservoir({SAMPLE} rows) repeatable (7)"
    )
    count = int(backend.raw_sql(f"select count(*) from {rows}").fetchall()[0][0])
    types = {row[0]: str(row[1]) for row in backend.raw_sql("describe shape_sample").fetchall()}
    sampled = min(count, SAMPLE)
    texts = _texts(backend) if sampled else {}
    direct = direct_columns(table, source, types)
    columns = {}
    for name, kind in types.items():
        facts = _column(kind, texts.get(name), sampled)
        enumerated = name in direct and bool(table.column(direct[name]).allowed)
        columns[name] = ColumnFacts(**facts, values=_values(backend, name) if enumerated else None)
    return TableFacts(mapping=mapping_of(source), rows=count, columns=columns, seen=seen)


def _texts(backend: ibis.BaseBackend) -> dict[str, dict[str, Any]]:
    """Per column of the sample, what its values read as; a column without any value is left out."""
    # A cast that fails is slow: only what begins as a date does is tried as one.
    begins = "v >= '0' and v < ':'"
    is_zoned = rf"length(v) > 10 and {begins} and regexp_matches(v, '(Z|[+-]\d\d(:?\d\d)?)$')"
    asked = {
        "n": "count(*)",
        "number": "count(try_cast(v as double))",
        "boolean": "count(*) filter (lower(v) in ('true', 'false', 't', 'f', 'yes', 'no', 'y', 'n'))",
        "zoned": f"count(case when {is_zoned} then try_cast(v as timestamptz) end)",
        "date": f"count(case when length(v) <= 10 and {begins} then try_cast(v as date) end)",
        "time": f"count(case when length(v) > 10 and {begins} and not ({is_zoned}) then try_cast(v as timestamp) end)",
        "decimal_comma": r"count(*) filter (regexp_matches(v, '^-?\d+(\.\d{3})*,\d+$'))",
        "distinct": "count(distinct v)",
        "length": "avg(length(v))",
        "median": "median(abs(nullif(try_cast(v as double), 0))) filter (isfinite(try_cast(v as double)))",
    }
    select = ", ".join(f'{sql} as "{name}"' for name, sql in asked.items())
    pairs = "unpivot (select columns(*)::varchar from shape_sample) on columns(*) into name name value value"
    rows = backend.raw_sql(
        f"select name, {select} from (select name, trim(value) as v from ({pairs})) group by name"
    ).fetchall()
    return {row[0]: dict(zip(asked, row[1:], strict=True)) for row in rows}


def _column(type_: str, text: Mapping[str, Any] | None, rows: int) -> dict[str, Any]:
    """The facts of a column, except its values."""
    if text is None:
        empty = {"kind": "empty", "nulls": 1.0, "decimal_comma": 0.0, "distinct": 0.0, "length": 0.0, "median": None}
        return {"type": type_, **empty}
    n = text["n"]
    kind = next((kind for pattern, kind in _TYPES.items() if re.search(pattern, type_)), None)
    kind = kind or next((kind for kind in _TEXT_KINDS if text[kind] >= READABLE * n), "text")
    return {
        "type": type_,
        "kind": kind,
        "nulls": round(1 - n / rows, 6),
        "decimal_comma": round(text["decimal_comma"] / n, 6),
        "distinct": round(text["distinct"] / n, 6),
        "length": round(text["length"], 3),
        "median": text["median"] if kind == "number" else None,
    }


def _values(backend: ibis.BaseBackend, name: str) -> list[str]:
    column = '"' + name.replace('"', '""') + '"'
    found = backend.raw_sql(
        f"select distinct {column}::varchar as v from shape_sample where {column} is not null "
        f"order by v limit {MOST_VALUES}"
    )
    return [row[0] for row in found.fetchall()]


def counted_days(backend: ibis.BaseBackend, rows: str, *, count: str, before: object, days: int) -> dict[str, int]:
    """Rows of each of the last `days` days of the relation `rows` that ended before `before`, by their `event_at`."""
    ended = f"event_at < {quoted(before)}::timestamp"
    # The last day first: with it the engine skips the months before, and a long history costs no more than a short one.
    ((last,),) = backend.raw_sql(f"select max(event_at)::date::varchar from {rows} where {ended}").fetchall()
    if last is None:
        return {}
    found = backend.raw_sql(
        f"select event_at::date::varchar as day, {count} as n from {rows} "
        f"where {ended} and event_at >= date {quoted(last)} - {days - 1} group by 1 order by 1"
    )
    return {row[0]: int(row[1]) for row in found.fetchall()}
