"""The one path to features: training, batch and online all call `feature_table`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.common.exceptions import IbisError

from features.catalogue import FAMILIES, is_connected, is_told
from features.compiled import keep_statements, kept_statements, key_of, settled
from features.family import Family, Feature, Measure
from features.settings import LabelSettings
from features.snapshots import phases_at
from features.sources import keep
from features.tables import Tables
from features.windows import instants_table, masked

KEYS = ("account_id", "as_of")
FAMILIES_A_STEP = 8
INSTANTS, ROSTER, WHOLE = "feature_instants", "roster", "whole"


def feature_table(
    tables: Tables, instants: Sequence[datetime], label: LabelSettings, *, families: Sequence[Family] = FAMILIES
) -> pa.Table:
    """What was known of every active account at each instant.

    Parameters
    ----------
    families : those to build, each with all that its ratios read

    Returns
    -------
    table of account_id, as_of and one double per feature of the catalogue, or of `families`, sorted by as_of and
    account_id. A missing value is null; what missing means is declared with each feature.
    """
    if not instants:
        raise ValueError("instants must hold at least one instant, got none.")
    moments = instants_table(tables.backend, instants, name=INSTANTS)
    key = key_of(type(tables).__qualname__, tables.shape, label, [family.name for family in families])
    statements = kept_statements(tables.compiled, key)
    if statements is None:
        keep_statements(tables.compiled, key, list(_built(tables, moments, label, families)))
    else:
        for name, sql in statements:
            keep(tables.backend, name, sql)
    whole = tables.backend.table(f"{WHOLE}_finished")
    return whole.order_by(["as_of", "account_id"]).to_pyarrow()


def statements_hash(tables: Tables, label: LabelSettings) -> str:
    """sha256 over the statements that make the feature table: other code that means the same leaves it as it is.

    Empty where nothing could be kept, or before the first build.
    """
    key = key_of(type(tables).__qualname__, tables.shape, label, [family.name for family in FAMILIES])
    statements = kept_statements(tables.compiled, key)
    return "" if statements is None else hashlib.sha256(repr(statements).encode()).hexdigest()


def _built(
    tables: Tables, moments: ir.Table, label: LabelSettings, families: Sequence[Family]
) -> Iterator[tuple[str, str]]:
    """Build the feature table step by step; yields the name and SQL of every step once it is done."""

    def step(name: str, rows: ir.Table | str) -> tuple[str, str]:
        sql = rows if isinstance(rows, str) else settled(tables.backend.compile(rows))
        keep(tables.backend, name, sql)
        return name, sql

    phases = phases_at(tables, moments, label)
    yield step(ROSTER, phases.filter(phases.phase == "active").select(*KEYS))
    for family in families:
        if is_connected(family, tables):
            yield step(f"family_{family.name}", _aggregated(family, tables, moments))
    pieces = list(_grouped(families, FAMILIES_A_STEP))
    for number, piece in enumerate(pieces):
        yield step(f"{WHOLE}_part_{number}", _side_by_side(piece, tables))
    yield step(f"{WHOLE}_0", _put_together(pieces))
    level, pending = 0, [(family, item) for family in families for item in family.ratios]
    while pending:
        whole, pending = _with_ratios(tables.backend.table(f"{WHOLE}_{level}"), pending, tables)
        level += 1
        yield step(f"{WHOLE}_{level}", whole)
    yield step(f"{WHOLE}_finished", _finished(tables.backend.table(f"{WHOLE}_{level}"), families, tables))


def _aggregated(family: Family, tables: Tables, moments: ir.Table) -> ir.Table:
    rows = family.rows(tables, moments)
    values = {name: item.formula(masked(rows, item.window)) for name, item in family.aggregates().items()}
    numbers = {name: value.cast("int8") if value.type().is_boolean() else value for name, value in values.items()}
    return rows.group_by(*KEYS).agg(**numbers)


def _grouped(families: Sequence[Family], size: int) -> Iterator[Sequence[Family]]:
    """The families in groups of at most `size`."""
    for start in range(0, len(families), size):
        yield families[start : start + size]


def _side_by_side(families: Sequence[Family], tables: Tables) -> str:
    """SQL of the roster with the aggregates of some families beside it, filled by their rule of missing values.

    Text, because an expression that joins many tables takes long to compile; and a few families at a time, because
    the engine takes longer with every table to plan how it will join them.
    """
    columns, joins = [f"{ROSTER}.{key}" for key in KEYS], []
    for family in families:
        name, connected = f"family_{family.name}", is_connected(family, tables)
        for column, item in family.aggregates().items():
            found = f"{name}.{column}" if connected else "cast(null as double)"
            columns.append(f"{_filled(found, item) if connected else found} as {column}")
        if connected:
            joins.append(f"left join {name} on {_same_row(name)}")
    return f"select {', '.join(columns)} from {ROSTER} {' '.join(joins)}"


def _put_together(pieces: Sequence[Sequence[Family]]) -> str:
    """SQL of the roster with all aggregates beside it."""
    columns, joins = [f"{ROSTER}.{key}" for key in KEYS], []
    for number, families in enumerate(pieces):
        name = f"{WHOLE}_part_{number}"
        columns += [f"{name}.{column}" for family in families for column in family.aggregates()]
        joins.append(f"left join {name} on {_same_row(name)}")
    return f"select {', '.join(columns)} from {ROSTER} {' '.join(joins)}"


def _same_row(name: str) -> str:
    return " and ".join(f"{ROSTER}.{key} = {name}.{key}" for key in KEYS)


def _filled(value: str, item: Measure | Feature) -> str:
    return f"coalesce({value}, 0)" if item.missing in ("Z", "F") else value


def _with_ratios(
    whole: ir.Table, pending: list[tuple[Family, Feature]], tables: Tables
) -> tuple[ir.Table, list[tuple[Family, Feature]]]:
    """`whole` with every ratio whose columns are there; the others wait for the next step."""
    ready, waiting = {}, []
    for family, item in pending:
        if not is_told(item, family, tables):
            ready[item.name] = ibis.null("double")
            continue
        try:
            value = item.formula(whole)
        except (AttributeError, IbisError) as error:
            waiting.append((family, item))
            reason = error
            continue
        value = value.cast("int8") if value.type().is_boolean() else value
        value = value.fill_null(0) if item.missing in ("Z", "F") else value
        ready[item.name] = _old_enough(whole, value, item)
    if not ready:
        raise ValueError(f"{[item.name for _, item in waiting]} must read columns that exist: {reason}")
    return whole.mutate(**ready), waiting


def _finished(whole: ir.Table, families: Sequence[Family], tables: Tables) -> ir.Table:
    """The columns of the feature table; what the sources cannot tell is missing."""
    items = {item.name: (family, item) for family in families for item in family.all_features()}
    return whole.select(*KEYS, **{name: _visible(whole, *place, tables) for name, place in items.items()})


def _visible(whole: ir.Table, family: Family, item: Feature, tables: Tables) -> ir.Value:
    if not is_told(item, family, tables):
        return ibis.null("double")
    return _old_enough(whole, whole[item.name].cast("double"), item)


def _old_enough(whole: ir.Table, value: ir.Value, item: Feature) -> ir.Value:
    """What needs history is missing for an account that is younger than its window."""
    if item.missing != "H":
        return value
    return ibis.ifelse(whole.tenure_days >= item.window, value, ibis.null(value.type()))
