"""Exports: the same rows in every form, and no cell that a sheet would run."""

from __future__ import annotations

import csv
import io

import openpyxl
import pyarrow.parquet as pq
import pytest

from serving.exports import COLUMNS, exported, list_csv, list_parquet, list_xlsx, records

ROW = {
    "rank": 1, "account_id": "001", "name": "Acme", "csm_id": "ana", "segment": None, "probability": 0.25,
    "band": "high", "part": "act", "change": {"kind": "up"}, "mrr": 100.0, "mrr_at_risk": 25.0, "days_to_renewal": None,
    "reasons": [{"text": "Logins: 3 (typical 9)"}],
    "play": {"play": "pb_usage_drop", "name": "Usage drop", "step": "Call: what changed?", "due_date": "2025-05-02"},
}  # fmt: skip
TEXTS = ("account_id", "name", "csm_id", "segment")
STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")
PAYLOADS = [
    *(start + "1+1" for start in STARTS),
    *("=" + call for call in (
        "HYPERLINK(\"http://x\",\"y\")", "cmd|' /C calc'!A0", "IMPORTXML(\"http://x\")", "WEBSERVICE(1)", "DDE(1)",
        "1/0", "A1", "SUM(1+1)*cmd", "EXEC(1)", "\t1", " 1",
    )),
    "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)", "\t=1", "\r=1", "\n=1", "x\n=1+1", "x\r\n@SUM(1)",
    "'=1", "{=1}", "=\u00001", "Acme\r=1+1", "\u2028=1", "http://x", "mailto:x", "=1;2", "\";=1", "-", "=",
]  # fmt: skip


def csv_cells(rows):
    return list(csv.DictReader(io.StringIO(list_csv(rows), newline="")))


def sheet_of(rows):
    return openpyxl.load_workbook(io.BytesIO(list_xlsx(rows))).active


def test_there_are_forty_payloads():
    assert len(set(PAYLOADS)) >= 40


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_is_run_by_a_sheet(payload):
    rows = [{**ROW, **dict.fromkeys(TEXTS, payload), "reasons": [{"text": payload}]}]
    cells = csv_cells(rows)
    sheet = sheet_of(rows)

    assert len(cells) == 1, "no value begins a line of its own"
    assert not any(value.startswith(STARTS) for value in cells[0].values())
    assert all(cell.data_type in ("s", "n") for line in sheet.iter_rows(min_row=2) for cell in line)
    texts = [cell.value for line in sheet.iter_rows(min_row=2) for cell in line if isinstance(cell.value, str)]
    assert not any(text.startswith(STARTS) for text in texts)
    assert sheet.max_row == 2


def test_every_form_holds_the_same_values():
    rows = [ROW, {**ROW, "rank": 2, "probability": 1 / 3, "play": None, "reasons": [], "change": None}]
    flat = records(rows)
    sheet = [[cell.value for cell in line] for line in sheet_of(rows).iter_rows(min_row=2)]
    parquet = pq.read_table(io.BytesIO(list_parquet(rows))).to_pylist()

    assert parquet == flat
    assert sheet == [list(record.values()) for record in flat]
    assert [{name: float(row[name]) for name in ("rank", "probability", "mrr")} for row in csv_cells(rows)] == [
        {name: float(record[name]) for name in ("rank", "probability", "mrr")} for record in flat
    ]


def test_ids_stay_text():
    assert csv_cells([ROW])[0]["account_id"] == "001"
    assert sheet_of([ROW]).cell(2, 2).value == "001"


@pytest.mark.parametrize("form", ["csv", "xlsx", "parquet"])
def test_the_same_rows_give_the_same_bytes_and_none_give_a_heading(form):
    assert exported([ROW], form) == exported([ROW], form)
    empty, _ = exported([], form)
    names = {
        "csv": lambda: next(csv.reader(io.StringIO(empty.decode()))),
        "xlsx": lambda: [cell.value for cell in openpyxl.load_workbook(io.BytesIO(empty)).active[1]],
        "parquet": lambda: pq.read_table(io.BytesIO(empty)).column_names,
    }
    assert list(names[form]()) == list(COLUMNS)
