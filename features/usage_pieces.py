"""One piece of the usage source, a file or a query, read once: rows typed and judged, then rolled up by month."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import ibis

from features import parts as kept
from features.csv_files import quoted
from features.data_contract import USAGE
from features.erasure import erased_rows, rows_without_erased
from features.identities import translated
from features.mapping import mapped_columns, raw_columns, zone
from features.parts import Part, Piece
from features.rollup import ROLLUPS, Rollup, by_day, distinct_events
from features.settings import TableSource
from features.sources import CLEAN, data_errors
from features.staging import broken_rule, clean_columns, event, staged_sql

DAYS = "piece_days"
LARGE = 4_000_000
"""Rows above which a file is read month by month, so that memory stays the same however large it is."""

_UNKNOWN = f"account_id not in (select account_id from {CLEAN}.accounts)"


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A piece as it lies in the source."""

    name: str
    raw: str
    """SQL of its rows: a table or a reader."""
    signature: Mapping[str, Any]

    @property
    def mark(self) -> str:
        """A short name for its files."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class _Read:
    """How the rows of a piece become clean rows."""

    name: str
    backend: ibis.BaseBackend
    source: TableSource
    present: Mapping[str, str]
    unmapped: tuple[str, ...]

    def clean(self, raw: str) -> str:
        """SQL of the rows of `raw` that break no rule, with `said`, what they say beside the contract's columns."""
        said = f"hash({', '.join(self.unmapped)})" if self.unmapped else "0::ubigint"
        staged = self._staged({**self.present, "said": said}, raw)
        rule, _ = broken_rule(USAGE, self.source, self.present)
        columns = clean_columns(USAGE, self.source)
        known = f"account_id in (select account_id from {CLEAN}.accounts)"
        return f"select {columns}, raw_said as said from ({staged}) where ({rule}) is null and {known}"

    def set_aside(self, raw: str) -> str:
        """SQL of the other rows, each with the rule that it breaks."""
        staged = self._staged(self.present, raw)
        rule, reason = broken_rule(USAGE, self.source, self.present)
        broken = f"coalesce({rule}, case when {_UNKNOWN} then 'unknown_account' end)"
        said = f"coalesce({reason}, 'account_id is in no row of accounts')"
        return (
            f"select 'usage' as \"table\", {quoted(self.name)} as source, row_number, row_hash, "
            f"{broken} as rule, {said} as reason, account_id from ({staged}) where {broken} is not null"
        )

    def _staged(self, present: Mapping[str, str], raw: str) -> str:
        staged = staged_sql(self.backend, USAGE, self.source, present, raw)
        return translated(self.backend, USAGE, self.source, staged, event(USAGE, self.source))


def read_piece(
    backend: ibis.BaseBackend, source: TableSource, unread: Unread, before: Piece | None, folder: Path
) -> Piece:
    """Roll a piece up into parts in `folder`; months whose rows are those of `before` keep their files."""
    with data_errors("usage"):
        backend.raw_sql(f"set TimeZone = {quoted(zone(USAGE, source))}")
        try:
            return _read(backend, source, unread, before, folder)
        finally:
            backend.raw_sql("set TimeZone = 'UTC'")


def _read(backend: ibis.BaseBackend, source: TableSource, unread: Unread, before: Piece | None, folder: Path) -> Piece:
    delivered_raw = unread.raw
    unread = replace(unread, raw=rows_without_erased(backend, "usage", source, delivered_raw))
    erased = sum(erased_rows(backend, "usage", source, delivered_raw).values())
    present = mapped_columns(backend, USAGE, source, unread.raw)
    used = set(present.values())
    unmapped = tuple(
        name for name in (f'"{column}"' for column in raw_columns(backend, unread.raw)) if name not in used
    )
    read = _Read(name=unread.name, backend=backend, source=source, present=present, unmapped=unmapped)
    rows = _number(backend, f"select count(*) from {unread.raw}")
    parts, delivered, distinct = [], 0, 0
    for raw in _portions(read, unread.raw, rows):
        events = distinct_events(read.clean(raw), has_core="is_core" in present, is_aggregate=source.period is not None)
        backend.raw_sql(f"create or replace temp table {DAYS} as {by_day(events)}")
        delivered += _number(backend, f"select coalesce(sum(rows), 0) from {DAYS}")
        distinct += _number(backend, f"select coalesce(sum(times), 0) from {DAYS}")
        parts += [part for rollup in ROLLUPS for part in _parts(backend, rollup, unread, before, folder)]
    backend.raw_sql(f"drop table {DAYS}")
    return Piece(
        signature=dict(unread.signature),
        rows=rows,
        repeated=delivered - distinct,
        set_aside=rows - delivered,
        erased=erased,
        quarantine=_quarantined(read, unread, folder) if rows > delivered else None,
        columns=tuple(sorted(present)),
        parts=tuple(parts),
    )


