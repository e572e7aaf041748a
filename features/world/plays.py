"""What retention plays take off the pressures of a generated company, as known to its truth alone."""

from __future__ import annotations

from datetime import date
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from features.world.state import PRESSURES, Floats, Mood, Traits, account_ids

Effect = Literal["by_cause", "by_engagement"]

PLAYS = ("pb_usage_drop", "pb_sla_breach", "pb_detractor", "pb_renewal", "pb_low_csat")
_RELIEF = np.array([[0.9, 0, 0], [0, 0.9, 0], [0, 0.6, 0.2], [0, 0, 0.9], [0, 0.5, 0]])
_DISCOUNT = PLAYS.index("pb_renewal")


def play_relief(effect: Effect, traits: Traits, mood: Mood) -> Floats:
    """What each play takes off each pressure, (plays, accounts, causes); below zero it does harm.

    By cause: a play works on its own cause, and a price offer wakes those who did not think of the price.
    By engagement: any play works as far as people still use the product, and annoys the others.
    """
    accounts = len(traits.users)
    if effect == "by_cause":
        relief = np.repeat(_RELIEF[:, None, :], accounts, axis=1)
        loyal = mood.resolve[:, 2] - mood.relief[:, 2] < -0.2
        relief[_DISCOUNT, loyal, 2] = -0.35
        return relief
    engaged = 1 / (1 + np.exp(1.2 * (mood.pressure[:, 0] - mood.relief[:, 0]) - traits.intensity - 0.4))
    strength = _RELIEF.sum(axis=1)[:, None] * (1.5 * engaged - 0.5)[None, :]
    return np.repeat(strength[:, :, None], PRESSURES, axis=2)


def relief_by_day(
    actions: pa.Table | pd.DataFrame | None, plays: Floats, start: date, span: tuple[float, float]
) -> Floats:
    """Relief by account, day of the month `span` and cause; `plays` is that of each play and account."""
    calendar = np.arange(*span)
    relief = np.zeros((plays.shape[1], len(calendar), plays.shape[2]))
    if actions is None or not len(actions):
        return relief
    opened = actions if isinstance(actions, pd.DataFrame) else actions.to_pandas()
    places = {name: place for place, name in enumerate(account_ids(len(relief)))}
    days = (pd.to_datetime(opened["opened_at"], utc=True) - pd.Timestamp(start, tz="UTC")) / pd.Timedelta(days=1)
    wrong = opened[~opened["account_id"].isin(places) | ~days.between(*span, inclusive="left")]
    if len(wrong):
        raise ValueError(
            "actions must be on accounts of this world and opened in the month played; "
            f"found {wrong.iloc[0].to_dict()}. Pass each action to the month of its opened_at."
        )
    for account, play, day in zip(opened["account_id"].map(places), opened["play"], days, strict=True):
        if play in PLAYS:
            relief[account, calendar >= day] += plays[PLAYS.index(play), account]
    return relief
