"""Parquet files of raw rows that tenure keeps, written anew without those who were erased."""

from __future__ import annotations

from pathlib import Path

import ibis

from features.copies import copy_folder, writing
from features.csv_files import quoted
from features.erasure import erased_rows, rows_without_erased
from features.settings import TableSource
from features.state import replace_file


def erase_from_copies(backend: ibis.BaseBackend, name: str, source: TableSource, state_dir: Path) -> int:
    """Write the copies of a server's table anew where they hold somebody erased; return how many rows did.

    What the server still holds comes with the next copy, and goes again before anything reads it.
    """
    folder = copy_folder(name, state_dir)
    if source.is_computed or not folder.is_dir():
        return 0
    with writing(folder):
        return sum(_erase(backend, name, source, path) for path in sorted(folder.glob("run-*/*.parquet")))


def _erase(backend: ibis.BaseBackend, name: str, source: TableSource, path: Path) -> int:
    raw = f"read_parquet({quoted(path)})"
    kept = rows_without_erased(backend, name, source, raw)
    rows = sum(erased_rows(backend, name, source, raw).values())
    if rows:
        replace_file(
            path, lambda staged: backend.raw_sql(f"copy (select * from {kept}) to {quoted(staged)} (format parquet)")
        )
    return rows
