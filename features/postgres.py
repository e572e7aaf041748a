"""PostgreSQL as a source: its rows are copied in batches into Parquet files, and a copy is whole or not there.

With `incremental` the rows are kept by the month in which they were loaded. Every run counts the rows of each month
in the database: of the newest month only newer rows are fetched; a month whose count differs is copied anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from features.copies import Copy, Part, copy_folder, latest_copy, publish, sweep, writing
from features.errors import ConfigurationError, DataError, DependencyDown
from features.postgres_types import Reader, reader
from features.settings import TableSource

BATCH_ROWS, BATCH_BYTES = 50_000, 64_000_000
"""What is held in memory at once: so many rows, or the row with which so many bytes are passed."""
Buffer = bytes | bytearray | memoryview
WHOLE = "all"
"""The one part of a table that is copied whole."""

# A server that vanishes without a word is noticed after about a minute.
_PATIENCE = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_SESSION = "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 -c bytea_output=hex -c extra_float_digits=1"


def copy_table(name: str, source: TableSource, state_dir: Path) -> int:
    """Bring the copy of `name` up to what the server holds; returns how many rows were fetched.

    Raises
    ------
    DependencyDown
        The server does not answer, or stops while it is read. The copy stays what it was.
    DataError
        The table, or a column of it, cannot be read.
    """
    folder = copy_folder(name, state_dir)
    with writing(folder), _connected(name, source) as connection:
        copying = _Copying(name, source, folder, connection)
        try:
            return copying.run()
        except BaseException:
            shutil.rmtree(copying.fresh, ignore_errors=True)
            raise


class _Copying:
    """One run over one table, within one snapshot of the database."""

    def __init__(self, name: str, source: TableSource, folder: Path, connection: psycopg.Connection[Any]) -> None:
        self.name, self.source, self.connection = name, source, connection
        self.folder, self.fresh = folder, folder / f"run-{secrets.token_hex(6)}"
        self.rows = _relation(source)
        described = connection.execute(sql.SQL("select * from {} as given limit 0").format(self.rows))
        self.reader: Reader = reader(name, described.description or [])
        self.fetched = 0

    def run(self) -> int:
        """Fetch what is new, then make it the copy."""
        identity = _identity(self.source, self.reader)
        before = latest_copy(self.folder)
        old = {} if before is None or before.source != identity else before.parts
        parts = self._by_month(old) if self.source.incremental else {WHOLE: self._part(WHOLE, None, "")}
        if parts != old:
            kept = [] if before is None else sorted(before.folders)
            publish(self.folder, self.fresh, Copy(source=identity, parts=parts, before=kept))
        sweep(self.folder)
        return self.fetched

    def _by_month(self, old: dict[str, Part]) -> dict[str, Part]:
        counted = self._counted()
        latest = max((month for month in old if old[month].newest), default=None)
        parts = {}
        for month, (rows, newest) in counted.items():
            part = old.get(month)
            if part is not None and part.rows == rows and part.newest == newest:
                parts[month] = part
            elif part is not None and month == latest and part.rows < rows:
                parts[month] = self._grown(month, part, rows, newest)
            else:
                parts[month] = self._part(month, newest, "")
        # A table without rows still has columns.
        return parts or {WHOLE: self._part(WHOLE, None, "")}

    def _counted(self) -> dict[str, tuple[int, str | None]]:
        """Month of loading → rows in the database, and the newest value."""
        query = sql.SQL(
            "select coalesce(to_char({column}, 'YYYY-MM'), 'none'), count(*), max({column})::text "
            "from {rows} as given group by 1 order by 1"
        )
        found = self.connection.execute(query.format(column=self._column(), rows=self.rows)).fetchall()
        return {month: (rows, newest) for month, rows, newest in found}

    def _grown(self, month: str, part: Part, rows: int, newest: str | None) -> Part:
        """`part` and the rows that are newer than it; the month anew where that is not all that changed."""
        added = self._part(month, newest, part.newest or "")
        if part.rows + added.rows == rows:
            return Part(rows=rows, newest=newest, files=part.files + added.files)
        return self._part(month, newest, "")

    def _part(self, month: str, newest: str | None, after: str) -> Part:
        """Fetch the rows of a month that were loaded after a moment into a file of this run."""
        conditions: list[sql.Composable] = [sql.SQL("true")]
        if month != WHOLE:
            of_month = sql.SQL("coalesce(to_char({}, 'YYYY-MM'), 'none') = {}")
            conditions.append(of_month.format(self._column(), sql.Literal(month)))
        if after:
            conditions.append(sql.SQL("{} > {}").format(self._column(), sql.Literal(after)))
        query = sql.SQL("copy (select {} from {} as given where {}) to stdout (format csv, force_quote *)").format(
            self.reader.selected, self.rows, sql.SQL(" and ").join(conditions)
        )
        file = self.fresh / f"{month}-{secrets.token_hex(3)}.parquet"
        rows = self._write(query, file)
        self.fetched += rows
        return Part(rows=rows, newest=newest, files=[f"{self.fresh.name}/{file.name}"])

    def _write(self, query: sql.Composed, path: Path) -> int:
        path.parent.mkdir(exist_ok=True)
        rows = 0
        with (
            self.connection.cursor() as cursor,
            cursor.copy(query) as copy,
            pq.ParquetWriter(path, self.reader.schema) as writer,
        ):
            for batch in _batches(copy):
                writer.write_table(self.reader.table(b"".join(batch)))
                rows += len(batch)
        return rows

    def _column(self) -> sql.Identifier:
        column = self.source.incremental or ""
        if column not in self.reader.times:
            raise ConfigurationError(
                f"Table '{self.name}': incremental must name a column of dates or timestamps, one of "
                f"{sorted(self.reader.times)}; found '{column}'. Correct it in tenure.toml."
            )
        return sql.Identifier(column)


def _batches(lines: Iterable[Buffer]) -> Iterator[list[Buffer]]:
    """Lists of rows. The server sends one row a message, whatever line ends its values hold."""
    batch, size = list[Buffer](), 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _relation(source: TableSource) -> sql.Composable:
    if source.table is not None:
        return sql.Identifier(*source.table.split("."))
    # The query is the company's own, from its tenure.toml.
    return sql.SQL("(\n{}\n)").format(sql.SQL((source.query or "").strip().rstrip(";")))


def _identity(source: TableSource, columns: Reader) -> str:
    place = {key: str(value) for key, value in conninfo_to_dict(source.url or "").items() if key != "password"}
    what = [place, source.table, source.query, source.incremental, str(columns.schema)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _host(url: str) -> str:
    """The server's name for messages; a url that cannot be told apart from its password is not shown."""
    try:
        host = str(conninfo_to_dict(url).get("host") or "this machine")
    except psycopg.Error:
        return "the host of its url"
    return host if re.fullmatch(r"[\w.,:/ -]+", host) else "the host of its url"


