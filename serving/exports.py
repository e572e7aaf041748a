"""A list as a file for others: CSV, Excel, Parquet. One account a line, the same columns in all of them.

Text that a sheet would run as a formula is made harmless (OWASP ASVS 5.0, 1.2.10); numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter

COLUMNS = (
    "rank", "account_id", "name", "csm_id", "segment", "probability", "band", "part", "change", "mrr", "mrr_at_risk",
    "days_to_renewal", "reason_1", "reason_2", "reason_3", "play", "first_step", "due_date",
)  # fmt: skip
"""Version 2 of the columns; new ones come at the end."""
_NUMBERS = {"rank": pa.int64(), "days_to_renewal": pa.int64()} | dict.fromkeys(
    ("probability", "mrr", "mrr_at_risk"), pa.float64()
)
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")
_EPOCH = datetime(2000, 1, 1)
"""Written into every workbook as its date, so that the same list gives the same file."""


def records(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a list as flat records of `COLUMNS`."""
    return [_record(row) for row in rows]


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    texts = [reason["text"] for reason in row["reasons"]]
    play, change = row["play"] or {}, row.get("change") or {}
    given = {
        **row,
        **{f"reason_{place + 1}": texts[place] if place < len(texts) else None for place in range(3)},
        "change": change.get("kind"),
        "play": play.get("play"),
        "first_step": play.get("step"),
        "due_date": play.get("due_date"),
    }
    return {column: given[column] for column in COLUMNS}


def list_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """The list as CSV."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_harmless(value) for value in record.values()] for record in records(rows))
    return sink.getvalue()


def list_xlsx(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The list as an Excel workbook: a heading that stays in sight, a filter, text that is only text."""
    sink = io.BytesIO()
    with xlsxwriter.Workbook(sink, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}) as book:
        book.set_properties({"created": _EPOCH, "title": "tenure risk list"})
        sheet, bold = book.add_worksheet("risk list"), book.add_format({"bold": True})
        formats = {"probability": book.add_format({"num_format": "0.0%"})}
        formats |= dict.fromkeys(("mrr", "mrr_at_risk"), book.add_format({"num_format": "#,##0"}))
        sheet.write_row(0, 0, COLUMNS, bold)
        found = records(rows)
        for line, record in enumerate(found, start=1):
            for place, (name, value) in enumerate(record.items()):
                _write_cell(sheet, (line, place), value, formats.get(name))
        sheet.freeze_panes(1, 3)
        sheet.autofilter(0, 0, len(found), len(COLUMNS) - 1)
        sheet.autofit()
    return sink.getvalue()


def _write_cell(sheet: Any, cell: tuple[int, int], value: Any, form: Any) -> None:
    if value is None:
        return
    if isinstance(value, str):
        sheet.write_string(*cell, _harmless(value), form)
    else:
        sheet.write_number(*cell, value, form)


def list_parquet(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The list as Parquet, with the same types for every list."""
    schema = pa.schema([(name, _NUMBERS.get(name, pa.string())) for name in COLUMNS])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records(rows), schema=schema), sink)
    return sink.getvalue()


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # A line break inside a value would begin a line of its own in careless readers.
    value = " ".join(value.splitlines()) if value.splitlines() != [value] else value
    return "'" + value if value.startswith(_STARTS_FORMULA) else value


def exported(rows: Sequence[Mapping[str, Any]], form: str) -> tuple[bytes, str]:
    """The rows in a form of `FORMS`, and its media type."""
    match form:
        case "xlsx":
            return list_xlsx(rows), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        case "parquet":
            return list_parquet(rows), "application/vnd.apache.parquet"
    return list_csv(rows).encode(), "text/csv; charset=utf-8"


FORMS = ("csv", "xlsx", "parquet")
