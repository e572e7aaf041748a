"""The raw rows behind the tables: files, DuckDB files and copies of a server's tables, opened as views of one DuckDB.

Values of a CSV stay text until the contract gives them a type, so `001`, `NA` and `None` remain ids.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir

from features.copies import copied_files
from features.csv_files import csv_columns, csv_fault, csv_reader, quoted
from features.erased import read_register, register_path
from features.erased_files import erase_from_copies
from features.erasure import open_register, rows_without_erased
from features.errors import ConfigurationError, DataError, DependencyDown, MissingSource
from features.postgres import copy_table
from features.settings import Settings, TableSource

RAW, CLEAN = "raw", "clean"
_CSV = (".csv", ".tsv", ".gz")
_FOOTER = 65_536
"""Bytes at the end of a file: a Parquet's schema and statistics lie there."""


def engine(settings: Settings) -> ibis.BaseBackend:
    """An engine in memory that spills to the state directory and never fetches an extension."""
    backend = ibis.duckdb.connect()
    run = backend.raw_sql
    run("set autoinstall_known_extensions = false")
    # The bar would write to standard output, which belongs to --json. In a notebook, where it is drawn by a package
    # that we do not ask for, the engine refuses to be told.
    with suppress(duckdb.InvalidInputException):
        run("set enable_progress_bar_print = false")
    run("set TimeZone = 'UTC'")
    run(f"set temp_directory = {quoted(settings.state_dir / 'spill')}")
    run(f"set memory_limit = {quoted(settings.engine.memory)}")
    if settings.engine.threads:
        run(f"set threads = {settings.engine.threads}")
    return backend


def connect(settings: Settings) -> ibis.BaseBackend:
    """An `engine` with a schema for the raw tables and one for the clean ones; it knows who was erased."""
    backend = engine(settings)
    for schema in (RAW, CLEAN):
        backend.raw_sql(f"create schema {schema}")
    open_register(backend, read_register(settings.state_dir))
    return backend


def open_raw(backend: ibis.BaseBackend, settings: Settings) -> None:
    """Make a view `raw.NAME` of everything that `tenure.toml` names, then run the queries over it.

    Raises
    ------
    DataError
        A file or table is missing or cannot be read.
    DependencyDown
        A server does not answer, or another program writes to a DuckDB file.
    """
    named = {**settings.sources, **settings.tables}
    opened = _attached(backend, settings, named)
    for name, source in named.items():
        if source.url is not None:
            copy_table(name, source, settings.state_dir)
            erase_from_copies(backend, name, source, settings.state_dir)
        if rows := _rows(name, source, settings, opened):
            with data_errors(name):
                kept = rows if source.is_computed else rows_without_erased(backend, name, source, rows)
                backend.raw_sql(f'create view {RAW}."{name}" as select * from {kept}')
    for name, source in named.items():
        if source.is_computed:
            run_query(backend, settings, name)


def files(settings: Settings, name: str) -> tuple[Path, ...]:
    """The files, in the order in which they are read, that the raw rows of `name` are made of.

    A query may read any of the company's files, so these are all of them.
    """
    source = {**settings.sources, **settings.tables}[name]
    if source.url is not None:
        return copied_files(name, settings.state_dir)
    if source.path is not None and (source.is_database or source.query is None):
        return _found(name, settings.resolve(source.path), source.path)
    named = {**settings.sources, **settings.tables}
    others = [other for other, item in named.items() if not item.is_computed or item.is_database]
    own = () if source.path is None else _found(name, settings.resolve(source.path), source.path)
    return tuple(dict.fromkeys(itertools.chain(own, *(files(settings, other) for other in others))))


def signature(path: Path) -> dict[str, Any]:
    """What tells whether a file is still the same: its size, its time and its end."""
    try:
        stat = path.stat()
        with path.open("rb") as file:
            file.seek(max(0, stat.st_size - _FOOTER))
            footer = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} must be a file that can be read; {error.strerror}. Change its permissions.") from error
    return {"size": stat.st_size, "time": stat.st_mtime_ns, "footer": footer}


def fingerprint(settings: Settings, name: str) -> str:
    """Identity of the files behind the raw view of `name` and of the register of the erased: with it the rows stay."""
    paths = [*_looked_at(settings, name, files(settings, name)), register_path(settings.state_dir)]
    found = [(str(path), signature(path)) for path in paths if path.is_file()]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _found(name: str, path: Path, shown: str) -> tuple[Path, ...]:
    """The file at `path`, or the files that the pattern matches, by name."""
    if path.is_file():
        return (path,)
    matched = tuple(Path(file) for file in sorted(glob.glob(str(path), recursive=True)) if Path(file).is_file())
    if not matched:
        raise MissingSource(name, shown)
    return matched


