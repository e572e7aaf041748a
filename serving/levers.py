"""Levers: the smallest change of one thing that a team can work on which would lower an account's band.

Each is tried by scoring again, and only with values that other accounts of the list have reached. It says what would
move the score; whether it would move the customer is not known from this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.catalogue import feature
from serving.reasons import sentence, shown
from training.model import ChurnModel

MOST = 3
STEPS = np.linspace(0.05, 0.95, 19)
"""Quantiles of the other accounts that are tried."""


@dataclass(frozen=True, kw_only=True)
class Lever:
    """One change and what the model would say after it."""

    feature: str
    now: float
    then: float
    probability: float
    band: str
    share_of_peers: float
    """Share of the other accounts that are there already, or better."""
    text: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def levers(model: ChurnModel, row: pd.DataFrame, peers: pd.DataFrame) -> list[Lever]:
    """At most `MOST` levers of one account, those first that most others have reached; none where nothing helps.

    Parameters
    ----------
    row : its features, one row
    peers : the features of all accounts of the same list
    """
    if model.no_signal:
        return []
    tried = [trial for name in model.features for trial in _trials(name, float(row[name].iloc[0]), peers)]
    if not tried:
        return []
    table = pd.concat([row[list(model.features)]] * len(tried), ignore_index=True)
    for place, (name, value, _) in enumerate(tried):
        table.loc[place, name] = value
    chances = model.probabilities(table)
    order = ["low", *(name for name, _ in reversed(model.bands))]
    now = order.index(model.band(float(model.probabilities(row)[0])))
    found: dict[str, Lever] = {}
    for (name, value, share), chance in zip(tried, chances, strict=True):
        band = model.band(float(chance))
        if name not in found and order.index(band) < now:
            found[name] = _lever(name, float(row[name].iloc[0]), value, float(chance), band, share)
    return sorted(found.values(), key=lambda lever: (-lever.share_of_peers, lever.feature))[:MOST]


def _trials(name: str, now: float, peers: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Values towards less risk that others have reached, the nearest first, each with the share of who is that far."""
    item = feature(name)
    known = peers[name].dropna().to_numpy(float)
    if not item.actionable or item.sign == 0 or np.isnan(now) or known.size == 0:
        return []
    better = [
        value for value in np.unique(np.quantile(known, STEPS, method="nearest")) if item.sign * (now - value) > 0
    ]
    return [
        (name, float(value), float((item.sign * (value - known) >= 0).mean()))
        for value in sorted(better, key=lambda value: abs(value - now))
    ]


def _lever(name: str, now: float, then: float, chance: float, band: str, share: float) -> Lever:
    text = f"{sentence(name, now, None)} → {shown(then, feature(name).unit)}: {band}, {chance:.1%}".replace("%", " %")
    return Lever(feature=name, now=now, then=then, probability=chance, band=band, share_of_peers=share, text=text)