@contextmanager
def _connected(name: str, source: TableSource) -> Iterator[psycopg.Connection[Any]]:
    """A connection that sees one snapshot of the database and cannot write."""
    url = source.url or ""
    host = _host(url)
    try:
        given: dict[str, Any] = {**_PATIENCE, **conninfo_to_dict(url)}
        options = f"{given.pop('options', '')} {_SESSION}".strip()
        connection = psycopg.connect(make_conninfo(**{**given, "options": options, "client_encoding": "UTF8"}))
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            f"Table '{name}': url must be as in postgresql://user:password@host:5432/database; found one that cannot "
            "be read. Write special characters of the password as %XX."
        ) from None
    except psycopg.OperationalError:
        raise _down(name, host, "it refuses the connection") from None
    with connection:
        try:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield connection
        except psycopg.OperationalError:
            raise _down(name, host, "it stopped while it was read") from None
        except (psycopg.Error, pa.ArrowInvalid) as error:
            raise DataError(
                f"Table '{name}' must be readable from PostgreSQL at {host}; found: {_reason(error)}. "
                f"Correct its section of tenure.toml, or the rights of its user."
            ) from error


def _down(name: str, host: str, what: str) -> DependencyDown:
    return DependencyDown(
        f"Table '{name}' must be read from PostgreSQL at {host}; {what}. "
        "Start the server or correct the url, then run again; the copy of before is untouched."
    )


def _reason(error: Exception) -> str:
    said = error.diag.message_primary if isinstance(error, psycopg.Error) else str(error)
    return " ".join((said or type(error).__name__).split())[:200].rstrip(".")
