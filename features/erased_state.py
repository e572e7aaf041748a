"""Erasing from what is kept beside the sources: roll-ups, nightly copies, quarantine and corrections.

Each step returns how many rows it erased, and may be done again: what a step that was broken off left, the next finds.
The sources, and who is in them, are looked up here too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import ibis
import pyarrow.parquet as pq

from features import nightly_copies, parts, quarantine
from features.corrections import AUDIT_FILE, audit_lines
from features.csv_files import quoted
from features.data_contract import CONTRACT
from features.data_contract import table as contract_table
from features.erased import Kind, Register
from features.erased_files import erase_from_copies
from features.erasure import PERSON, erased_rows, mapped, rows_without_erased
from features.errors import CannotWrite
from features.nightly_copies import OURS, CopyFile, column_names, entity_sql, hash_sql, row_key
from features.settings import Settings, TableSource
from features.sources import files, is_whole, raw_name, reader
from features.state import replace_file
from features.system_ids import id_key

QUARANTINE_FILE = "quarantine.parquet"
ROLLUPS = "rollup"


@dataclass(frozen=True, kw_only=True)
class Erased:
    """Who is to be erased: the id, which this process alone may read, and the name that takes its place."""

    kind: Kind
    id: str
    pseudonym: str

    @classmethod
    def of(cls, register: Register, kind: Kind, name: str) -> Erased:
        """With the name that the register gives."""
        return cls(kind=kind, id=name, pseudonym=register.pseudonym(kind, name))

    def renamed(self, text: str) -> str:
        """`text` with the other name wherever the id stands as a word."""
        return re.sub(rf"(?<![\w-]){re.escape(self.id)}(?![\w-])", self.pseudonym, text)


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """Where the sources name an id: rows by table."""

    account: Mapping[str, int] = field(default_factory=dict)
    contact: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids that other systems have for the account and for no other one, by system."""


def delivered(backend: ibis.BaseBackend, settings: Settings, name: str) -> Delivered:
    """Look an id up in every source; `backend` has the raw views open."""
    account, contact = dict[str, int](), dict[str, int]()
    for table in CONTRACT:
        source = settings.tables.get(table.name)
        if source is None:
            continue
        for raw in _relations(settings, table.name, source):
            if source.ids is None:
                _count(
                    backend, raw, mapped(source, "account_id", column_names(backend, raw)), name, account, table.name
                )
            if person := PERSON.get(table.name):
                _count(backend, raw, mapped(source, person, column_names(backend, raw)), name, contact, table.name)
    return Delivered(account=account, contact=contact, aliases=_aliases(backend, settings, name))


def _relations(settings: Settings, name: str, source: TableSource) -> list[str]:
    """The raw rows of a table; usage that comes in files lies in no view."""
    if name != "usage" or is_whole(source):
        return [raw_name(name, source)]
    return [reader(name, path) for path in files(settings, name)]


def _count(backend: ibis.BaseBackend, raw: str, sql: str | None, name: str, counts: dict[str, int], table: str) -> None:
    if sql is None:
        return
    rows = _number(backend, f"select count(*) from {raw} where ({sql})::varchar = {quoted(name)}")
    if rows:
        counts[table] = counts.get(table, 0) + rows


def _aliases(backend: ibis.BaseBackend, settings: Settings, name: str) -> dict[str, tuple[str, ...]]:
    source = settings.tables.get("identities")
    if source is None:
        return {}
    raw = raw_name("identities", source)
    found = column_names(backend, raw)
    account, system, given = (f"({mapped(source, column, found)})::varchar" for column in _IDENTITY)
    own = f"select {system} as system, {id_key(given)} as id, {account} = {quoted(name)} as is_own from {raw}"
    rows = backend.raw_sql(f"select system, id from ({own}) group by all having bool_and(is_own) order by all")
    aliases: dict[str, tuple[str, ...]] = {}
    for system_name, alias in rows.fetchall():
        aliases[system_name] = (*aliases.get(system_name, ()), alias)
    return aliases


_IDENTITY = ("account_id", "source", "source_id")


