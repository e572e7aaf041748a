"""The truth of a generated company: who is how likely to decide to leave, and what each play would change.

Moods are simulated on many paths; decisions given a path, the champion's loss and unpaid bills are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.world.state import (
    CHAMPION_RATE,
    CLOSED_SHARE,
    CUT_DAYS,
    HORIZON_DAYS,
    PERSISTENCE,
    PRESSURES,
    QUICK_RETURN,
    Flags,
    Floats,
    Ints,
    Market,
    Mood,
    Terms,
    Traits,
    champion_rate,
    drifted,
    faded,
    followed,
    generator,
    involuntary_rate,
    picked,
    rates,
    relieved,
    timing,
)

_PATHS = 64


@dataclass(frozen=True)
class Snapshot:
    """All that decides the future of the accounts at risk at the first of a month."""

    month: int
    first_day: float
    lengths: list[int]
    """Days in each of the following months, as far as the horizon."""
    mood: Mood
    terms: Terms
    at_risk: Ints
    """Accounts with a contract and without notice."""
    lost_at: Floats
    """When each account's last champion left; NaN where none did."""
    champion_from: Floats
    """From when each account has a champion who can leave; infinite where it has none."""
    owes: Flags
    """Accounts that stopped paying: they will be cut off within the horizon."""


def true_risk(snapshot: Snapshot, traits: Traits, plays: Floats, *, seed: int, market: Market) -> Floats:
    """P(decision in the next 90 days) without a play and with each, (1 + plays, accounts at risk).

    All plays share the paths; none works on a champion's loss or on unpaid bills.
    """
    who = snapshot.at_risk
    traits, mood, terms = picked(traits, who), picked(snapshot.mood, who), picked(snapshot.terms, who)
    random = generator(seed, snapshot.month, "truth")
    relief = np.concatenate([np.zeros((1, len(who), PRESSURES)), plays[:, who]])
    total = np.zeros((len(relief), _PATHS, len(who)), dtype=np.float32)
    paths = _paths(mood, traits, len(snapshot.lengths), random)
    days = np.split(snapshot.first_day + np.arange(HORIZON_DAYS), np.cumsum(snapshot.lengths)[:-1])
    for step, (month, resolve) in enumerate(zip(days, paths, strict=True)):
        exposure = timing(terms, month).sum(axis=1)
        weaker = PERSISTENCE**step
        hazard = rates(traits, resolve, weaker * mood.relief, market.level(snapshot.month + step)) * exposure
        kept = relieved(weaker * relief).astype(np.float32)
        for cause in range(PRESSURES):
            total += hazard[..., cause].astype(np.float32) * kept[:, None, :, cause]
    stays = np.exp(-total).mean(axis=1, dtype=np.float64)
    return np.asarray(
        1 - stays * _keeps_despite_loss(snapshot, traits, terms, market) * _pays(snapshot, traits, market)
    )


def _keeps_despite_loss(snapshot: Snapshot, traits: Traits, terms: Terms, market: Market) -> Floats:
    """P(no decision for a champion's loss), over losses of the past and those to come, (accounts at risk,)."""
    who, day = snapshot.at_risk, snapshot.first_day + np.arange(HORIZON_DAYS, dtype=np.float64)
    readiness = timing(terms, day)[..., 0] * champion_rate(traits, market.churn_rate)[:, None]
    past = (readiness * faded(day - snapshot.lost_at[who, None])).sum(axis=1)
    since = faded(day[None, :] - day[:, None])  # (day of a loss, day after it)
    leaves = CHAMPION_RATE * (day >= snapshot.champion_from[who, None])
    return np.asarray(np.exp(-past) * (1 - (leaves * (1 - np.exp(-readiness @ since.T))).sum(axis=1)))


def _pays(snapshot: Snapshot, traits: Traits, market: Market) -> Floats:
    """P(neither cut off for unpaid bills nor closed down), those apart who sign again within days."""
    days = CLOSED_SHARE * HORIZON_DAYS + (1 - CLOSED_SHARE) * (HORIZON_DAYS - np.mean(CUT_DAYS))
    steady = np.exp(-involuntary_rate(traits, market.churn_rate) * days * (1 - QUICK_RETURN))
    return np.where(snapshot.owes[snapshot.at_risk], QUICK_RETURN, steady)


def _paths(mood: Mood, traits: Traits, steps: int, random: np.random.Generator) -> Iterator[Floats]:
    pressure = np.broadcast_to(mood.pressure, (_PATHS, *mood.pressure.shape))
    resolve: Floats = mood.resolve[None]
    for _ in range(steps):
        yield resolve
        pressure = drifted(pressure, traits.usual, random)
        resolve = followed(resolve, pressure)


def main_cause(snapshot: Snapshot, traits: Traits, market: Market) -> Ints:
    """The largest hazard of each account at risk at average timing; `INVOLUNTARY` where nothing stands out."""
    pressed = rates(traits, snapshot.mood.resolve, snapshot.mood.relief, market.level(snapshot.month))
    alone = champion_rate(traits, market.churn_rate) * faded(snapshot.first_day - snapshot.lost_at)
    unforeseen = 1.5 * involuntary_rate(traits, market.churn_rate) + snapshot.owes
    return np.asarray(np.column_stack([pressed, alone, unforeseen])[snapshot.at_risk].argmax(axis=1))
