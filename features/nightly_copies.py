"""Copies of tables that are overwritten, one a night: what each row said, from which day to which.

    history/manifest.json              every file with its checksum; a file that it does not name does not count
    history/TABLE/2025-06-01.parquet   rows that were new, changed or vanished that day

A row has all columns of the raw table, `tenure_entity` (its key and, where several rows share one, which of them),
`tenure_hash` of its values, `tenure_valid_from` and `tenure_valid_to`. A changed row ends where its next version
begins; one that vanished is written once more, with its end.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import ibis

from features.csv_files import quoted
from features.data_contract import table as contract_table
from features.errors import AlreadyRunning, CannotWrite, ConfigurationError, DataError
from features.schema import Table
from features.settings import Settings, TableSource
from features.sources import data_errors
from features.state import replace_file

FOLDER, MANIFEST = "history", "manifest.json"
OURS = ("tenure_entity", "tenure_hash", "tenure_valid_from", "tenure_valid_to")


@dataclass(frozen=True, kw_only=True)
class CopyFile:
    """What one night wrote of one table."""

    name: str
    """Seen from the folder of the history."""
    sha256: str
    new: int
    changed: int
    vanished: int


@dataclass(frozen=True, kw_only=True)
class Copies:
    """All copies of one table."""

    first: str
    """Day of the first copy, as YYYY-MM-DD."""
    last: str
    key: tuple[str, ...]
    """Contract columns that tell one row from another."""
    files: tuple[CopyFile, ...]

    @property
    def since(self) -> datetime:
        """Midnight of the first copy's day."""
        return datetime.fromisoformat(self.first)


def read_manifest(settings: Settings) -> dict[str, Copies]:
    """The copies of every table; none where `tenure snapshot` has not run yet.

    Raises
    ------
    DataError
        The manifest is damaged.
    """
    path = settings.state_dir / FOLDER / MANIFEST
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["tables"]
        return {name: _copies(facts) for name, facts in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} must be as `tenure snapshot` left it; it is damaged. Restore it.") from error


def _copies(facts: Mapping[str, Any]) -> Copies:
    files = tuple(CopyFile(**item) for item in facts["files"])
    return Copies(first=facts["first"], last=facts["last"], key=tuple(facts["key"]), files=files)


def copied_rows(settings: Settings, copies: Copies) -> str:
    """SQL of every version that was copied, `tenure_valid_to` null while it holds.

    Raises
    ------
    DataError
        A file is gone or is not the one that was written.
    """
    folder = settings.state_dir / FOLDER
    for item in copies.files:
        path = folder / item.name
        if not path.is_file() or checksum(path) != item.sha256:
            found = "another file" if path.is_file() else "nothing there"
            raise DataError(f"{path} must be as `tenure snapshot` left it; found {found}. Restore it.")
    paths = ", ".join(quoted(folder / item.name) for item in copies.files)
    written = f"select * from read_parquet([{paths}], union_by_name = true)"
    version = "partition by tenure_entity, tenure_valid_from order by tenure_valid_to nulls last"
    begins = "lead(tenure_valid_from) over (partition by tenure_entity order by tenure_valid_from)"
    return (
        f"select * replace (coalesce(tenure_valid_to, {begins}) as tenure_valid_to) "
        f"from ({written} qualify row_number() over ({version}) = 1)"
    )


def take_copies(
    backend: ibis.BaseBackend, settings: Settings, relations: Mapping[str, str], *, now: datetime
) -> list[dict[str, Any]]:
    """Copy what is new, changed or gone in each raw relation since the copy before; once a day.

    All tables count as copied in one step, when the manifest is replaced.
    """
    day = f"{now:%Y-%m-%d}"
    with alone(settings):
        manifest, facts = read_manifest(settings), []
        for name, rows in relations.items():
            copies = manifest.get(name)
            if copies is not None and copies.last >= day:
                facts.append({"table": name, "since": copies.first, "copied": copies.last, **_counts(None)})
                continue
            with data_errors(name):
                manifest[name], written = _copied(backend, settings, (name, rows), copies, day=day)
            facts.append({"table": name, "since": manifest[name].first, "copied": day, **_counts(written)})
        write_manifest(settings, manifest)
    return facts


def write_manifest(settings: Settings, manifest: Mapping[str, Copies]) -> None:
    """Replace the manifest in one step."""
    text = json.dumps({"tables": {name: asdict(copies) for name, copies in manifest.items()}}, indent=1)
    path = settings.state_dir / FOLDER / MANIFEST
    replace_file(path, lambda staged: staged.write_text(text, encoding="utf-8"))


def _counts(item: CopyFile | None) -> dict[str, int]:
    return {name: getattr(item, name, 0) for name in ("new", "changed", "vanished")}