def is_kept(backend: ibis.BaseBackend, settings: Settings, name: str) -> set[Kind]:
    """As what the nightly copies and the roll-ups know an id."""
    found: set[Kind] = set()
    for table, copies in nightly_copies.read_manifest(settings).items():
        for item in copies.files if table in settings.tables else ():
            raw = _parquet(settings.state_dir / nightly_copies.FOLDER / item.name)
            columns = column_names(backend, raw)
            asked: tuple[tuple[Kind, str | None], ...] = (("account", "account_id"), ("contact", PERSON.get(table)))
            for kind, column in asked:
                sql = None if column is None else mapped(settings.tables[table], column, columns)
                if sql and _number(backend, f"select count(*) from {raw} where ({sql})::varchar = {quoted(name)}"):
                    found.add(kind)
    folder = settings.state_dir / ROLLUPS
    for part in parts.read_manifest(folder).parts:
        for kind, column in _ROLLED_UP.get(part.rollup, {}).items():
            path = _parquet(folder / part.file)
            if _number(backend, f"select count(*) from {path} where {column} = {quoted(name)}"):
                found.add(kind)
    return found


_ROLLED_UP: dict[str, dict[Kind, str]] = {
    "account_days": {"account": "account_id"},
    "user_days": {"account": "account_id", "contact": "user_id"},
    "feature_days": {"account": "account_id"},
}


def erase_copies(backend: ibis.BaseBackend, settings: Settings) -> int:
    """Out of the copies of a server's tables."""
    named = [(name, source) for name, source in settings.tables.items() if source.url is not None]
    return sum(erase_from_copies(backend, name, source, settings.state_dir) for name, source in named)


def erase_history(backend: ibis.BaseBackend, settings: Settings) -> int:
    """Out of the nightly copies; those of a person keep their days, so that the past of the account stays."""
    folder = settings.state_dir / nightly_copies.FOLDER
    if not (folder / nightly_copies.MANIFEST).is_file():
        return 0
    rows = 0
    with nightly_copies.alone(settings):
        manifest = nightly_copies.read_manifest(settings)
        for name, copies in manifest.items():
            written = [_without(backend, settings, name, item) for item in copies.files]
            rows += sum(erased for _, erased in written)
            manifest[name] = replace(copies, files=tuple(item for item, _ in written))
        if rows:
            nightly_copies.write_manifest(settings, manifest)
        named = {item.name for copies in manifest.values() for item in copies.files}
        for path in folder.glob("*/*.parquet"):
            if str(path.relative_to(folder)) not in named:
                path.unlink()
    return rows


def _without(backend: ibis.BaseBackend, settings: Settings, name: str, item: CopyFile) -> tuple[CopyFile, int]:
    """One night's file written anew under a name of its own, and how many rows of it were erased."""
    folder, source = settings.state_dir / nightly_copies.FOLDER, settings.tables.get(name)
    if source is None:
        return item, 0
    raw = _parquet(folder / item.name)
    kept = rows_without_erased(backend, name, source, raw)
    rows = sum(erased_rows(backend, name, source, raw).values())
    if not rows:
        return item, 0
    columns = column_names(backend, raw)
    copies = nightly_copies.read_manifest(settings)[name]
    hashed = hash_sql(sorted(columns - set(OURS)))
    # An entity is the hash of the key and, where rows share one, which of them it is.
    entity = f"{entity_sql(row_key(contract_table(name), source, columns, copies))} || '-' || "
    entity += "split_part(tenure_entity, '-', 2)"
    changed = f"select * replace ({entity} as tenure_entity, {hashed} as tenure_hash) from {kept}"
    staged = folder / name / f".{Path(item.name).name}.erased"
    replace_file(staged, lambda place: backend.raw_sql(f"copy ({changed}) to {quoted(place)} (format parquet)"))
    sha256 = nightly_copies.checksum(staged)
    day = Path(item.name).stem[:10]
    written = replace(item, name=f"{name}/{day}-{sha256[:16]}.parquet", sha256=sha256)
    staged.replace(folder / written.name)
    return written, rows


