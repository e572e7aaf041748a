"""All features, in the order of the feature table, and which of them a company's sources can tell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache

from features.families import (
    adoption,
    billing,
    calls,
    classes,
    contract,
    effort,
    engagement,
    feedback,
    lifecycle,
    mentions,
    onboarding,
    peers,
    plans,
    relationship,
    reliability,
    renewal,
    revenue,
    satisfaction,
    service,
    support,
    usage,
    users,
    value,
)
from features.family import Family, Feature
from features.history import grade_rank, is_immutable
from features.tables import Tables

ROOMS = (
    usage,
    users,
    adoption,
    support,
    service,
    effort,
    calls,
    reliability,
    feedback,
    satisfaction,
    contract,
    revenue,
    renewal,
    billing,
    engagement,
    plans,
    mentions,
    relationship,
    onboarding,
    value,
    lifecycle,
    peers,
    classes,
)
"""The modules that declare families, in the order of the feature table."""

FAMILIES: tuple[Family, ...] = tuple(family for room in ROOMS for family in room.FAMILIES)
FEATURES: tuple[Feature, ...] = tuple(feature for family in FAMILIES for feature in family.all_features())
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)

_ANY_OF = {
    "usage.users": ("user_id", "n_users"),
    "tickets.done": ("closed_at", "resolved_at"),
    "contracts.mrr": ("mrr", "arr"),
}
"""Needs that several columns can meet. `usage.day` is another such need: use must be told by the day.
`contacts.activity` is met by touches or by use that names people."""


_ROLLED_UP = {"account_days": "usage", "user_days": "usage", "feature_days": "usage"}
"""Tables that tenure makes of another."""


@cache
def feature(name: str) -> Feature:
    """The feature called `name`."""
    return next(item for item in FEATURES if item.name == name)


def family_of(name: str) -> Family:
    """The family that declares the feature called `name`."""
    return next(family for family in FAMILIES if any(item.name == name for item in family.all_features()))


def is_connected(family: Family, tables: Tables) -> bool:
    """Whether the family has rows to look at; scores on tickets are answers too."""
    if family.source == "surveys":
        scored_tickets = tables.has("tickets", "csat") and _meets("tickets.done", tables)
        return tables.has("surveys") or (family.name == "csat" and scored_tickets)
    return tables.has(family.source)


def is_told(item: Feature, family: Family, tables: Tables) -> bool:
    """Whether the company's sources can tell the feature."""
    return is_connected(family, tables) and all(_meets(need, tables) for need in item.needs)


def _meets(need: str, tables: Tables) -> bool:
    name, column = need.split(".")
    if need == "usage.day":
        return tables.has("usage") and tables.usage_period != "month"
    if need == "contacts.activity":
        return tables.has("touches", "contact_id") or tables.has("usage", "user_id")
    return any(tables.has(name, choice) for choice in _ANY_OF.get(need, (column,)))


def told_features(tables: Tables) -> tuple[Feature, ...]:
    """The features that the company's sources can tell, in catalogue order."""
    return tuple(item for family in FAMILIES for item in family.all_features() if is_told(item, family, tables))


def grade(item: Feature, tables: Tables) -> str:
    """The worst grade of the sources of a feature: `recorded`, `recorded since DAY`, `assumed` or `current_state`."""
    return graded(item, {name: loaded.grade for name, loaded in tables.loaded.items()})


def graded(item: Feature, grades: Mapping[str, str]) -> str:
    """The worst grade of the feature's sources, where `grades` has those that are mapped.

    What cannot change is as good as assumed, also in a table that is overwritten.
    """
    source = _ROLLED_UP.get(family_of(item.name).source, family_of(item.name).source)
    needs = [need.split(".") for need in item.needs]
    if source not in {name for name, _ in needs}:
        needs.append([source, "account_id"] if source == "accounts" else [source, ""])
    found = [
        min(grades[name], "assumed", key=grade_rank) if is_immutable(name, column) else grades[name]
        for name, column in needs
        if name in grades
    ]
    return max(found, key=grade_rank, default="assumed")


def catalogue_hash(features: Iterable[Feature] = FEATURES) -> str:
    """sha256 over what the features mean, so that a model can tell whether its catalogue is still the one it knew."""
    text = "\n".join(f"{item.name}|{item.meaning}|{item.unit}|{item.window}|{item.missing}" for item in features)
    return hashlib.sha256(text.encode()).hexdigest()


def catalogue_rows(grades: Mapping[str, str] | None = None) -> list[dict[str, object]]:
    """The catalogue as plain values, one mapping a feature; with the `grades` of a company's tables, graded."""
    told = ("name", "label", "meaning", "unit", "window", "missing", "sign", "group", "actionable")
    rows: list[dict[str, object]] = [{name: getattr(item, name) for name in told} for item in FEATURES]
    if grades:
        for row, item in zip(rows, FEATURES, strict=True):
            row["grade"] = graded(item, grades)
    return rows