def _attached(
    backend: ibis.BaseBackend, settings: Settings, named: Mapping[str, TableSource]
) -> dict[str, tuple[str, Path]]:
    """Name of a source in a DuckDB file → the attached database, and its file. Each file is attached once."""
    aliases: dict[Path, str] = {}
    opened = {}
    for name, source in named.items():
        if source.path is None or not source.is_database:
            continue
        (path,) = _found(name, settings.resolve(source.path), source.path)[:1]
        if path not in aliases:
            aliases[path] = f"file_{len(aliases)}"
            _attach(backend, name, path, aliases[path])
        opened[name] = (aliases[path], path)
    return opened


def _attach(backend: ibis.BaseBackend, name: str, path: Path, alias: str) -> None:
    with data_errors(name):
        try:
            backend.raw_sql(f"attach {quoted(path)} as {alias} (type duckdb, read_only)")
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise
            raise DependencyDown(
                f"Table '{name}' must be read from {path.name} while no other program writes to it; one does. "
                "Close it, or run again later."
            ) from error


def _rows(name: str, source: TableSource, settings: Settings, opened: Mapping[str, tuple[str, Path]]) -> str | None:
    """SQL that reads the raw rows; none where the source is a query alone."""
    if name in opened:
        return None if source.table is None else f"{opened[name][0]}.{_quoted_name(source.table)}"
    if source.url is not None:
        return _parquet(copied_files(name, settings.state_dir))
    if source.path is None:
        return None
    found = _looked_at(settings, name, _found(name, settings.resolve(source.path), source.path))
    suffixes = {path.suffix.lower() for path in found}
    if suffixes <= {*_CSV}:
        return _csv(name, found)
    if suffixes == {".parquet"}:
        return _parquet(found)
    raise _unknown_kind(name, found[0])


def _looked_at(settings: Settings, name: str, found: tuple[Path, ...]) -> tuple[Path, ...]:
    """The files behind the raw view: of usage, which is read file by file, the newest unless a query needs it whole."""
    queries = (item.is_computed for item in {**settings.sources, **settings.tables}.values())
    return found[-1:] if name == "usage" and not any(queries) else found


def _unknown_kind(name: str, path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"[tables.{name}] path must end in .csv, .tsv, .csv.gz, .parquet or .duckdb; found '{path.name}'. "
        "Export the table in one of these."
    )


def _quoted_name(table: str) -> str:
    """`schema.name` for the engine; a name alone is one of the schema main."""
    parts = table.split(".")
    return ".".join('"' + part.replace('"', '""') + '"' for part in (["main", *parts] if len(parts) == 1 else parts))


def _parquet(paths: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(quoted(path) for path in paths)}], union_by_name = true)"


def _csv(name: str, paths: Sequence[Path]) -> str:
    """Neighbours with the same header are read together; a column that an older file lacks is empty there."""
    groups = [list(group) for _, group in itertools.groupby(paths, key=lambda path: csv_columns(name, path))]
    readers = [csv_reader(name, *group) for group in groups]
    if len(readers) == 1:
        return readers[0]
    return "(" + " union all by name ".join(f"select * from {reader}" for reader in readers) + ")"


def run_query(backend: ibis.BaseBackend, settings: Settings, name: str) -> None:
    """Run the query of `name` over the raw views, or over the DuckDB file that it names, and keep its rows."""
    source = {**settings.sources, **settings.tables}[name]
    path = f"memory.{RAW}"
    if source.is_database and source.path is not None:
        file = quoted(settings.resolve(source.path))
        ((alias,),) = backend.raw_sql(f"select database_name from duckdb_databases() where path = {file}").fetchall()
        path = f"{alias}.main,{path}"
    table = f'memory.{RAW}."{name}__query"'
    # Materialised, so that row numbers in the quarantine stay the same however often it is read.
    with data_errors(name):
        backend.raw_sql(f"set search_path = {quoted(path)}")
        try:
            backend.raw_sql(f"create or replace table {table} as {source.query}")
        finally:
            backend.raw_sql("set search_path = 'memory.main'")
        if (kept := rows_without_erased(backend, name, source, table)) != table:
            backend.raw_sql(f"create or replace table {table} as select * from {kept}")


def reader(name: str, path: Path) -> str:
    """SQL that reads one file."""
    if path.suffix.lower() == ".parquet":
        return _parquet([path])
    if path.suffix.lower() not in _CSV:
        raise _unknown_kind(name, path)
    return _csv(name, [path])


def is_whole(source: TableSource) -> bool:
    """Whether the rows of `source` can only be read all together, and not file by file."""
    return source.is_computed or source.is_database


def raw_name(name: str, source: TableSource) -> str:
    """The qualified view or table that holds the raw rows of `name`."""
    return f'{RAW}."{name}__query"' if source.is_computed else f'{RAW}."{name}"'


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
