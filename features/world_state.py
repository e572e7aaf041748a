"""The hidden side of a generated company: what presses on each account and who decides to leave.

Three pressures (adoption, service, price) drift from month to month. `pressure` is felt at once and shows
in the tables; `resolve` follows it about a month later and drives decisions, so that signals come first.
Days are counted from the first day of the world, months from its first month.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Effect = Literal["by_cause", "by_engagement"]

CAUSES = ("adoption", "service", "price")
INVOLUNTARY = len(CAUSES)
SEGMENTS = ("smb", "mid", "enterprise")
HORIZON_DAYS = 90
QUICK_RETURN = 0.25
"""Share of involuntary ends after which the account signs again within days: an end, but no decision to leave."""

PLAYS = ("pb_usage_drop", "pb_sla_breach", "pb_detractor", "pb_renewal", "pb_low_csat")
_RELIEF = np.array([[0.9, 0, 0], [0, 0.9, 0], [0, 0.6, 0.2], [0, 0, 0.9], [0, 0.5, 0]])
_DISCOUNT = PLAYS.index("pb_renewal")

PERSISTENCE = 0.9
_NOISE, _LAG = 0.34, 0.5
_CEILING = 2.6
_SHOCK_RATE, _SHOCK_MEAN = 0.021, 1.8
_SLOPE = np.array([2.15, 2.15, 1.95])
_SHARES = np.array([0.34, 0.31, 0.27])
_INVOLUNTARY_SHARE = 0.08
_SEGMENT_FACTOR = np.array([1.2, 0.85, 0.6])
_TYPICAL_RISK = np.array([9.4, 8.8, 7.4])
"""Scale of exp(slope * resolve), chosen so that `churn_rate` is about the share that decides in a year."""
_PATHS = 64


def generator(seed: int, month: int, purpose: str) -> np.random.Generator:
    """Numbers that depend on nothing but these three: with and without a play they are the same."""
    return np.random.default_rng((seed, month, *purpose.encode()))


def account_ids(accounts: int) -> list[str]:
    """The identifiers, in order."""
    return [f"acc-{number:05d}" for number in range(accounts)]


def month_starts(start: date, months: npt.ArrayLike) -> Floats:
    """Days from `start` to the first day of each month counted from it."""
    first = np.datetime64(start, "M")
    days = (first + np.asarray(months, dtype="timedelta64[M]")).astype("datetime64[D]")
    return (days - np.datetime64(start, "D")).astype(np.float64)


@dataclass(frozen=True)
class Traits:
    """What an account is and stays; every field has one entry per account."""

    segment: Ints
    users: Ints
    fit: Floats
    voice: Floats
    """How readily its people write tickets and answer surveys, whatever they feel."""
    intensity: Floats
    """How much they use a product they like: quiet accounts can be loyal."""
    usual: Floats
    """(accounts, causes): the pressure to which it returns."""
    joins: Ints
    """The month of its first contract; negative before the world starts."""


def draw_traits(accounts: int, seed: int) -> Traits:
    """The company's market: seven accounts in ten exist at the start, the others join in two years."""
    random = generator(seed, 0, "traits")
    segment = random.choice(3, accounts, p=(0.6, 0.3, 0.1))
    fewest, most = np.array([2, 5, 12])[segment], np.array([9, 18, 40])[segment]
    fit, sensitivity = random.normal(size=accounts), random.normal(size=accounts)
    exists = random.random(accounts) < 0.7
    usual = 0.25 * random.normal(size=(accounts, 3))
    usual += np.stack([-0.3 * fit, -0.2 * fit, 0.55 * sensitivity - 0.2 * fit], axis=1)
    usual -= 0.15 * exists[:, None]  # those who suffered most left before the world starts
    return Traits(
        segment=segment,
        users=random.integers(fewest, most + 1),
        fit=fit,
        voice=random.normal(size=accounts),
        intensity=0.8 * random.normal(size=accounts) + 0.2 * fit,
        usual=usual,
        joins=np.where(exists, -random.integers(1, 37, accounts), random.integers(0, 24, accounts)),
    )


