"""Where copies of a server's tables lie: Parquet files, and a `copy.json` that says which of them are the copy.

`<state>/copies/NAME/` holds one folder of files per run that copied something. `copy.json` is replaced last and in
one step, so a run that breaks off leaves the copy before it. A folder that `copy.json` no longer names stays until
the run after, for those that still read it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from features.errors import CannotWrite


@dataclass(frozen=True, kw_only=True)
class Part:
    """The rows of one month of loading, or of the whole table."""

    rows: int
    newest: str | None
    """The latest value of the incremental column, as the server writes it."""
    files: list[str]
    """Below the folder of the copy, in the order in which they were written."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What `copy.json` says."""

    source: str
    """Identity of what was copied: server, database, table or query, and columns; without the password."""
    parts: dict[str, Part] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    """Folders that the copy before this one used."""

    @property
    def files(self) -> list[str]:
        """All files, oldest month first."""
        return [file for name in sorted(self.parts) for file in self.parts[name].files]

    @property
    def folders(self) -> set[str]:
        """The folders that hold them."""
        return {file.split("/")[0] for file in self.files}


def copy_folder(name: str, state_dir: Path) -> Path:
    """Where the copy of the table `name` lies."""
    return state_dir / "copies" / name


def copied_files(name: str, state_dir: Path) -> tuple[Path, ...]:
    """The files of the latest complete copy of `name`."""
    folder = copy_folder(name, state_dir)
    copy = latest_copy(folder)
    return () if copy is None else tuple(folder / file for file in copy.files)


def latest_copy(folder: Path) -> Copy | None:
    """The copy that is there; one that was damaged is made anew."""
    try:
        said = json.loads((folder / "copy.json").read_text(encoding="utf-8"))
        parts = {month: Part(**part) for month, part in said["parts"].items()}
        copy = Copy(source=said["source"], parts=parts, before=said["before"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return copy if all((folder / file).is_file() for file in copy.files) else None


def publish(folder: Path, fresh: Path, copy: Copy) -> None:
    """Make `copy` the one that is read, once all of its files are on the disk. `fresh` holds what this run wrote."""
    if fresh.is_dir():
        for path in fresh.iterdir():
            if f"{fresh.name}/{path.name}" in copy.files:
                _flush(path)
            else:
                path.unlink()
        _flush(fresh)
    staged = folder / "copy.json.new"
    staged.write_text(json.dumps(asdict(copy), indent=1), encoding="utf-8")
    _flush(staged)
    os.replace(staged, folder / "copy.json")
    _flush(folder)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what neither the copy nor the one before it needs."""
    copy = latest_copy(folder)
    needed = set() if copy is None else copy.folders | set(copy.before)
    for path in folder.glob("run-*"):
        if path.name not in needed:
            shutil.rmtree(path)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold `folder` alone: another run that copies the same table waits.

    Raises
    ------
    CannotWrite
        The disk is full, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise CannotWrite(
            f"Copies of tables must be written to {folder}; {error.strerror or 'it cannot be written'}. "
            "Free space, change its permissions, or set [state] dir."
        ) from error
