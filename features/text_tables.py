"""Tables as the command line prints them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def facts_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Plain facts as a table, one mapping a line."""
    table = text_table(*(column.replace("_", " ") for column in columns))
    for row in rows:
        table.add_row(*(_fact(row[column]) for column in columns))
    return rendered(table)


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    if value is None or value != value:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def text_table(*columns: str) -> Table:
    """An empty table to add rows to."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def rendered(table: Table) -> str:
    """The table as lines, as wide as the terminal but at least 120 columns."""
    width = max(shutil.get_terminal_size((160, 24)).columns, 120)
    sink = io.StringIO()
    Console(file=sink, width=width, highlight=False, markup=False).print(table)
    return sink.getvalue().rstrip("\n")