@dataclass(frozen=True)
class Mood:
    """What accounts feel at the first of a month; each field is (accounts, causes)."""

    pressure: Floats
    resolve: Floats
    relief: Floats
    """What plays, kept promises and withdrawn notices took off; fades as the pressures do."""


def first_mood(traits: Traits, seed: int) -> Mood:
    """Pressures after two years of drifting."""
    random = generator(seed, 0, "first mood")
    mood = Mood(traits.usual, traits.usual, np.zeros_like(traits.usual))
    for _ in range(24):
        mood = next_mood(mood, traits, random)
    return mood


def drifted(pressure: Floats, usual: Floats, random: np.random.Generator) -> Floats:
    """Pressures a month later: back towards the usual, with noise and a rare shock."""
    shock = (random.random(pressure.shape) < _SHOCK_RATE) * random.exponential(_SHOCK_MEAN, pressure.shape)
    return np.asarray(usual + PERSISTENCE * (pressure - usual) + _NOISE * random.normal(size=pressure.shape) + shock)


def next_mood(mood: Mood, traits: Traits, random: np.random.Generator) -> Mood:
    """The mood at the next first of a month."""
    pressure = drifted(mood.pressure, traits.usual, random)
    return Mood(pressure, _followed(mood.resolve, pressure), PERSISTENCE * mood.relief)


def _followed(resolve: Floats, pressure: Floats) -> Floats:
    return resolve + _LAG * (pressure - resolve)


@dataclass(frozen=True)
class Terms:
    """The part of the contracts that says when a decision is likely, one entry per account."""

    end_day: Floats
    """The last day plus one of the current term."""
    next_end_day: Floats
    monthly: Flags
    auto_renew: Flags
    notice_days: Ints


def timing(terms: Terms, day: Floats) -> Floats:
    """How likely a voluntary decision is on each day against an average one, (accounts, days, causes).

    A price decision waits for the notice deadline; the other two gather before it.
    """
    passed = day[None, :] >= terms.end_day[:, None]
    end = np.where(passed, terms.next_end_day[:, None], terms.end_day[:, None])
    notice = np.where(terms.auto_renew, terms.notice_days, 0)
    left = end - notice[:, None] - day[None, :]
    near, nearing, open_ = left <= 75, left <= 150, left > 0
    patient = np.where(near, 2.2, np.where(nearing, 1.0, 0.55)) * open_
    priced = np.where(near, 4.2, np.where(nearing, 0.5, 0.1)) * open_
    # Without automatic renewal most simply let the term run out: the weight waits for the last day.
    lapse = np.where(left <= 1, 150.0, 0.4)
    lapse[terms.auto_renew] = 1.0
    factor = np.stack([patient * lapse, patient * lapse, priced * lapse], axis=2)
    factor[terms.monthly] = 1.0
    return factor


def rates(traits: Traits, resolve: Floats, relief: Floats, churn_rate: float) -> Floats:
    """Hazard per day and voluntary cause at average timing, (..., accounts, causes)."""
    level = churn_rate / 365 * _SHARES / _TYPICAL_RISK * _SEGMENT_FACTOR[traits.segment][:, None]
    return np.asarray(level * np.exp(_SLOPE * (np.minimum(resolve, _CEILING) - relief)))


def involuntary_rate(traits: Traits, churn_rate: float) -> Floats:
    """Hazard per day of a closed business or unpaid bills; no signal comes before it."""
    return np.asarray(churn_rate / 365 * _INVOLUNTARY_SHARE * _SEGMENT_FACTOR[traits.segment])


