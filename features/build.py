"""The one path to features: training, batch and online all call `feature_table`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import reduce

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from features.catalogue import FAMILIES, FEATURE_NAMES, is_connected, is_told
from features.family import Family, Feature, Measure
from features.settings import LabelSettings
from features.snapshots import account_phases
from features.sources import stored
from features.tables import Tables
from features.windows import Window, beside, instants_table

KEYS = ("account_id", "as_of")


def feature_table(tables: Tables, instants: Sequence[datetime], label: LabelSettings) -> pa.Table:
    """What was known of every active account at each instant.

    Returns
    -------
    table of account_id, as_of and one double per feature of the catalogue, sorted by as_of and account_id.
    A missing value is null; what missing means is declared with each feature.
    """
    if not instants:
        raise ValueError("instants must hold at least one instant, got none.")
    moments = instants_table(tables.backend, instants)
    phases = account_phases(tables, moments, grace_days=label.grace_days)
    roster = stored(tables.backend, "roster", phases.filter(phases.phase == "active").select(*KEYS))
    parts = [_aggregated(family, tables, moments) for family in FAMILIES if is_connected(family, tables)]
    whole = reduce(beside, parts, roster)
    whole = _completed(whole, tables)
    columns = {name: whole[name].cast("double") for name in FEATURE_NAMES}
    return whole.select(*KEYS, **columns).order_by(["as_of", "account_id"]).to_pyarrow()


def _aggregated(family: Family, tables: Tables, instants: ir.Table) -> ir.Table:
    rows = family.rows(tables, instants)
    aggregates = {name: item.formula(Window(rows, 1, item.window)) for name, item in family.aggregates().items()}
    return stored(tables.backend, f"family_{family.name}", rows.group_by(*KEYS).agg(**aggregates))


def _completed(whole: ir.Table, tables: Tables) -> ir.Table:
    """Missing values by rule, then the ratios family by family, then what the sources cannot tell."""
    for family in FAMILIES:
        if is_connected(family, tables):
            whole = whole.mutate(**{name: _filled(whole[name], item) for name, item in family.aggregates().items()})
        else:
            whole = whole.mutate(**{name: ibis.null("double") for name in family.aggregates()})
    for family in FAMILIES:
        for item in family.ratios:
            whole = whole.mutate(**{item.name: _old_enough(whole, _filled(item.formula(whole), item), item)})
    return whole.mutate(
        **{item.name: _visible(whole, item, family, tables) for family in FAMILIES for item in _features(family)}
    )


def _features(family: Family) -> tuple[Feature, ...]:
    return (*family.features, *family.ratios)


def _filled(value: ir.Value, item: Measure | Feature) -> ir.Value:
    value = value.cast("int8") if value.type().is_boolean() else value
    return value.fill_null(0) if item.missing in ("Z", "F") else value


def _visible(whole: ir.Table, item: Feature, family: Family, tables: Tables) -> ir.Value:
    if not is_told(item, family, tables):
        return ibis.null("double")
    return _old_enough(whole, whole[item.name].cast("double"), item)


def _old_enough(whole: ir.Table, value: ir.Value, item: Feature) -> ir.Value:
    """What needs history is missing for an account that is younger than its window."""
    if item.missing != "H":
        return value
    return ibis.ifelse(whole.tenure_days >= item.window, value, ibis.null(value.type()))
