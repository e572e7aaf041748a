"""Usage kept as roll-ups by month in the state directory, and brought up to date by what changed.

The source comes in pieces: its files, or the one query or database. A file is read again where its size, time or
footer differ, the other where its rows do; both where the mapping changed, or where an account that they name came or
went. A part is written again only where its rows differ. So a new day costs a day, however long the history is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis

from features import parts as kept
from features.csv_files import quoted
from features.data_contract import USAGE
from features.parts import Manifest
from features.rollup import ROLLUPS
from features.settings import Settings
from features.sources import CLEAN, files, is_whole, raw_name, reader, signature
from features.usage_pieces import Unread, read_piece

FOLDER = "rollup"
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What became of the rows of the usage source."""

    manifest: Manifest
    folder: Path

    def total(self, name: str) -> int:
        """Sum of a count over all pieces: `rows`, `repeated` or `set_aside`."""
        return sum(getattr(piece, name) for piece in self.manifest.pieces.values())

    @property
    def columns(self) -> frozenset[str]:
        """Contract columns that any piece carries."""
        return frozenset(column for piece in self.manifest.pieces.values() for column in piece.columns)

    @property
    def quarantines(self) -> list[Path]:
        """The files of the rows set aside."""
        return [self.folder / piece.quarantine for piece in self.manifest.pieces.values() if piece.quarantine]


def open_usage(backend: ibis.BaseBackend, settings: Settings, *, full: bool, progress: Progress) -> Usage:
    """Bring the roll-ups up to date and open them as `clean.account_days`, `user_days` and `feature_days`."""
    folder = settings.state_dir / FOLDER
    unread = _pieces(backend, settings)
    recipe = _recipe(backend, settings)
    manifest = _current(folder, recipe, full=full)
    if _stale(backend, folder, manifest, unread):
        with kept.alone(folder):
            manifest = _current(folder, recipe, full=full)
            _refresh(backend, settings, folder, manifest, unread, progress)
    _open_views(backend, folder, manifest)
    return Usage(manifest=manifest, folder=folder)


def open_nothing(backend: ibis.BaseBackend) -> None:
    """Empty roll-ups, for a company without usage."""
    for rollup in ROLLUPS:
        columns = ", ".join(f"{name} {kind}" for name, kind in rollup.columns().items())
        backend.raw_sql(f"create or replace table {CLEAN}.{rollup.name} ({columns})")


def _current(folder: Path, recipe: str, *, full: bool) -> Manifest:
    """The manifest, if it was made as we would make it today."""
    manifest = Manifest() if full else kept.read_manifest(folder)
    return manifest if manifest.recipe == recipe else Manifest(recipe=recipe)


def _recipe(backend: ibis.BaseBackend, settings: Settings) -> str:
    """Identity of all that is done to the rows of the source."""
    source = settings.tables["usage"]
    mapping = (source.query, sorted(source.columns.items()), repr(source.values), source.timezone, source.period)
    ids = f"select count(*), sum(hash(columns(*))::hugeint)::varchar from {CLEAN}.identities"
    identities = [] if source.ids is None else backend.raw_sql(ids).fetchall()
    return hashlib.sha256(repr((USAGE, ROLLUPS, mapping, source.ids, identities)).encode()).hexdigest()


def _pieces(backend: ibis.BaseBackend, settings: Settings) -> list[Unread]:
    """The usage source as it lies there now."""
    source = settings.tables["usage"]
    if is_whole(source):
        rows = raw_name("usage", source)
        return [Unread(name=source.shown, raw=rows, signature=_content(backend, rows))]
    return [
        Unread(name=os.path.relpath(path, settings.path.parent), raw=reader("usage", path), signature=signature(path))
        for path in files(settings, "usage")
    ]


def _content(backend: ibis.BaseBackend, rows: str) -> dict[str, Any]:
    """What tells whether the rows of a query or a database are still the same: their files may stand still."""
    query = f"select count(*), sum(hash(raw)::hugeint)::varchar from {rows} as raw"
    ((count, content),) = backend.raw_sql(query).fetchall()
    return {"rows": count, "content": content}


def _stale(backend: ibis.BaseBackend, folder: Path, manifest: Manifest, unread: list[Unread]) -> bool:
    return bool(_changed(manifest, unread)) or _accounts(backend) != manifest.accounts


def _changed(manifest: Manifest, unread: list[Unread]) -> set[str]:
    """Pieces that are new, gone or other than they were."""
    now = {piece.name: dict(piece.signature) for piece in unread}
    then = {name: piece.signature for name, piece in manifest.pieces.items()}
    return {name for name in now.keys() | then.keys() if now.get(name) != then.get(name)}


def _accounts(backend: ibis.BaseBackend) -> str:
    """Checksum of the known accounts."""
    ids = f"select distinct account_id from {CLEAN}.accounts"
    query = f"select count(*), sum(hash(account_id)::hugeint)::varchar from ({ids})"
    return json.dumps(backend.raw_sql(query).fetchall()[0])


def _refresh(
    backend: ibis.BaseBackend,
    settings: Settings,
    folder: Path,
    manifest: Manifest,
    unread: list[Unread],
    progress: Progress,
) -> None:
    """Read what changed, piece by piece; the manifest is written after each, so that a crash costs one piece."""
    changed = _changed(manifest, unread)
    if _accounts(backend) != manifest.accounts:
        changed |= _touched_by_accounts(backend, folder, manifest)
    manifest.pieces = {name: piece for name, piece in manifest.pieces.items() if name in {each.name for each in unread}}
    source = settings.tables["usage"]
    waiting = [piece for piece in unread if piece.name in changed]
    for number, piece in enumerate(waiting, 1):
        progress(f"rolling usage up: {piece.name}, {number} of {len(waiting)}")
        before = manifest.pieces.pop(piece.name, None)
        manifest.pieces[piece.name] = read_piece(backend, source, piece, before, folder)
        if number < len(waiting):
            kept.write_manifest(folder, manifest)
    manifest.accounts = _accounts(backend)
    kept.write_manifest(folder, manifest)
    kept.clear_unnamed(folder, manifest)


def _touched_by_accounts(backend: ibis.BaseBackend, folder: Path, manifest: Manifest) -> set[str]:
    """Pieces with rows of an account that was unknown and is known now, or the other way round."""
    known = f"(select account_id from {CLEAN}.accounts)"
    touched = set()
    for name, piece in manifest.pieces.items():
        days = [folder / part.file for part in piece.parts if part.rollup == "account_days"]
        gone = f"select 1 from {_parquet(days)} where account_id not in {known} limit 1" if days else None
        aside = [folder / piece.quarantine] if piece.quarantine else []
        came = f"select 1 from {_parquet(aside)} where account_id in {known} and rule = 'unknown_account' limit 1"
        if any(backend.raw_sql(query).fetchall() for query in (gone, came if aside else None) if query):
            touched.add(name)
    return touched


def _parquet(paths: list[Path]) -> str:
    return f"read_parquet([{', '.join(quoted(path) for path in paths)}])"


def _open_views(backend: ibis.BaseBackend, folder: Path, manifest: Manifest) -> None:
    open_nothing(backend)
    for rollup in ROLLUPS:
        paths = [folder / part.file for part in manifest.parts if part.rollup == rollup.name]
        if paths:
            backend.raw_sql(f"drop table {CLEAN}.{rollup.name}")
            columns = ", ".join(rollup.columns())
            backend.raw_sql(f"create view {CLEAN}.{rollup.name} as select {columns} from {_parquet(paths)}")
