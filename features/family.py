"""What a feature is, and a family of features that share one windowed table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir

from features.examples import Example
from features.tables import Tables
from features.windows import Window

Missing = Literal["Z", "D", "H", "E", "F"]
"""Z: 0 without rows. D: missing where the denominator is 0. H: missing where the account is younger than the
window. E: missing where it never happened. F: 0 or 1. All are missing where the source is not connected."""

Group = Literal[
    "usage", "adoption", "onboarding", "support", "reliability", "sentiment", "effort", "commercial", "billing",
    "relationship", "engagement", "context",
]  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """An aggregate over a family's rows that other formulas need; no feature by itself."""

    name: str
    formula: Callable[[Window], Any]
    window: int | None = None
    missing: Missing = "Z"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column of the feature table, with all that its readers must know."""

    name: str
    formula: Callable[[Any], Any]
    """Of a `Window` in a family's `features`; of the table of all finished columns in its `ratios`."""
    label: str
    """What a list says of it, without the value: "tickets opened in 28 days"."""
    meaning: str
    unit: str
    missing: Missing
    sign: Literal[-1, 0, 1]
    """+1 raises risk, -1 lowers it, 0 lets the model learn."""
    group: Group
    actionable: bool
    examples: tuple[Example, ...] = ()
    """Small accounts for which the value was worked out by hand; they document the feature and are its test."""
    window: int | None = None
    needs: tuple[str, ...] = ()
    """`table.column` pairs without which the feature is missing."""
    levels: tuple[str, ...] = ()
    """Of a class: what the values 0, 1, 2, … stand for."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Features that are aggregates over the same rows, and so compile to one query."""

    name: str
    source: str
    """The table without which all of the family is missing."""
    owner: str
    """Who answers for what the features mean."""
    rows: Callable[[Tables, ir.Table], ir.Table]
    """Tables and instants → rows with account_id, as_of, age_days and the columns that formulas read."""
    measures: tuple[Measure, ...] = ()
    features: tuple[Feature, ...] = ()
    ratios: tuple[Feature, ...] = ()
    """Formulas over finished columns, also of other families; computed after all aggregates."""

    def aggregates(self) -> Mapping[str, Measure | Feature]:
        """All that is aggregated over the family's rows, by name."""
        items: tuple[Measure | Feature, ...] = (*self.measures, *self.features)
        return {item.name: item for item in items}

    def all_features(self) -> tuple[Feature, ...]:
        """The family's columns of the feature table."""
        return (*self.features, *self.ratios)


def exact(value: ir.NumericValue) -> ir.DecimalValue:
    """`value` as a decimal, so that a sum is the same in whatever order its rows come."""
    return value.cast("decimal(18, 6)")


def ratio(part: ir.NumericValue, whole: ir.NumericValue) -> ir.FloatingValue:
    """`part / whole`, missing where `whole` is 0."""
    return part.cast("double") / whole.cast("double").nullif(0.0)


def log_change(recent: ir.NumericValue, earlier: ir.NumericValue, *, scale: float) -> ir.FloatingValue:
    """`ln((recent + 1) / (earlier · scale + 1))`: 0 where the pace is unchanged, defined without any rows."""
    recent, earlier = (ibis.coalesce(count, 0).cast("double") for count in (recent, earlier))
    return ((recent + 1) / (earlier * scale + 1)).ln()


def flag(claim: ir.BooleanValue) -> ir.FloatingValue:
    """1.0 where `claim` holds, 0.0 where it does not, missing where it is unknown."""
    return claim.cast("int8").cast("double")
