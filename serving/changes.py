"""What changed since the list before: who is new, went up or down, or left, and what moved each probability.

The move, in log-odds, is split exactly. From the old model on the old features to the new model on the new ones there
are three steps: features (by reason group), model, calibration; they add up to the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    """What moved the log-odds of each account that both lists score; none where the old model is gone or was mute.

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
    if artefact == before.artefact:
        raw, by_group, groups = rows.raw_score.to_numpy(float), found.by_group[both], found.groups
    else:
        if missing := set(old.features) - set(rows.columns):
            raise KeyError(f"features {sorted(missing)} of the model before are gone")
        again = contributions_of(old, old.matrix(rows))
        raw, by_group, groups = old.raw_scores(rows), again.by_group, again.groups
    slope = old.calibrator.slope
    steps = {
        "features": slope * (raw - then.raw_score.to_numpy(float)),
        "model": slope * (rows.raw_score.to_numpy(float) - raw),
        "calibration": _log_odds(model, rows) - (slope * rows.raw_score.to_numpy(float) + old.calibrator.intercept),
    }
    shifts = slope * (by_group - then.loc[:, list(groups)].to_numpy(float))
    return {
        account: {
            "log_odds": float(sum(step[row] for step in steps.values())),
            **{name: float(step[row]) for name, step in steps.items()},
            "groups": _greatest(groups, shifts[row]),
        }
        for row, account in enumerate(rows.account_id)
    }


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
