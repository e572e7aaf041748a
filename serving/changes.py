"""What changed since the list before: who is new, went up or down, or left, and what moved each probability.

The move, in log-odds, is split exactly into features (by reason group), model and calibration. What the features moved
is the mean of what they moved under the old model and under the new one, what the model moved that of the old features
and the new: neither comes first. What is left is the calibration's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from serving.reasons import Contributions, contributions_of
from training.model import ChurnModel

Floats = npt.NDArray[np.float64]

STAYS_ABOVE = 0.9
"""A band is left downwards only below so much of the limit at which it begins: a score at the limit does not flap."""
MOST_GROUPS = 3


@dataclass(frozen=True, kw_only=True)
class Before:
    """The list before this one, as far as the next one needs it."""

    as_of: str
    list_id: str
    rows: Mapping[str, Mapping[str, Any]]
    """Its scored accounts, by id."""
    contributions: pd.DataFrame
    """Raw score and contribution of each group, by account_id; empty where it had none."""
    features: Callable[[], pd.DataFrame]
    """Reads its features, by account_id."""
    model: ChurnModel | None
    """The model that made it; None where its artefact is not kept any more."""
    artefact: str


def settled_band(model: ChurnModel, probability: float, before: str | None) -> str:
    """The band of a probability; the band before, unless it is clearly left."""
    now = model.band(probability)
    names = [name for name, _ in model.bands]
    if before not in names or now == before:
        return now
    is_lower = now not in names or names.index(now) > names.index(before)
    limit = dict(model.bands)[before] * model.base_rate
    return before if is_lower and probability >= STAYS_ABOVE * limit else now


def kind_of(before: Mapping[str, Any] | None, band: str, order: list[str]) -> str:
    """new, up, down or same, by band; `order` names the bands, highest first."""
    if before is None:
        return "new"
    places = [order.index(name) if name in order else len(order) for name in (before["band"], band)]
    return "same" if places[0] == places[1] else ("up" if places[1] < places[0] else "down")


def moves(
    model: ChurnModel, artefact: str, ranked: pd.DataFrame, found: Contributions, before: Before
) -> dict[str, dict[str, Any]]:
    """What moved the log-odds of each account that both lists score.

    None where the old model is gone or was mute, or where a model asks for a feature that the other one's list lacks.

    Parameters
    ----------
    ranked : features, raw_score and account_id of the accounts of this list
    found : their contributions under `model`
    """
    old = before.model
    if old is None or old.no_signal or model.no_signal or before.contributions.empty:
        return {}
    both = np.flatnonzero(ranked.account_id.isin(before.contributions.index))
    rows = ranked.iloc[both]
    then = before.contributions.loc[rows.account_id]
    now = _said(rows, rows.raw_score, found.by_group[both], found.groups)
    if artefact == before.artefact:
        by_features = now - then
    else:
        past = before.features().reindex(rows.account_id).reset_index()
        if not (set(old.features) <= set(rows.columns) and set(model.features) <= set(past.columns)):
            return {}
        shifts = (_said_by(old, rows).sub(then, fill_value=0), now.sub(_said_by(model, past), fill_value=0))
        by_features = shifts[0].add(shifts[1], fill_value=0) / 2
    slope, raw = old.calibrator.slope, now.raw_score.to_numpy()
    moved = by_features.pop("raw_score").to_numpy()
    steps = {
        "features": slope * moved,
        "model": slope * (raw - then.raw_score.to_numpy(float) - moved),
        "calibration": _log_odds(model, rows) - (slope * raw + old.calibrator.intercept),
    }
    groups, by_group = tuple(map(str, by_features.columns)), slope * by_features.to_numpy(float)
    return {
        account: {
            "log_odds": float(sum(step[row] for step in steps.values())),
            **{name: float(step[row]) for name, step in steps.items()},
            "groups": _greatest(groups, by_group[row]),
        }
        for row, account in enumerate(rows.account_id)
    }


def _said_by(model: ChurnModel, rows: pd.DataFrame) -> pd.DataFrame:
    found = contributions_of(model, model.matrix(rows))
    return _said(rows, model.raw_scores(rows), found.by_group, found.groups)


def _said(rows: pd.DataFrame, raw: npt.ArrayLike, by_group: Floats, groups: tuple[str, ...]) -> pd.DataFrame:
    """What a model says of rows: the raw score and the contribution of each group, by account."""
    table = pd.DataFrame(by_group, columns=list(groups), index=pd.Index(rows.account_id))
    table["raw_score"] = np.asarray(raw, dtype=np.float64)
    return table


def _log_odds(model: ChurnModel, rows: pd.DataFrame) -> Floats:
    calibrator = model.calibrator
    return np.asarray(calibrator.slope * rows.raw_score.to_numpy(float) + calibrator.intercept)


def _greatest(groups: tuple[str, ...], shifts: Floats) -> dict[str, float]:
    order = np.argsort(-np.abs(shifts), kind="stable")[:MOST_GROUPS]
    return {groups[place]: float(shifts[place]) for place in order if shifts[place]}


def who_left(before: Before | None, ranked: Collection[str], others: Mapping[str, str]) -> list[dict[str, Any]]:
    """Accounts that the list before ranked and this one does not, by id, with what became of them.

    Parameters
    ----------
    others : what each account that is not ranked is now, by id
    """
    if before is None:
        return []
    return [
        {
            "account_id": account,
            **{name: row[name] for name in ("name", "csm_id")},
            "rank_before": row["rank"],
            "probability_before": row["probability"],
            "became": others.get(account, "gone from the accounts"),
        }
        for account, row in sorted(before.rows.items())
        if account not in ranked
    ]
