"""Published lists: a run directory that is complete before one pointer moves to it.

    lists/2026-01-01/<hash>/list.json  features.parquet  contributions.parquet  timeline.parquet  manifest.json
    lists/2026-01-01/current            the hash of the run in force

The latest list is the one of the latest instant. The run is written first, then the ledger in one transaction, then
the pointer: a crash leaves the previous list as it was in the files, and in the ledger all of either; the next run
of the same instant makes them agree.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import AlreadyRunning, CannotWrite
from features.settings import Settings
from serving.champion import kept_model
from serving.changes import Before
from serving.ledger import open_ledger
from serving.ledger.lists import keep_list
from serving.list_parts import Made
from serving.published import CURRENT, published, published_days, read_list, verified
from serving.timeline import TIMELINE, timeline_bytes


@contextmanager
def one_at_a_time(settings: Settings) -> Iterator[None]:
    """Hold the lock of this company's state, or refuse at once."""
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        lock = (settings.state_dir / "lock").open("w")
    except OSError as error:
        raise _cannot_write(settings.state_dir, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                f"Only one run may write to {settings.state_dir}; found another at work. Try again when it has ended."
            ) from error
        yield


def publish(made: Made, features: pd.DataFrame, settings: Settings) -> Path:
    """Write the list and what is behind it, then make it the one in force for its instant."""
    risk_list = made.risk_list
    contents = {
        "list.json": list_bytes(risk_list),
        "features.parquet": _parquet(features),
        "contributions.parquet": _parquet(made.contributions),
    }
    if made.timeline is not None:
        contents[TIMELINE] = timeline_bytes(made.timeline)
    place = settings.state_dir / "lists" / risk_list["as_of"]
    run = write_run(place, contents)
    with open_ledger(settings).writing() as connection:
        keep_list(connection, risk_list, list_id=run)
    point_to(place, run)
    return Path(place / run)


def write_run(place: Path, contents: Mapping[str, bytes]) -> str:
    """Write a complete run into the folder of its day, and return its name; nothing points to it yet."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    manifest = json.dumps(hashes, indent=1, sort_keys=True).encode()
    run = hashlib.sha256(manifest).hexdigest()[:16]
    try:
        _write_run(place, run, {**contents, "manifest.json": manifest})
    except OSError as error:
        raise _cannot_write(place, error) from error
    return run


def point_to(place: Path, run: str) -> None:
    """Make a run the one in force for its day."""
    try:
        _replace(place / CURRENT, run.encode())
    except OSError as error:
        raise _cannot_write(place, error) from error


def list_bytes(risk_list: Mapping[str, Any]) -> bytes:
    """The list as it is published: a row a line, the same bytes for the same list."""
    parts = {name: value for name, value in risk_list.items() if name not in _LONG}
    lines = [json.dumps(name) + ": " + _json(value) for name, value in sorted(parts.items())]
    for name in _LONG:
        rows = ",\n".join(_json(row) for row in risk_list[name])
        lines.append(f"{json.dumps(name)}: [\n{rows}\n]")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


_LONG = ("rows", "leaving", "excluded", "left")


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _write_run(place: Path, run: str, contents: dict[str, bytes]) -> None:
    if _is_whole(place / run, contents):
        return  # The same inputs give the same run.
    place.mkdir(parents=True, exist_ok=True)
    for left_behind in place.glob(".*"):  # By a run that was killed; we hold the lock.
        shutil.rmtree(left_behind) if left_behind.is_dir() else left_behind.unlink()
    staged = place / f".{run}.{os.getpid()}"
    staged.mkdir()
    for name, content in contents.items():
        with (staged / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync_folder(staged)
    if (place / run).is_dir():  # It was damaged since; put the whole one in its place.
        os.replace(place / run, place / f".{run}.damaged")
    os.replace(staged, place / run)
    _sync_folder(place)


def _is_whole(folder: Path, contents: dict[str, bytes]) -> bool:
    return all(
        (folder / name).is_file() and (folder / name).read_bytes() == content for name, content in contents.items()
    )


def _replace(path: Path, content: bytes) -> None:
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with staged.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_features(folder: Path) -> pd.DataFrame:
    """The features behind the list in `folder`."""
    return _read_parquet(folder, "features.parquet")


def list_before(settings: Settings, as_of: datetime) -> Before | None:
    """The newest list of an earlier day, as far as the next one needs it; None before the first."""
    days = [day for day in published_days(settings) if day < f"{as_of:%Y-%m-%d}"]
    return _as_before(published(settings, days[-1]), settings) if days else None


def list_it_followed(settings: Settings, risk_list: Mapping[str, Any]) -> Before | None:
    """The very list that a published one was compared with, also where another is in force for that day by now."""
    named = risk_list["before"]
    if named is None:
        return None
    return _as_before(settings.state_dir / "lists" / named["as_of"] / named["list_id"], settings)


def _as_before(folder: Path, settings: Settings) -> Before:
    found = read_list(folder)
    contributions = (
        _read_parquet(folder, "contributions.parquet") if (folder / "contributions.parquet").exists() else None
    )
    return Before(
        as_of=found["as_of"],
        list_id=folder.name,
        rows={row["account_id"]: row for row in found["rows"]},
        contributions=pd.DataFrame() if contributions is None else contributions.set_index("account_id"),
        features=lambda: read_features(folder).set_index("account_id"),
        model=kept_model(settings, found["model_artefact"]),
        artefact=found["model_artefact"],
    )


def _read_parquet(folder: Path, name: str) -> pd.DataFrame:
    return pd.DataFrame(pq.read_table(io.BytesIO(verified(folder, name))).to_pandas())


def _parquet(rows: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None), sink)
    return sink.getvalue()


def _cannot_write(place: Path, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"{place} must be writable; {error.strerror}. The previous list stays. "
        "Free space, change its permissions, or set [state] dir."
    )
