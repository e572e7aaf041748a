"""All features, in the order of the feature table, and which of them a company's sources can tell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from features import (
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
    """`recorded` where every source says when its rows became known, else `assumed`."""
    sources = {family_of(item.name).source, *(need.split(".")[0] for need in item.needs)}
    known = [tables.loaded[name].recorded for name in sources if name in tables.loaded]
    return "recorded" if known and all(known) else "assumed"


def catalogue_hash(features: Iterable[Feature] = FEATURES) -> str:
    """sha256 over what the features mean, so that a model can tell whether its catalogue is still the one it knew."""
    text = "\n".join(f"{item.name}|{item.meaning}|{item.unit}|{item.window}|{item.missing}" for item in features)
    return hashlib.sha256(text.encode()).hexdigest()


def catalogue_rows() -> list[dict[str, object]]:
    """The catalogue as plain values, one mapping a feature."""
    told = ("name", "label", "meaning", "unit", "window", "missing", "sign", "group", "actionable")
    return [{name: getattr(item, name) for name in told} for item in FEATURES]
