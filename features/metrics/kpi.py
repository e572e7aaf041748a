"""How far a target was reached, and several of them as one figure."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum
from typing import NamedTuple

from features.metrics.checks import amount, finite

WEIGHT_TOLERANCE = 1e-9


class Weighted(NamedTuple):
    """The figure, or the parts without which there is none."""

    value: float | None
    missing: tuple[str, ...] = ()


def kpi_attainment(fact: float, base: float, norm: float) -> float:
    """100 · (fact - base) / (norm - base), percent, not cut; serves figures of which less is better as well."""
    for name, value in {"fact": fact, "base": base, "norm": norm}.items():
        finite(name, value)
    if norm == base:
        raise ValueError(f"norm must differ from base; found {norm:g} for both; set a target away from the start.")
    return 100 * (fact - base) / (norm - base)


def plan_completion(fact: float, plan: float) -> float | None:
    """100 · fact / plan, percent; only for figures of which more is better."""
    return 100 * amount("fact", fact) / plan if amount("plan", plan) else None


def weighted_kpi(values: Mapping[str, float | None], weights: Mapping[str, float]) -> Weighted:
    """The sum of weight · value, percent; weights are of the same parts and add up to 1.

    Where a part is missing so is the figure: weights shared out over the rest would change what it means.
    """
    if values.keys() != weights.keys():
        raise ValueError(f"weights must be of the parts {sorted(values)}; found {sorted(weights)}; weigh each part.")
    total = fsum(amount(name, weight) for name, weight in weights.items())
    if abs(total - 1) > WEIGHT_TOLERANCE:
        raise ValueError(f"weights must add up to 1; found {total:g}; correct them.")
    missing = tuple(name for name, value in values.items() if value is None)
    if missing:
        return Weighted(None, missing)
    known = {name: finite(name, value) for name, value in values.items() if value is not None}
    return Weighted(fsum(weights[name] * value for name, value in known.items()))
