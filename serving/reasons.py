"""Why an account is at risk, or is not, in words with numbers: the model's exact contributions, summed by group."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt

from features.catalogue import feature
from training.model import ChurnModel

Floats = npt.NDArray[np.float64]

MOST = 3
MIN_SHARE = 0.05
"""A group below this share of all that the model says is not worth a sentence."""
MIN_AGREEMENT = 0.3
"""A group whose sum is below this share of its features' pushes is mixed."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One group of features that raises or eases the risk, told by its strongest feature."""

    group: str
    feature: str
    value: float | None
    typical: float | None
    """Median of the feature over the accounts the model learned from."""
    percentile: float | None
    """0 to 100: how many of those that know the feature are below, or for a low value not above, this account."""
    contribution: float
    """Of the whole group, in log-odds."""
    actionable: bool
    mixed: bool
    """Whether the group's features speak against each other, so that little of their pushes is left."""
    text: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What each feature adds to the raw score, exactly (TreeSHAP), in log-odds."""

    by_feature: Floats
    """(n_rows, n_features), in the order of the model's contract."""
    groups: tuple[str, ...]
    by_group: Floats
    """(n_rows, n_groups): the sums over each group's features."""


@dataclass(frozen=True, kw_only=True)
class Why:
    """Why one account stands where it stands."""

    raises: tuple[Reason, ...] = ()
    """At most `MOST`, strongest first."""
    eases: Reason | None = None
    """What lowers the risk most."""


def contributions_of(model: ChurnModel, matrix: Floats, *, threads: int = 1) -> Contributions:
    """The contributions behind the scores of a `matrix`; the same to the last bit with any number of threads."""
    values, _ = model.contributions(matrix, threads=threads)
    groups = _by_group(model.features)
    sums = np.stack([values[:, places].sum(axis=1) for _, places in groups], axis=1)
    return Contributions(by_feature=values, groups=tuple(name for name, _ in groups), by_group=sums)


def reasons(model: ChurnModel, matrix: Floats) -> list[Why]:
    """For each row of a `matrix` what raises its risk most, and what eases it; nothing from a model without signal."""
    if model.no_signal or not len(matrix):
        return [Why()] * len(matrix)
    return told(model, matrix, contributions_of(model, matrix))


def told(model: ChurnModel, matrix: Floats, found: Contributions) -> list[Why]:
    """`reasons`, from contributions that were computed before."""
    places = _by_group(model.features)
    floors = MIN_SHARE * np.abs(found.by_feature).sum(axis=1)
    return [
        _of_row(model, matrix[row], found.by_feature[row], found.by_group[row], places, floor)
        for row, floor in enumerate(floors)
    ]


@lru_cache(maxsize=8)
def _by_group(features: tuple[str, ...]) -> list[tuple[str, npt.NDArray[np.intp]]]:
    """Each group of some features with their places, by name."""
    of_feature = np.array([feature(name).group for name in features])
    return [(str(name), np.flatnonzero(of_feature == name)) for name in sorted(set(of_feature))]


def _of_row(
    model: ChurnModel, values: Floats, given: Floats, sums: Floats,
    groups: list[tuple[str, npt.NDArray[np.intp]]], floor: float,
) -> Why:  # fmt: skip
    raises: list[Reason] = []
    for number in np.argsort(-sums, kind="stable"):
        if sums[number] <= floor or len(raises) == MOST:
            break
        if reason := _strongest(model, values, given, groups[number], float(sums[number])):
            raises.append(reason)
    for number in np.argsort(sums, kind="stable"):
        if sums[number] >= -floor:
            break
        if reason := _strongest(model, values, given, groups[number], float(sums[number])):
            return Why(raises=tuple(raises), eases=reason)
    return Why(raises=tuple(raises))


