"""The ledger: runs, lists, scores and reasons, who may ask, and who did what.

SQLite beside the state, or PostgreSQL by `[ledger] url`. The audit is append-only: the database itself refuses to
change or delete its rows. A missing ledger is made, and an older one brought up to date, when it is first opened.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from features.errors import CannotWrite, ConfigurationError, DependencyDown, Misuse, TenureError
from features.settings import Settings
from serving.deadline import require_time_left
from serving.ledger.tables import audit

FILE = "ledger.db"
HEAD = "0002"
"""The last migration."""
BEFORE = ".before-"
"""In the name of the copy that is made before a ledger is brought up to date."""
MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE_S = 10
"""Seconds that a writer waits for another."""

_MIGRATING = Lock()


class Ledger:
    """One company's ledger. Every method raises, of our failures, what is wrong with the database:

    DependencyDown
        The server does not answer.
    CannotWrite
        The file cannot be written.
    ConfigurationError
        A newer tenure has written it, or it is not a ledger.
    """

    def __init__(self, url: str | None, state_dir: Path) -> None:
        self._place = None if url is not None else state_dir / FILE
        self._engine = _server_engine(url) if url is not None else _file_engine(state_dir / FILE)
        self._bring_up_to_date()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of it or nothing; nothing where the request it serves was given up."""
        with self._told(), self._engine.begin() as connection:
            yield connection
            require_time_left()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that changes nothing."""
        with self._told(), self._engine.connect().execution_options(reads_only=True) as connection:
            yield connection

    def backup(self, place: Path) -> None:
        """Copy an SQLite ledger as it is now, while others go on writing."""
        if self._place is None:
            raise Misuse(
                "A ledger in PostgreSQL is backed up by its own tools: pg_dump, and pg_restore to bring it back."
            )
        if place.exists():
            raise Misuse(f"The backup must not overwrite anything; {place} is there. Name another file.")
        try:
            with closing(sqlite3.connect(self._place)) as source, closing(sqlite3.connect(place)) as target:
                source.backup(target)
        except sqlite3.Error as error:
            raise CannotWrite(f"{place} must be a file that can be written; {error}. Name another.") from error

    def forget(self) -> None:
        """Leave nothing on the disk of rows that were deleted; a server's own vacuum does it there."""
        if self._place is None:
            return
        try:
            with closing(sqlite3.connect(self._place, timeout=PATIENCE_S)) as connection:
                connection.execute("vacuum")
                connection.execute("pragma wal_checkpoint(truncate)")
        except sqlite3.Error as error:
            raise self._failure(str(error)) from error

    def copies(self) -> list[Path]:
        """What was kept of a ledger file when it was brought up to date."""
        return [] if self._place is None else sorted(self._place.parent.glob(f"{self._place.stem}{BEFORE}*"))

    def close(self) -> None:
        """Let go of the connections; the next use opens new ones."""
        self._engine.dispose()

    @property
    def version(self) -> str | None:
        """The last migration that was made; None in an empty database."""
        with self.reading() as connection:
            return _version(connection)

    def _bring_up_to_date(self) -> None:
        if self.version == HEAD:
            return
        # Alembic's context is one of the process; two processes must not make the same tables.
        with _MIGRATING, self.writing() as connection:
            _wait_for_other_processes(connection)
            found = _version(connection)
            if found is not None and found > HEAD:
                raise ConfigurationError(
                    f"The ledger must be of version {HEAD} or older; found {found}. "
                    "A newer tenure wrote it: install that one."
                )
            if found != HEAD:
                self._migrate(connection, found)

    def _migrate(self, connection: Connection, found: str | None) -> None:
        from alembic import command  # noqa: PLC0415 - slow to import, and hardly ever needed
        from alembic.config import Config  # noqa: PLC0415

        if found is not None and self._place is not None:
            self._keep_copy(self._place.with_suffix(f"{BEFORE}{HEAD}.db"))
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    def _keep_copy(self, place: Path) -> None:
        """Copy the ledger over a copy that an upgrade left which did not come to its end."""
        half = place.with_suffix(".half")
        half.unlink(missing_ok=True)
        self.backup(half)
        half.replace(place)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            raise self._failure(str(error.orig).splitlines()[0]) from error

    def _failure(self, said: str) -> TenureError:
        if self._place is None:
            return DependencyDown(
                f"The ledger's PostgreSQL must answer; it says: {said}. Nothing was changed; try again when it is back."
            )
        if "not a database" in said or "malformed" in said:
            return ConfigurationError(
                f"{self._place} must be a ledger that tenure wrote; it is damaged ({said}). Put it back from a backup, "
                "or move it away: lists come back with `tenure score`, tokens have to be made anew."
            )
        return CannotWrite(
            f"{self._place} must be a file that can be written; {said}. "
            "Free space, change its permissions, or set [state] dir."
        )


def open_ledger(settings: Settings) -> Ledger:
    """The ledger of one company, opened once a process."""
    return _opened(settings.ledger.url, settings.state_dir, os.getpid())


@lru_cache(maxsize=8)
def _opened(url: str | None, state_dir: Path, process: int) -> Ledger:
    # A connection must not be used on both sides of a fork: each process opens its own.
    return Ledger(url, state_dir)


def record(
    connection: Connection, *, at: datetime, by: str, action: str, subject: str | None = None, **facts: Any
) -> None:
    """One more line of the audit, in the transaction of what it tells."""
    line = {"at": at.replace(tzinfo=None), "by": by, "action": action, "subject": subject, "facts": facts}
    connection.execute(audit.insert(), line)


def audit_lines(ledger: Ledger, *, last: int) -> list[dict[str, Any]]:
    """The newest lines of the audit first."""
    with ledger.reading() as connection:
        found = connection.execute(select(audit).order_by(audit.c.number.desc()).limit(last)).mappings().all()
    return [{**row, "at": f"{row['at']:%Y-%m-%d %H:%M:%S}"} for row in found]


def _file_engine(place: Path) -> Engine:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"{place.parent} must be writable; {error.strerror}. Set [state] dir.") from error
    engine = create_engine(f"sqlite:///{place}", poolclass=NullPool, connect_args={"timeout": PATIENCE_S})

    @event.listens_for(engine, "connect")
    def _careful(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # The driver begins no transactions by itself; `_begin` does.
        connection.execute("pragma journal_mode = wal")  # Readers go on while one writes.
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # One that will write says so at once: a reader that turns writer may find its view outdated, and fail.
        is_reader = connection.get_execution_options().get("reads_only")
        connection.exec_driver_sql("begin" if is_reader else "begin immediate")

    return engine


def _server_engine(url: str) -> Engine:
    place: URL = make_url(url).set(drivername="postgresql+psycopg")
    # Asked before each use: a server that was started again is found at once.
    return create_engine(place, pool_pre_ping=True, pool_size=4, connect_args={"connect_timeout": 5})


def _wait_for_other_processes(connection: Connection) -> None:
    """Take the right to write before looking, so that whoever comes second finds the tables made."""
    if connection.dialect.name != "sqlite":  # There the transaction itself has begun so.
        connection.execute(text("select pg_advisory_xact_lock(7266)"))


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("select version_num from alembic_version")).scalar()
    return None if found is None else str(found)