def daily_hazard(traits: Traits, mood: Mood, factor: Floats, extra: Floats, churn_rate: float) -> Floats:
    """Hazard on each day of a month, (accounts, days, causes + involuntary); `extra` is relief by day."""
    voluntary = rates(traits, mood.resolve, mood.relief, churn_rate)[:, None, :] * factor
    voluntary = voluntary * np.exp(-_SLOPE * extra)
    steady = np.broadcast_to(involuntary_rate(traits, churn_rate)[:, None, None], (*factor.shape[:2], 1))
    return np.concatenate([voluntary, steady], axis=2)


def first_decisions(hazard: Floats, random: np.random.Generator) -> tuple[Ints, Ints]:
    """Day of the month on which each account decides (-1 if it does not) and the cause."""
    patience = random.exponential(size=len(hazard))
    lot = random.random(len(hazard))
    crossed = hazard.sum(axis=2).cumsum(axis=1) >= patience[:, None]
    day = crossed.argmax(axis=1)
    parts = hazard[np.arange(len(hazard)), day]
    ladder = parts.cumsum(axis=1) / np.maximum(parts.sum(axis=1, keepdims=True), 1e-300)
    cause = (lot[:, None] > ladder[:, :-1]).sum(axis=1)
    return np.where(crossed.any(axis=1), day, -1), cause


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
    return np.repeat(strength[:, :, None], len(CAUSES), axis=2)


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


Part = TypeVar("Part", Traits, Mood, Terms)


def true_risk(snapshot: Snapshot, traits: Traits, plays: Floats, *, seed: int, churn_rate: float) -> Floats:
    """P(decision in the next 90 days) without a play and with each, (1 + plays, accounts at risk).

    The mood is simulated on many paths, decisions given a path are exact; all plays share the paths.
    """
    who = snapshot.at_risk
    traits, mood, terms = picked(traits, who), picked(snapshot.mood, who), picked(snapshot.terms, who)
    random = generator(seed, snapshot.month, "truth")
    untreated = np.zeros((1, len(who), len(CAUSES)))
    relief = np.concatenate([untreated, plays[:, who]])
    total = np.zeros((len(relief), _PATHS, len(who)), dtype=np.float32)
    total += involuntary_rate(traits, churn_rate) * HORIZON_DAYS * (1 - QUICK_RETURN)
    paths = _paths(mood, traits, len(snapshot.lengths), random)
    days = np.split(snapshot.first_day + np.arange(HORIZON_DAYS), np.cumsum(snapshot.lengths)[:-1])
    for step, (month, resolve) in enumerate(zip(days, paths, strict=True)):
        exposure = timing(terms, month).sum(axis=1)
        faded = PERSISTENCE**step
        hazard = (rates(traits, resolve, faded * mood.relief, churn_rate) * exposure).astype(np.float32)
        kept = np.exp(-_SLOPE * faded * relief).astype(np.float32)
        total += np.einsum("rac,pac->pra", np.broadcast_to(hazard, (_PATHS, *exposure.shape)), kept)
    return np.asarray(1 - np.exp(-total).mean(axis=1, dtype=np.float64))


def _paths(mood: Mood, traits: Traits, steps: int, random: np.random.Generator) -> Iterator[Floats]:
    pressure = np.broadcast_to(mood.pressure, (_PATHS, *mood.pressure.shape))
    resolve: Floats = mood.resolve[None]
    for _ in range(steps):
        yield resolve
        pressure = drifted(pressure, traits.usual, random)
        resolve = _followed(resolve, pressure)


def main_cause(snapshot: Snapshot, traits: Traits, churn_rate: float) -> Ints:
    """The largest hazard of each account at risk at average timing; `INVOLUNTARY` where no pressure stands out."""
    voluntary = rates(traits, snapshot.mood.resolve, snapshot.mood.relief, churn_rate)
    hazard = np.column_stack([voluntary, 1.5 * involuntary_rate(traits, churn_rate)])[snapshot.at_risk]
    return np.asarray(hazard.argmax(axis=1))


def picked(part: Part, who: Ints) -> Part:
    """The same record for some accounts only."""
    return replace(part, **{name: column[who] for name, column in vars(part).items()})
