"""What a PostgreSQL column becomes in a copy: text stays byte for byte, numbers keep their digits, times are UTC."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
import pyarrow as pa
import pyarrow.csv as pc
from psycopg import sql

from features.errors import DataError

_NAMED = psycopg.adapters.types
_INTEGERS = {_NAMED[name].oid for name in ("int2", "int4", "int8", "oid")}
_FLOATS = {_NAMED[name].oid for name in ("float4", "float8")}
_NUMERIC, _BOOL, _DATE = _NAMED["numeric"].oid, _NAMED["bool"].oid, _NAMED["date"].oid
_TIMESTAMP, _ZONED = _NAMED["timestamp"].oid, _NAMED["timestamptz"].oid

MAX_DIGITS = 38


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How the rows of one table are asked for and read."""

    selected: sql.Composable
    """The columns as the server should send them."""
    schema: pa.Schema
    times: frozenset[str]
    """Columns of dates or timestamps."""

    def table(self, lines: bytes) -> pa.Table:
        """Rows sent as CSV, every value in quotes and nothing for null.

        Raises
        ------
        pa.ArrowInvalid
            A value does not fit its column: NaN among decimals, a year before 1 or after 9999, bytes that are no UTF-8.
        """
        # A zoned timestamp is sent as what it is in UTC, without the zone.
        sent = {item.name: _unzoned(item.type) for item in self.schema}
        rows = pc.read_csv(
            io.BytesIO(lines),
            read_options=pc.ReadOptions(column_names=self.schema.names, block_size=len(lines) + 1, use_threads=False),
            parse_options=pc.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=pc.ConvertOptions(
                column_types=sent,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
        return rows.cast(self.schema)


def reader(table: str, columns: Iterable[psycopg.Column]) -> Reader:
    """How to read rows with these columns."""
    columns = list(columns)
    names = [column.name for column in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"Table '{table}' must name each column once; found {twice} again. Rename them in its query.")
    if not names:
        raise DataError(f"Table '{table}' must have columns; found none. Correct its section of tenure.toml.")
    return Reader(
        selected=sql.SQL(", ").join(_sent(column) for column in columns),
        schema=pa.schema([(column.name, _type(column)) for column in columns]),
        times=frozenset(column.name for column in columns if column.type_code in (_DATE, _TIMESTAMP, _ZONED)),
    )


def _type(column: psycopg.Column) -> pa.DataType:
    code = column.type_code
    if code == _NUMERIC:
        digits, places = column.precision, column.scale
        fits = digits is not None and places is not None and 0 <= places <= digits <= MAX_DIGITS
        return pa.decimal128(digits, places) if fits else pa.float64()
    for codes, kind in (
        (_INTEGERS, pa.int64()),
        (_FLOATS, pa.float64()),
        ({_BOOL}, pa.bool_()),
        ({_DATE}, pa.date32()),
        ({_TIMESTAMP}, pa.timestamp("us")),
        ({_ZONED}, pa.timestamp("us", tz="UTC")),
    ):
        if code in codes:
            return kind
    return pa.string()


def _unzoned(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("us") if pa.types.is_timestamp(kind) else kind


def _sent(column: psycopg.Column) -> sql.Composable:
    """SQL of one column. `infinity` means that there is no end, and becomes null."""
    name = sql.Identifier(column.name)
    if column.type_code in (_DATE, _TIMESTAMP):
        return sql.SQL("case when isfinite({0}) then {0} end").format(name)
    if column.type_code == _ZONED:
        return sql.SQL("case when isfinite({0}) then {0} at time zone 'UTC' end").format(name)
    return name if _type(column) != pa.string() else sql.SQL("{}::text").format(name)