def _copied(
    backend: ibis.BaseBackend, settings: Settings, relation: tuple[str, str], copies: Copies | None, *, day: str
) -> tuple[Copies, CopyFile | None]:
    """Write the differences of one table; nothing where there are none, except on its first day."""
    name, rows = relation
    key = row_key(contract_table(name), settings.tables[name], column_names(backend, rows), copies)
    current = _current(backend, rows, key)
    backend.raw_sql(f"create or replace temp table copy_now as {current}")
    if copies is not None:
        held = f"select * from ({copied_rows(settings, copies)}) where tenure_valid_to is null"
        backend.raw_sql(f"create or replace temp table copy_held as {held}")
    backend.raw_sql(f"create or replace temp table copy_written as {_differences(day, copies is not None)}")
    counts = dict(backend.raw_sql("select tenure_change, count(*) from copy_written group by 1").fetchall())
    copies = copies or Copies(first=day, last=day, key=tuple(key), files=())
    if not counts and copies.files:
        return replace(copies, last=day), None
    path = settings.state_dir / FOLDER / name / f"{day}.parquet"
    rows = "select * exclude (tenure_change) from copy_written order by tenure_entity, tenure_valid_from"
    replace_file(path, lambda staged: backend.raw_sql(f"copy ({rows}) to {quoted(staged)} (format parquet)"))
    item = CopyFile(
        name=f"{name}/{day}.parquet",
        sha256=checksum(path),
        **{change: counts.get(change, 0) for change in ("new", "changed", "vanished")},
    )
    return replace(copies, last=day, files=(*copies.files, item)), item


def _current(backend: ibis.BaseBackend, rows: str, key: Mapping[str, str]) -> str:
    """The raw rows as versions that hold from now on."""
    names = sorted(column_names(backend, rows) - set(OURS))
    hashed = f"select *, {hash_sql(names)} as tenure_hash, {entity_sql(key)} as entity"
    nth = "row_number() over (partition by entity order by tenure_hash)"
    return f"select * exclude (entity), entity || '-' || {nth} as tenure_entity from ({hashed} from {rows})"


def hash_sql(names: Sequence[str]) -> str:
    """SQL of the hash of a raw row's values."""
    # A value stands beside its column's name, so that a new column without values changes no row.
    said = ", ".join(f"{quoted(name)} || chr(30) || {_quoted_name(name)}::varchar" for name in names)
    return f"md5(concat_ws(chr(31), {said}))"


def entity_sql(key: Mapping[str, str]) -> str:
    """SQL of the hash of a raw row's key."""
    keyed = ", ".join(f"coalesce(({sql})::varchar, chr(0))" for sql in key.values())
    return f"md5(concat_ws(chr(31), {keyed}))"


def _differences(day: str, is_later: bool) -> str:
    """SQL of the rows to write, with `tenure_change`: new, changed or vanished."""
    from_now = f"timestamptz '{day} 00:00:00+00' as tenure_valid_from, null::timestamptz as tenure_valid_to"
    if not is_later:
        return f"select *, 'new' as tenure_change, {from_now} from copy_now"
    return (
        f"select copy_now.*, case when held.tenure_entity is null then 'new' else 'changed' end as tenure_change, "
        f"{from_now} from copy_now left join (select tenure_entity, tenure_hash from copy_held) as held "
        "using (tenure_entity) where held.tenure_hash is distinct from copy_now.tenure_hash "
        "union all by name "
        f"select * replace (timestamptz '{day} 00:00:00+00' as tenure_valid_to), 'vanished' as tenure_change "
        "from copy_held where tenure_entity not in (select tenure_entity from copy_now)"
    )


def row_key(table: Table, source: TableSource, found: set[str], copies: Copies | None) -> dict[str, str]:
    """Contract column → SQL over the raw columns, of the columns that tell one row from another.

    Those of the contract's key; of a table that has none its ids and required times. What a table was first copied by
    it stays copied by: under another key every row would seem to vanish.
    """
    names = [name for name in table.key if name != "known_at"]
    by_nature = [item.name for item in table.columns if item.kind == "id" or (item.required and item.kind == "time")]
    names = names or [name for name in by_nature if name != "due_at"]
    mapped = {name: sql for name in names if (sql := mapped_sql(name, source, found)) is not None}
    if copies is None or set(copies.key) == set(mapped):
        return mapped
    if not set(copies.key) <= set(mapped):
        raise ConfigurationError(
            f"[tables.{table.name}] columns must map {sorted(copies.key)}, by which `tenure snapshot` knows its rows; "
            f"found {sorted(mapped)}. Map them again."
        )
    return {name: mapped[name] for name in copies.key}


def mapped_sql(column: str, source: TableSource, found: set[str]) -> str | None:
    """SQL over the raw columns `found` that gives the contract's `column`, None where nothing does."""
    text = source.columns.get(column)
    if text is None:
        return _quoted_name(column) if column in found else None
    return _quoted_name(text) if text in found else f"({text})"


def column_names(backend: ibis.BaseBackend, rows: str) -> set[str]:
    """The columns of a relation."""
    return {row[0] for row in backend.raw_sql(f"describe select * from {rows}").fetchall()}


def _quoted_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def checksum(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the lock of the history."""
    path = settings.state_dir / FOLDER / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise CannotWrite(f"{path.parent} must be a folder that can be written; {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning("`tenure snapshot` must run once at a time; another one is at work. Wait.") from error
        yield
