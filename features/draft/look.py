"""What a folder of raw files looks like: columns, what their values could be, value sets, keys and ranges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from features.csv_files import csv_reader, quoted
from features.data_contract import CONTRACT
from features.errors import DataError
from features.schema import Kind
from features.settings import DATABASE_SUFFIXES

FEW = 12
"""A column with at most so many values is a set of names; they are all looked at."""
_FLAGS = frozenset({"true", "false", "t", "f", "yes", "no", "y", "n", "0", "1", "0.0", "1.0"})


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a raw file."""

    name: str
    stored: str
    """The engine's type; VARCHAR for every column of a CSV."""
    filled: int
    """Rows with a value."""
    distinct: int
    low: str | None
    high: str | None
    is_number: bool
    is_whole: bool
    is_time: bool
    is_midnight: bool
    """Every time is a date."""
    is_month: bool
    """Every time is the first of a month."""
    values: tuple[str, ...]
    """All values where they are few, else some."""

    @property
    def words(self) -> str:
        """The name in small letters, words apart by an underscore."""
        return snake(self.name)

    def could_be(self, kind: Kind) -> bool:
        """Whether its values fit a column of the contract of that kind."""
        match kind:
            case "number":
                return self.is_number
            case "time":
                return self.is_time
            case "boolean":
                return 0 < len(self.values) <= 2 and {value.lower() for value in self.values} <= _FLAGS
        return not self.is_time or self.stored == "VARCHAR"


@dataclass(frozen=True, kw_only=True)
class File:
    """One raw file, or one table of a DuckDB file."""

    name: str
    """What it is called in `tenure.toml` where only queries read it."""
    place: dict[str, str]
    """`path`, and `table` of a DuckDB file."""
    reader: str
    """SQL that reads it."""
    rows: int
    columns: tuple[Column, ...]
    connection: duckdb.DuckDBPyConnection = field(repr=False, compare=False)

    @cached_property
    def by_words(self) -> dict[str, Column]:
        """Its columns by their names in words."""
        return {column.words: column for column in self.columns}

    def is_key(self, *columns: str) -> bool:
        """Whether no two rows have the same values there."""
        names = ", ".join(_name(column) for column in columns)
        query = f"select count(*) from (select distinct {names} from {self.reader})"
        return bool(self.rows and _one(self.connection, query)[0] == self.rows)

    def share(self, predicate: str) -> float:
        """The share of rows for which a predicate over its columns holds."""
        query = f"select avg(coalesce(({predicate})::int, 0)) from {self.reader}"
        return float(_one(self.connection, query)[0] or 0) if self.rows else 0.0


def look(folder: Path) -> list[File]:
    """All CSV, Parquet and DuckDB files of `folder`, by name.

    Raises
    ------
    DataError
        There are none, or one cannot be read.
    """
    connection = duckdb.connect()
    connection.execute("set autoinstall_known_extensions = false")
    found = []
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    for path in paths:
        try:
            found += _read(connection, path, short_names(paths)[path])
        except duckdb.Error as error:
            raise DataError(
                f"{path.name} must be a readable table; found: {str(error).splitlines()[0][:200]} "
                "Export it again, or move it away."
            ) from error
    if not found:
        raise DataError(f"{folder} must hold CSV, Parquet or DuckDB files; found none. Name the folder of your tables.")
    return found


def _read(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> list[File]:
    lowered = path.name.lower()
    if lowered.endswith((".csv", ".tsv", ".csv.gz")):
        return [_file(connection, name, {"path": path.name}, csv_reader(name, path))]
    if lowered.endswith(".parquet"):
        return [_file(connection, name, {"path": path.name}, f"read_parquet({quoted(path)})")]
    if lowered.endswith(DATABASE_SUFFIXES):
        return _database(connection, path, name)
    return []


def _database(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> list[File]:
    connection.execute(f"attach {quoted(path)} as {_name(name)} (type duckdb, read_only)")
    tables = connection.execute(
        "select table_schema, table_name from information_schema.tables "
        f"where table_catalog = {quoted(name)} order by all"
    ).fetchall()
    return [
        _file(connection, table, place, ".".join(_name(part) for part in (name, schema, table)))
        for schema, table in tables
        for place in [{"path": path.name, "table": f"{schema}.{table}"}]
    ]


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each file: its own, without a beginning that all share and without numbers at the end."""
    names = {path: re.sub(r"(_\d+)+$", "", snake(path.name.split(".")[0])) for path in paths}
    words = [name.split("_") for name in names.values()]
    shared = 0
    while len(words) > 1 and all(len(item) > shared + 1 and item[shared] == words[0][shared] for item in words):
        shared += 1
    short = {path: "_".join(name.split("_")[shared:]) for path, name in names.items()}
    # A query that makes a table could not tell the file from the table if both had one name.
    taken = {table.name for table in CONTRACT}
    return {path: f"{name}_file" if name in taken else name for path, name in short.items()}


def snake(name: str) -> str:
    """`CustomerID` and `Customer Id` as `customer_id`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^0-9a-z]+", "_", apart.lower()).strip("_")


def _file(connection: duckdb.DuckDBPyConnection, name: str, place: dict[str, str], reader: str) -> File:
    described = connection.execute(f"describe select * from {reader}").fetchall()
    rows = _one(connection, f"select count(*) from {reader}")[0]
    columns = tuple(_column(connection, row[0], row[1], reader) for row in described)
    return File(name=name, place=place, reader=reader, rows=rows, columns=columns, connection=connection)


def _column(connection: duckdb.DuckDBPyConnection, name: str, stored: str, reader: str) -> Column:
    value = _name(name)
    text = f"trim({value}::varchar)"
    # A date begins with its year; numbers are no dates, whatever the engine would make of them.
    begins = "^[12][0-9]{3}-[01][0-9]-[0-3][0-9]"
    moment = f"case when regexp_matches({text}, '{begins}') then try_cast({text} as timestamp) end"
    number = "null" if stored.startswith(("TIMESTAMP", "DATE", "BOOLEAN")) else f"try_cast({text} as double)"
    filled, numbers, wholes, times, midnights, months, distinct, low, high = _one(
        connection,
        f"select count({value}), count(n), count(*) filter (n = floor(n)), count(t), "
        "count(*) filter (t = date_trunc('day', t)), count(*) filter (t = date_trunc('month', t)), "
        f"count(distinct {value}), coalesce(min(t)::varchar, min(n)::varchar, min({text})), "
        f"coalesce(max(t)::varchar, max(n)::varchar, max({text})) "
        f"from (select {value}, {number} as n, {moment} as t from {reader})",
    )  # fmt: skip
    # Values alone: their order would show who is who.
    some = f"select distinct {text} as v from {reader} where {value} is not null order by v limit {FEW}"
    return Column(
        name=name,
        stored=stored,
        filled=filled,
        distinct=distinct,
        low=low,
        high=high,
        is_number=0 < filled == numbers,
        is_whole=0 < filled == wholes,
        is_time=0 < filled == times,
        is_midnight=0 < filled == midnights,
        is_month=0 < filled == months,
        values=tuple(row[0] for row in connection.execute(some).fetchall()),
    )


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    return connection.execute(query).fetchall()[0]


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
