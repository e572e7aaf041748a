"""Compiled builds, kept between processes: an expression takes much longer to compile than a small table to be read.

A build is a list of statements. They depend on the shape of the tables, the label and the code, and on nothing that
the tables hold; so they are kept under a hash of these, and any change of the code makes them anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import duckdb
import ibis

Statements = list[tuple[str, str]]
"""Name of a table, and the SQL of its rows, in the order of the build."""

_ROOM = Path(__file__).parent


def key_of(*facts: object) -> str:
    """The name under which a build that depends on `facts` is kept."""
    return hashlib.sha256(repr((_code(), *facts)).encode()).hexdigest()


def kept_statements(folder: Path, key: str) -> Statements | None:
    """The statements kept under `key`; none where there are none, or where their file is damaged."""
    try:
        document = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        return [(str(name), str(sql)) for name, sql in document]
    except (OSError, ValueError, TypeError):
        return None


def keep_statements(folder: Path, key: str, statements: Sequence[tuple[str, str]]) -> None:
    """Keep statements for the next process; where nothing can be written, it compiles for itself."""
    staged = folder / f"{key}.{os.getpid()}"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        staged.write_text(json.dumps(statements), encoding="utf-8")
        os.replace(staged, folder / f"{key}.json")


def settled(sql: str) -> str:
    """The statement with the columns that it leaves out in order: ibis holds them in a set, in no order of its own."""
    return re.sub(r"EXCLUDE \(([^()]*)\)", lambda found: f"EXCLUDE ({', '.join(sorted(found[1].split(', ')))})", sql)


@functools.cache
def _code() -> str:
    """Identity of all that turns features into statements."""
    sources = sorted(path for path in _ROOM.rglob("*.py") if "world" not in path.parts)
    content = b"".join(path.read_bytes() for path in sources)
    return hashlib.sha256(content + f"{ibis.__version__} {duckdb.__version__}".encode()).hexdigest()
