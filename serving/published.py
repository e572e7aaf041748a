"""Finding and reading a published list; imports no engine, so that reading a list starts at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from features.errors import ConfigurationError, DataError
from features.settings import Settings

CURRENT = "current"
"""The pointer of a day: the hash of the run in force."""


def published(settings: Settings, as_of: str | None = None) -> Path:
    """The folder of the list in force for `as_of` (YYYY-MM-DD), by default of the latest.

    Raises
    ------
    DataError
        There is none.
    ConfigurationError
        A file of it is not what was published.
    """
    place = settings.state_dir / "lists"
    days = published_days(settings)
    if not days or (as_of is not None and as_of not in days):
        found = f"lists of {', '.join(days[-3:])}" if days else "no list"
        raise DataError(
            f"A list{f' of {as_of}' if as_of else ''} must have been published; found {found}. "
            f"Run `tenure score{f' --as-of {as_of}' if as_of else ''}` first."
        )
    day = as_of or days[-1]
    run = (place / day / CURRENT).read_text(errors="replace").strip()
    if not run.isalnum():
        raise ConfigurationError(
            f"{place / day / CURRENT} must be as it was published, the name of a run; it is damaged. Score again."
        )
    return Path(place / day / run)


def published_days(settings: Settings) -> list[str]:
    """The days of all published lists, earliest first."""
    return sorted(path.parent.name for path in (settings.state_dir / "lists").glob(f"*/{CURRENT}"))


def read_list(folder: Path) -> dict[str, Any]:
    """The published list in `folder`, checked against its manifest."""
    return dict(orjson.loads(verified(folder, "list.json")))


def head_and_rows(folder: Path, *having: str) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """The published list in `folder` without its rows, and its ranked rows, each parsed only when it is asked for.

    Lines that lack a text of `having` are skipped unread: a list is published with a row a line.
    """
    content = verified(folder, "list.json")
    head, found, rest = content.partition(b'\n"rows": [\n')
    if not found:  # Of an older version, which wrote otherwise.
        whole = dict(orjson.loads(content))
        return whole, iter(whole.pop("rows"))
    rows = rest.partition(b"\n],\n")[0].split(b"\n")
    wanted = [text.encode() for text in having]
    chosen = (orjson.loads(row.rstrip(b",")) for row in rows if row and all(text in row for text in wanted))
    return dict(orjson.loads(head.rstrip(b",") + b"}")), chosen


def verified(folder: Path, name: str) -> bytes:
    """The file `name` of a published run, refused unless it is what was published."""
    try:
        content = (folder / name).read_bytes()
        hashes = json.loads((folder / "manifest.json").read_bytes())
        is_same = hashlib.sha256(content).hexdigest() == hashes[name]
    except (OSError, ValueError, KeyError, TypeError):
        is_same = False
    if not is_same:
        raise ConfigurationError(
            f"{name} of the list in {folder} must be as it was published; found it changed or missing. Score again."
        )
    return content