def _strongest(
    model: ChurnModel, values: Floats, given: Floats, group: tuple[str, npt.NDArray[np.intp]], total: float
) -> Reason | None:
    """The group told by the feature that moves the score most in the group's direction and has something to say."""
    name, places = group
    sign = 1.0 if total > 0 else -1.0
    pushes = sign * given[places]
    mixed = bool(abs(total) < MIN_AGREEMENT * np.abs(pushes).sum())
    for place in places[np.argsort(-pushes, kind="stable")]:
        if sign * given[place] <= 0:
            return None
        reason = _told(model, name, total, model.features[place], float(values[place]), mixed=mixed)
        if _says_something(reason):
            return reason
    return None


def _says_something(reason: Reason) -> bool:
    """Whether the account differs from what is typical by more than its sentence would show."""
    unit = _label(reason.feature)[1]
    return shown(reason.value, unit) != shown(reason.typical, unit)


def _told(model: ChurnModel, group: str, contribution: float, name: str, value: float, *, mixed: bool) -> Reason:
    typical = model.typical.get(name)
    known = None if np.isnan(value) else value
    percentile = percentile_of(model.percentiles.get(name, ()), known, typical)
    return Reason(
        group=group,
        feature=name,
        value=known,
        typical=typical,
        percentile=percentile,
        contribution=contribution,
        actionable=_is_actionable(name),
        mixed=mixed,
        text=sentence(name, known, typical, percentile, mixed=mixed),
    )


def percentile_of(grid: Sequence[float], value: float | None, typical: float | None) -> float | None:
    """Where a value stands among those the model learned from; on the side of those that are alike, never beyond."""
    if value is None or typical is None or value == typical or not grid:
        return None
    if value > typical:
        return float(min(99, max(0, bisect_left(grid, value) - 1)))
    return float(max(1, min(100, bisect_right(grid, value))))


@cache
def _is_actionable(name: str) -> bool:
    return feature(name).actionable


@cache
def _label(name: str) -> tuple[str, str]:
    item = feature(name)
    return item.label[0].upper() + item.label[1:], item.unit


def sentence(
    name: str, value: float | None, typical: float | None, percentile: float | None = None, *, mixed: bool = False
) -> str:
    """The feature in words: its label, its value, what is typical, and where the value stands among others."""
    label, unit = _label(name)
    told = f"{label}: {shown(value, unit)}"
    if typical is not None and unit != "0/1":
        told += f" (typical {shown(typical, unit)}{_standing(percentile, is_above=(value or 0) > typical)})"
    return f"{told}, mixed signs" if mixed else told


def _standing(percentile: float | None, *, is_above: bool) -> str:
    if percentile is None:
        return ""
    told = f"above {percentile:.0f} %" if is_above else f"below {100 - percentile:.0f} %"
    return f"; {told} of others"


_PATTERNS: Mapping[str, Callable[[float], str]] = {
    "share": lambda value: f"{value:.0%}",
    "log ratio": lambda value: f"{exp(value) - 1:+.0%}",
    "0/1": lambda value: "yes" if value else "no",
    "0-1": lambda value: f"{value:.2f}",
    "points": lambda value: f"{value:+.0f} points",
    "0-10": lambda value: f"{value:.0f} of 10",
    "per user": lambda value: f"{value:.2f}" if value < 10 else f"{value:.0f}",
    "sd": lambda value: f"{value:+.1f} standard deviations",
}
"""How a value of a unit is written; the label says the unit of all others, which are whole numbers."""


@lru_cache(maxsize=10_000)  # Most values are small whole numbers, and each is asked for twice.
def shown(value: float | None, unit: str) -> str:
    """A value as a person writes it."""
    if value is None:
        return "not known"
    text = _PATTERNS.get(unit, "{:,.0f}".format)(value + 0.0)  # Minus zero is zero.
    if not any(digit in text for digit in "123456789"):
        text = text.removeprefix("-")  # Nothing is below zero by less than is shown.
    return text.replace("%", " %").replace("-", "−")
