"""CSV files, read without guessing: the header names the columns, every value stays text, nothing is a comment.

An engine that sniffs a file may take `#` for a comment, or a ragged line for another delimiter, and lose rows in
silence. So the header is read here; the engine is told all the rest, and stops at the first line that differs.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import TextIO

from features.errors import DataError

_DELIMITERS = (",", ";", "\t", "|")


def csv_reader(table: str, *paths: Path) -> str:
    """SQL that reads `paths`, which share a header, with the columns of that header, all of them text."""
    header, delimiter = csv_columns(table, paths[0])
    columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in header)
    files = ", ".join(quoted(path) for path in paths)
    return (
        f"read_csv([{files}], auto_detect = false, header = true, columns = {{{columns}}}, "
        f"delim = {quoted(delimiter)}, quote = '\"', escape = '\"', comment = '', nullstr = '')"
    )


def csv_columns(table: str, path: Path) -> tuple[tuple[str, ...], str]:
    """The columns of the header, and the delimiter between them.

    Raises
    ------
    DataError
        The file has no header, or one that names a column twice.
    """
    try:
        header, delimiter = _header(path)
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(table, path)) from error
    if not any(header):
        raise DataError(f"Table '{table}' must have a header line; {path.name} is empty. Export it again.")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(
            f"Table '{table}' must name each column once (schema_drift); found {twice} again in {path.name}. "
            "Rename them."
        )
    return tuple(header), delimiter


def quoted(value: object) -> str:
    """`value` as a SQL text literal."""
    return "'" + str(value).replace("'", "''") + "'"


def csv_fault(table: str, path: Path) -> str:
    """Why the engine could not read `path`, in a sentence without any of its values."""
    header, delimiter = _header(path)
    try:
        with _open(path) as file:
            lines = csv.reader(file, delimiter=delimiter)
            for values in lines:
                if values and len(values) != len(header):
                    return (
                        f"Table '{table}' must have {len(header)} values in every line; found {len(values)} in line "
                        f"{lines.line_num} of {path.name}. Quote values that hold a '{delimiter}', or export it again."
                    )
    except UnicodeDecodeError:
        return _not_utf8(table, path)
    return f"Table '{table}' must be a CSV file as RFC 4180 has it; {path.name} is not. Export it again."


def _not_utf8(table: str, path: Path) -> str:
    return f"Table '{table}' must be a CSV file in UTF-8; found other bytes in {path.name}. Save it as UTF-8."


def _open(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _header(path: Path) -> tuple[list[str], str]:
    with _open(path) as file:
        first = file.readline()
    delimiter = max(_DELIMITERS, key=first.count)
    return next(csv.reader([first], delimiter=delimiter), []), delimiter
