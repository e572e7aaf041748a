"""Rows of a generated company that break a rule, and the list of them, so that a quarantine can be judged.

A wrong row is a copy of a good one with one fault, right after it: once all wrong rows are set aside, the company
is what it was without them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.data_contract import table as contract_table
from features.schema import Column, Table
from features.world.state import Ints, generator

_FAULT = tuple[str, Callable[[pa.Table], pa.Table]]
"""The name of the rule that is broken, and how."""


def with_wrong_rows(tables: dict[str, pa.Table], share: float, seed: int) -> tuple[dict[str, pa.Table], pa.Table]:
    """The tables with wrong rows, about `share` of each, and their list: table, row_number (from 1) and rule."""
    spoiled, found = {}, []
    for name, table in tables.items():
        random = generator(seed, table.num_rows, f"wrong {name}")
        victims = np.sort(random.choice(table.num_rows, round(share * table.num_rows), replace=False))
        faults = _faults(contract_table(name), table)
        spoiled[name], wrong = _spoil(table, victims, random.integers(0, len(faults), len(victims)), faults)
        found.append(wrong.add_column(0, "table", pa.array([name] * len(wrong), pa.string())))
    return spoiled, pa.concat_tables(found)


def _spoil(table: pa.Table, victims: Ints, kinds: Ints, faults: list[_FAULT]) -> tuple[pa.Table, pa.Table]:
    # The copy of row v, counted from 0, comes after v + 1 rows and the copies before it.
    places = victims + 1 + np.arange(len(victims))
    pieces = [table]
    for kind, (_, spoil) in enumerate(faults):
        pieces.append(spoil(table.take(pa.array(victims[kinds == kind]))))
    order = np.empty(table.num_rows + len(victims), dtype=np.int64)
    is_copy = np.zeros(len(order), dtype=bool)
    is_copy[places] = True
    order[~is_copy] = np.arange(table.num_rows)
    order[places[np.argsort(kinds, kind="stable")]] = table.num_rows + np.arange(len(victims))
    rules = pa.array([name for name, _ in faults]).take(pa.array(kinds))
    wrong = pa.table({"row_number": pa.array(places + 1), "rule": rules})
    return pa.concat_tables(pieces).take(pa.array(order)), wrong


def _faults(contract: Table, table: pa.Table) -> list[_FAULT]:
    """What can go wrong with a row by itself, or beside the row before it."""
    columns = [column for column in contract.columns if column.name in table.column_names]
    faults: list[_FAULT] = [("required", lambda rows: _emptied(rows, "account_id"))]
    if contract.name != "accounts":
        faults.append(("unknown_account", lambda rows: _replaced(rows, "account_id", "acc-unknown")))
    if contract.key:
        faults.append(("duplicate_key", lambda rows: rows))
    faults += [_below(column) for column in columns if column.low == 0 and table[column.name].null_count == 0]
    faults += [_strange(column) for column in columns if column.allowed and table[column.name].null_count == 0]
    for rule in contract.rules:
        later, separator, earlier = rule.broken.partition(" < ")
        told = {later, earlier} <= set(table.column_names) and table[earlier].null_count == 0
        if rule.name == "time_order" and separator and told:
            faults.append(("time_order", _reversed(later, earlier)))
    return faults


def _below(column: Column) -> _FAULT:
    return "range", lambda rows: _replaced(rows, column.name, -1)


def _strange(column: Column) -> _FAULT:
    return "enum", lambda rows: _replaced(rows, column.name, "mistyped")


def _reversed(later: str, earlier: str) -> Callable[[pa.Table], pa.Table]:
    def spoil(rows: pa.Table) -> pa.Table:
        before = pc.subtract(rows[earlier], pa.scalar(timedelta(days=3), pa.duration("us")))
        return _put(rows, later, before)

    return spoil


def _emptied(rows: pa.Table, name: str) -> pa.Table:
    return _put(rows, name, pa.nulls(rows.num_rows, rows.schema.field(name).type))


def _replaced(rows: pa.Table, name: str, value: str | int) -> pa.Table:
    kind = rows.schema.field(name).type
    return _put(rows, name, pa.array([value] * rows.num_rows).cast(kind) if rows.num_rows else pa.nulls(0, kind))


def _put(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)
