"""The raw files behind the tables: opened as views of one DuckDB, nothing read yet.

Values of a CSV stay text until the contract gives them a type, so `001`, `NA` and `None` remain ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir

from features.csv_files import csv_fault, csv_reader, quoted
from features.errors import ConfigurationError, DataError, MissingSource
from features.settings import Settings, TableSource

RAW, CLEAN = "raw", "clean"


def connect(settings: Settings) -> ibis.BaseBackend:
    """An engine in memory that spills to the state directory and never fetches an extension."""
    backend = ibis.duckdb.connect()
    run = backend.raw_sql
    run("set autoinstall_known_extensions = false")
    run("set TimeZone = 'UTC'")
    run(f"set temp_directory = {quoted(settings.state_dir / 'spill')}")
    run(f"create schema {RAW}")
    run(f"create schema {CLEAN}")
    return backend


def open_raw(backend: ibis.BaseBackend, settings: Settings) -> None:
    """Make a view `raw.NAME` of every file that `tenure.toml` names, then run the queries over them."""
    named = {**settings.sources, **settings.tables}
    for name, source in named.items():
        if source.path is not None:
            _open_file(backend, name, settings.resolve(source.path), source.path)
    for name, source in named.items():
        # The query of usage may be long: it is run only when what it reads has changed.
        if source.query is not None and name != "usage":
            run_query(backend, name, source)


def _open_file(backend: ibis.BaseBackend, name: str, path: Path, shown: str) -> None:
    if not path.is_file():
        raise MissingSource(name, shown)
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".gz":
            reader = csv_reader(name, path)
        case ".parquet":
            reader = f"read_parquet({quoted(path)})"
        case _:
            raise ConfigurationError(
                f"[tables.{name}] path must end in .csv, .tsv, .csv.gz or .parquet; found '{path.name}'. "
                "Export the table in one of these."
            )
    with data_errors(name):
        backend.raw_sql(f'create view {RAW}."{name}" as select * from {reader}')


def run_query(backend: ibis.BaseBackend, name: str, source: TableSource) -> None:
    """Run the query of `name` over the raw views, and keep its rows."""
    # Materialised, so that row numbers in the quarantine stay the same however often it is read.
    with data_errors(name):
        backend.raw_sql(f"set search_path = '{RAW}'")
        try:
            backend.raw_sql(f'create or replace table {RAW}."{name}__query" as {source.query}')
        finally:
            backend.raw_sql("set search_path = 'main'")


def files(settings: Settings, name: str) -> tuple[Path, ...]:
    """The files that the raw rows of `name` are made of; of a query all files of the company."""
    source = {**settings.sources, **settings.tables}[name]
    if source.path is not None:
        import glob

        return tuple(Path(path) for path in sorted(glob.glob(str(settings.resolve(source.path)))))
    named = {**settings.sources, **settings.tables}
    return tuple(settings.resolve(item.path) for item in named.values() if item.path is not None)


def reader(name: str, path: Path) -> str:
    """SQL that reads one file."""
    return csv_reader(name, path) if path.suffix.lower() != ".parquet" else f"read_parquet({quoted(path)})"


def is_whole(source: TableSource) -> bool:
    """Whether the rows of `source` can only be read all together."""
    return source.query is not None


def raw_name(name: str, source: TableSource) -> str:
    """The qualified view or table that holds the raw rows of `name`."""
    return f'{RAW}."{name}__query"' if source.query is not None else f'{RAW}."{name}"'


def stored(backend: ibis.BaseBackend, name: str, rows: ir.Table) -> ir.Table:
    """`rows` computed now and kept as the table `name`."""
    keep(backend, name, backend.compile(rows))
    return backend.table(name)


def keep(backend: ibis.BaseBackend, name: str, sql: str) -> None:
    """Compute a query now and keep its rows as the table `name`."""
    backend.raw_sql(f"create or replace table {name} as {sql}")


def is_stored(backend: ibis.BaseBackend, name: str) -> bool:
    """Whether a table `name` was kept before."""
    query = f"select count(*) from duckdb_tables() where schema_name = 'main' and table_name = {quoted(name)}"
    return bool(backend.raw_sql(query).fetchall()[0][0])


@contextmanager
def data_errors(table: str) -> Iterator[None]:
    """Say which table an engine error belongs to, in one sentence."""
    try:
        yield
    except duckdb.Error as error:
        if faulty := re.search(r"CSV Error.*^ *file = (.+?)$", str(error), re.DOTALL | re.MULTILINE):
            raise DataError(csv_fault(table, Path(faulty[1]))) from error
        detail = " ".join(str(error).split("LINE 1:")[0].split())
        raise DataError(
            f"Table '{table}' must be readable as [tables.{table}] of tenure.toml says; found: {detail[:400]} "
            "Correct the file, its columns or the mapping."
        ) from error