def _portions(read: _Read, raw: str, rows: int) -> Iterator[str]:
    """The rows at once; of a large file with plain times month by month, for the engine skips what lies outside."""
    column = read.present.get("event_at", "")
    if rows <= LARGE or not _is_plain_time(read, raw):
        yield raw
        return
    months = read.backend.raw_sql(
        f"select distinct date_trunc('month', {column})::timestamp as month from {raw} where {column} is not null "
        "order by month"
    ).fetchall()
    for (month,) in months:
        start = f"timestamp '{month}'"
        yield f"(select * from {raw} where {column} >= {start} and {column} < {start} + interval 1 month)"


def _is_plain_time(read: _Read, raw: str) -> bool:
    """Whether `event_at` is a column of UTC times, whose smallest and largest values a Parquet file tells."""
    column = read.present.get("event_at", "").strip('"')
    kind = raw_columns(read.backend, raw).get(column, "")
    is_utc = read.source.timezone == "UTC" and read.source.period is None and "event_at" not in read.source.values
    return is_utc and kind.startswith("TIMESTAMP") and "ZONE" not in kind


def _parts(
    backend: ibis.BaseBackend, rollup: Rollup, unread: Unread, before: Piece | None, folder: Path
) -> Iterator[Part]:
    """The months of a roll-up of what stands in the table of days."""
    earlier = {(part.rollup, part.month, part.checksum): part for part in (before.parts if before else ())}
    backend.raw_sql(f"create or replace temp table piece_rollup as {rollup.select(DAYS)}")
    columns = ", ".join(rollup.columns())
    months = backend.raw_sql(
        f"select strftime(event_at, '%Y-%m') as month, count(*), sum(hash({columns})::hugeint)::varchar "
        "from piece_rollup group by month order by month"
    ).fetchall()
    for month, rows, total in months:
        checksum = hashlib.sha256(f"{rows} {total}".encode()).hexdigest()[:16]
        part = earlier.get((rollup.name, month, checksum))
        if part is None:
            file = f"{month}/{rollup.name}-{unread.mark}-{checksum}.parquet"
            chosen = f"select {columns} from piece_rollup where strftime(event_at, '%Y-%m') = '{month}'"
            _copy(backend, f"{chosen} order by account_id, event_at, known_at", folder / file)
            part = Part(
                rollup=rollup.name,
                month=month,
                file=file,
                rows=rows,
                checksum=checksum,
                size=(folder / file).stat().st_size,
                sha256=kept.file_sha256(folder / file),
            )
        yield part
    backend.raw_sql("drop table piece_rollup")


def _quarantined(read: _Read, unread: Unread, folder: Path) -> str:
    print_of = hashlib.sha256(repr(sorted(unread.signature.items())).encode()).hexdigest()[:16]
    file = f"quarantine/{unread.mark}-{print_of}.parquet"
    _copy(read.backend, f"{read.set_aside(unread.raw)} order by row_number", folder / file)
    return file


def _copy(backend: ibis.BaseBackend, query: str, path: Path) -> None:
    """Write the rows of a query to a file that is whole, and on the disk, under its name or not there at all."""
    staged = path.with_suffix(".new")
    with kept.can_write(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            backend.raw_sql(f"copy ({query}) to {quoted(staged)} (format parquet, compression zstd)")
        except duckdb.IOException as error:
            raise OSError(str(error).splitlines()[0]) from error
        kept.sync(staged)
        staged.replace(path)
        kept.sync(path.parent)


def _number(backend: ibis.BaseBackend, query: str) -> int:
    return int(backend.raw_sql(query).fetchall()[0][0])
