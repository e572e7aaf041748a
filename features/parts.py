"""Parquet files kept by month, and the manifest that says what they were built from.

A part is written under a name of its own and reaches the disk before the manifest names it; the manifest is replaced
in one step. So a reader, or a run that begins after a crash, always finds a complete state.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from features.errors import CannotWrite

MANIFEST = "manifest.json"
_FORMAT = 1
_KEPT_SECONDS = 24 * 3600
"""How long a part that no manifest names any more is left for those who still read it."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One Parquet file: the rows of one roll-up that one piece of the source gave for one month."""

    rollup: str
    month: str
    file: str
    """Relative to the folder of the manifest."""
    rows: int
    checksum: str
    """Over the rows, in whatever order."""
    size: int
    """Of the file, in bytes."""
    sha256: str
    """Over the file's bytes."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What became of one file, or of one query, of the source."""

    signature: dict[str, Any]
    """By which a change is noticed."""
    rows: int
    repeated: int
    set_aside: int
    quarantine: str | None
    """File of the rows set aside."""
    columns: tuple[str, ...]
    parts: tuple[Part, ...]
    erased: int = 0
    """Rows of an erased account, which were left out, or that name an erased person."""


@dataclass(kw_only=True)
class Manifest:
    """What the parts of a folder were built from."""

    recipe: str = ""
    """Of what was done to the rows; another recipe builds all anew."""
    accounts: str = ""
    """Of the accounts that were known when rows of unknown ones were set aside."""
    pieces: dict[str, Piece] = field(default_factory=dict)

    @property
    def parts(self) -> list[Part]:
        """All parts, by month."""
        return sorted((part for piece in self.pieces.values() for part in piece.parts), key=lambda part: part.file)

    def checksums(self) -> dict[str, str]:
        """Piece, roll-up and month → checksum of the rows: equal for equal sources, however they were built."""
        return {
            f"{name} {part.rollup} {part.month}": part.checksum
            for name, piece in sorted(self.pieces.items())
            for part in piece.parts
        }


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`; an empty one where there is none, it is damaged or a part it names is."""
    try:
        document = json.loads((folder / MANIFEST).read_text())
        if document.pop("format") != _FORMAT:
            return Manifest()
        pieces = {name: _piece(told) for name, told in document.pop("pieces").items()}
        manifest = Manifest(**document, pieces=pieces)
    except (OSError, ValueError, KeyError, TypeError):
        return Manifest()
    manifest.pieces = {name: piece for name, piece in manifest.pieces.items() if _is_whole(piece, folder)}
    return manifest


def _piece(told: dict[str, Any]) -> Piece:
    parts = tuple(Part(**part) for part in told["parts"])
    return Piece(**{**told, "parts": parts, "columns": tuple(told["columns"])})


def _is_whole(piece: Piece, folder: Path) -> bool:
    paths = {folder / part.file: part.size for part in piece.parts}
    if piece.quarantine and not (folder / piece.quarantine).is_file():
        return False
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step; a crash leaves the one before."""
    document = {"format": _FORMAT, **asdict(manifest)}
    staged = folder / f"{MANIFEST}.{os.getpid()}"
    with can_write(folder):
        with staged.open("w") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, folder / MANIFEST)
        sync(folder)


def damaged(folder: Path, manifest: Manifest) -> list[str]:
    """The files whose bytes are not those that were written."""
    return [part.file for part in manifest.parts if file_sha256(folder / part.file) != part.sha256]


def clear_unnamed(folder: Path, manifest: Manifest, *, at_once: bool = False) -> None:
    """Remove the parts that no manifest has named for a day, or all that it does not name."""
    named = {part.file for part in manifest.parts} | {piece.quarantine for piece in manifest.pieces.values()}
    kept_seconds = 0 if at_once else _KEPT_SECONDS
    for path in folder.glob("*/*.parquet"):
        if str(path.relative_to(folder)) not in named and time.time() - path.stat().st_mtime >= kept_seconds:
            path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file or folder reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process changes `folder`."""
    with can_write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    with lock:
        flock(lock, LOCK_EX)
        yield


@contextmanager
def can_write(folder: Path) -> Iterator[None]:
    """Say in a sentence that `folder` cannot be written."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(
            f"The state directory {folder} must be a folder that can be written; {error.strerror or error}. "
            "Free space, change its permissions, or set [state] dir."
        ) from error
