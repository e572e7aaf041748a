"""Why an account is at risk, in words with numbers: the model's exact contributions, summed by reason group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.catalogue import feature
from training.model import ChurnModel

MOST = 3
MIN_SHARE = 0.05
"""A group below this share of all that the model says is not worth a sentence."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One group of features that raises the risk, told by its strongest feature."""

    group: str
    feature: str
    value: float | None
    typical: float | None
    """Median of the feature over the accounts the model learned from."""
    contribution: float
    """Of the whole group, in log-odds."""
    actionable: bool
    text: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def reasons(model: ChurnModel, rows: pd.DataFrame) -> list[list[Reason]]:
    """For each row the groups that raise its risk most, strongest first; none from a model without signal."""
    if model.no_signal or rows.empty:
        return [[] for _ in range(len(rows))]
    contributions, _ = model.contributions(rows)
    groups = np.array([feature(name).group for name in model.features])
    names = sorted(set(groups))
    sums = np.stack([contributions[:, groups == name].sum(axis=1) for name in names], axis=1)
    values = rows.loc[:, list(model.features)].to_numpy(dtype=np.float64)
    return [
        _of_row(model, values[row], contributions[row], groups, dict(zip(names, sums[row], strict=True)))
        for row in range(len(rows))
    ]


def _of_row(
    model: ChurnModel,
    values: npt.NDArray[np.float64],
    contributions: npt.NDArray[np.float64],
    groups: npt.NDArray[np.str_],
    sums: Mapping[str, float],
) -> list[Reason]:
    whole = float(np.abs(contributions).sum())
    raising = sorted((name for name in sums if sums[name] > MIN_SHARE * whole), key=lambda name: (-sums[name], name))
    found = []
    for name in raising:
        strongest = np.argsort(np.where(groups == name, -contributions, np.inf), kind="stable")
        told = (
            _told(model, name, float(sums[name]), model.features[place], float(values[place]))
            for place in strongest
            if groups[place] == name and contributions[place] > 0
        )
        found += [reason for reason in told if _says_something(reason)][:1]
    return found[:MOST]


def _says_something(reason: Reason) -> bool:
    """Whether the account differs from what is typical by more than its sentence would show."""
    unit = _label(reason.feature)[1]
    return shown(reason.value, unit) != shown(reason.typical, unit)


def _told(model: ChurnModel, group: str, contribution: float, name: str, value: float) -> Reason:
    typical = model.typical.get(name)
    known = None if np.isnan(value) else value
    return Reason(
        group=group,
        feature=name,
        value=known,
        typical=typical,
        contribution=contribution,
        actionable=_is_actionable(name),
        text=sentence(name, known, typical),
    )


@cache
def _is_actionable(name: str) -> bool:
    return feature(name).actionable


@cache
def _label(name: str) -> tuple[str, str]:
    item = feature(name)
    return item.label[0].upper() + item.label[1:], item.unit


def sentence(name: str, value: float | None, typical: float | None) -> str:
    """The feature in words: its label, its value and what is typical."""
    label, unit = _label(name)
    told = f"{label}: {shown(value, unit)}"
    return told if typical is None or unit == "0/1" else f"{told} (typical {shown(typical, unit)})"


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


def shown(value: float | None, unit: str) -> str:
    """A value as a person writes it."""
    if value is None:
        return "not known"
    text = _PATTERNS.get(unit, "{:,.0f}".format)(value)
    if not any(digit in text for digit in "123456789"):
        text = text.removeprefix("-")  # Nothing is below zero by less than is shown.
    return text.replace("%", " %").replace("-", "−")