def erase_rollups(backend: ibis.BaseBackend, settings: Settings, erased: Erased) -> int:
    """Out of the roll-ups of usage: pieces that hold a row go, and the next run reads them again without it."""
    folder = settings.state_dir / ROLLUPS
    if not folder.is_dir():
        return 0
    with parts.alone(folder):
        manifest = parts.read_manifest(folder)
        rows = {name: _rows_of(backend, folder, piece, erased) for name, piece in manifest.pieces.items()}
        manifest.pieces = {name: piece for name, piece in manifest.pieces.items() if not rows[name]}
        parts.write_manifest(folder, manifest)
        parts.clear_unnamed(folder, manifest, at_once=True)
    return sum(rows.values())


def _rows_of(backend: ibis.BaseBackend, folder: Path, piece: parts.Piece, erased: Erased) -> int:
    rows = 0
    for part in piece.parts:
        if column := _ROLLED_UP.get(part.rollup, {}).get(erased.kind):
            path = _parquet(folder / part.file)
            rows += _number(backend, f"select count(*) from {path} where {column} = {quoted(erased.id)}")
    if piece.quarantine and erased.kind == "account":
        said = f"account_id = {quoted(erased.id)} or contains(reason, {quoted(erased.id)})"
        rows += _number(backend, f"select count(*) from {_parquet(folder / piece.quarantine)} where {said}")
    return rows


def erase_quarantine(settings: Settings, erased: Erased) -> int:
    """Out of the reasons of rows set aside; the other rows there name nobody, and are found anew by every run."""
    path = settings.state_dir / QUARANTINE_FILE
    known = quarantine.previous(path)
    kept = [row for row in known if erased.renamed(row["reason"] or "") == (row["reason"] or "")]
    if len(kept) < len(known):
        table = quarantine.SCHEMA.empty_table().from_pylist(kept, schema=quarantine.SCHEMA)
        replace_file(path, lambda staged: pq.write_table(table, staged))
    return len(known) - len(kept)


def erase_corrections(settings: Settings, erased: Erased) -> int:
    """Out of the audit file of corrections: lines of an account go, other lines name it by its other name."""
    lines = audit_lines(settings)
    gone = {line.get("id") for line in lines if erased.kind == "account" and line.get("account_id") == erased.id}
    kept = [line for line in lines if line.get("id", line.get("undoes")) not in gone]
    # Not in dates, where a short id may stand as a number.
    renamed = [{name: erased.renamed(text) if name in _SAID and text else text for name, text in line.items()}
               for line in kept]  # fmt: skip
    rows = len(lines) - len(kept) + sum(then != now for then, now in zip(kept, renamed, strict=True))
    if rows:
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in renamed)
        replace_file(settings.state_dir / AUDIT_FILE, lambda staged: staged.write_text(content, encoding="utf-8"))
    return rows


_SAID = ("account_id", "into_account_id", "reason", "by")


def clear_leftovers(settings: Settings) -> None:
    """Remove what a step that was broken off staged."""
    try:
        for path in (settings.state_dir / nightly_copies.FOLDER).glob("*/.*.erased"):
            path.unlink()
    except OSError as error:
        raise CannotWrite(f"{settings.state_dir} must be a folder that can be written; {error.strerror}.") from error


Step = Callable[[], int]


def steps(backend: ibis.BaseBackend, settings: Settings, erased: Erased) -> dict[str, Step]:
    """Place and what erases there; the register is in force, and the engine knows it."""
    return {
        "copies": lambda: erase_copies(backend, settings),
        "history": lambda: erase_history(backend, settings),
        "rollup": lambda: erase_rollups(backend, settings, erased),
        "quarantine": lambda: erase_quarantine(settings, erased),
        "corrections": lambda: erase_corrections(settings, erased),
    }


def _parquet(path: Path) -> str:
    return f"read_parquet({quoted(path)})"


def _number(backend: ibis.BaseBackend, query: str) -> int:
    return int(backend.raw_sql(query).fetchall()[0][0])
