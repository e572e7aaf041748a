"""The hidden side of a generated company: what presses on each account and who decides to leave.

Three pressures (adoption, service, price) drift from month to month. `pressure` is felt at once and shows
in the tables; `resolve` follows it about a month later and drives decisions, so that signals come first.
Beside them the loss of a champion makes an account ready to leave for some months, and a few stop paying.
Days are counted from the first day of the world, months from its first month.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CAUSES = ("adoption", "service", "price", "champion")
PRESSURES = 3
"""The causes that are pressures, the first ones; the fourth is an event."""
CHAMPION, INVOLUNTARY = PRESSURES, len(CAUSES)
SEGMENTS = ("smb", "mid", "enterprise")
HORIZON_DAYS = 90
QUICK_RETURN = 0.25
"""Share of involuntary ends after which the account signs again within days: an end, but no decision to leave."""

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
_DRIFTED = np.array([0.4, 1.7, 1.0])
"""After the drift people leave for the service rather than for want of use: what pointed to adoption means less."""
CHAMPION_RATE = 0.22 / 365
"""Champions who leave, a day."""
_CHAMPION_HAZARD, CHAMPION_FADE_DAYS = 3.0, 90.0
"""Hazard after a champion left, in shares of `churn_rate`, and the days after which a third of it is left."""
_OWN, _SHARED = 0.6, 0.8
"""What an account feels for itself and with its parent; the variance stays the same."""
CLOSED_SHARE = 0.4
"""Share of involuntary ends that are closed businesses; the others stop paying and are cut off."""
CUT_DAYS = (40.0, 60.0)
"""From the first payment that fails to the end of the contract."""


@dataclass(frozen=True)
class Market:
    """What all accounts share: how many leave, and the month in which the reasons and the product change."""

    churn_rate: float = 0.14
    drift_month: int | None = None

    def is_drifted(self, month: int) -> bool:
        """Whether `month` lies after the drift."""
        return self.drift_month is not None and month >= self.drift_month

    def level(self, month: int) -> Floats:
        """Hazard a day of each pressure, before what presses on the single account, (pressures,)."""
        weight = _DRIFTED if self.is_drifted(month) else 1.0
        return np.asarray(self.churn_rate / 365 * _SHARES / _TYPICAL_RISK * weight)


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
    leader: Ints
    """The first account of its parent; its own number where it stands alone."""


def akin(values: Floats, leader: Ints) -> Floats:
    """Values that accounts with one parent have in part in common; as before for those that stand alone."""
    mixed = _OWN * values + _SHARED * values[leader]
    return np.where((leader == np.arange(len(leader)))[:, None], values, mixed)


def draw_leaders(accounts: int, seed: int) -> Ints:
    """Parents of two to five accounts each, for about 15 % of all."""
    random, leader = generator(seed, 0, "parents"), np.arange(accounts)
    order, place = random.permutation(accounts), 0
    for size in random.integers(2, 6, accounts).tolist():
        if place + size > 0.15 * accounts:
            break
        leader[order[place : place + size]] = order[place : place + size].min()
        place += size
    return leader


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
    leader = draw_leaders(accounts, seed)
    return Traits(
        segment=segment,
        users=random.integers(fewest, most + 1),
        fit=fit,
        voice=random.normal(size=accounts),
        intensity=0.8 * random.normal(size=accounts) + 0.2 * fit,
        usual=akin(usual, leader),
        joins=np.where(exists, -random.integers(1, 37, accounts), random.integers(0, 24, accounts)),
        leader=leader,
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


def drifted(pressure: Floats, usual: Floats, random: np.random.Generator, leader: Ints | None = None) -> Floats:
    """Pressures a month later: back towards the usual, with noise (`akin` under one leader) and a rare shock."""
    shock = (random.random(pressure.shape) < _SHOCK_RATE) * random.exponential(_SHOCK_MEAN, pressure.shape)
    noise = random.normal(size=pressure.shape)
    noise = noise if leader is None else akin(noise, leader)
    return np.asarray(usual + PERSISTENCE * (pressure - usual) + _NOISE * noise + shock)


def next_mood(mood: Mood, traits: Traits, random: np.random.Generator) -> Mood:
    """The mood at the next first of a month."""
    pressure = drifted(mood.pressure, traits.usual, random, traits.leader)
    return Mood(pressure, followed(mood.resolve, pressure), PERSISTENCE * mood.relief)


def followed(resolve: Floats, pressure: Floats) -> Floats:
    """The resolve a month later."""
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
    """How likely a voluntary decision is on each day against an average one, (accounts, days, pressures).

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


def rates(traits: Traits, resolve: Floats, relief: Floats, level: Floats) -> Floats:
    """Hazard per day and pressure at average timing, (..., accounts, pressures)."""
    usual = level * _SEGMENT_FACTOR[traits.segment][:, None]
    return np.asarray(usual * np.exp(_SLOPE * (np.minimum(resolve, _CEILING) - relief)))


def involuntary_rate(traits: Traits, churn_rate: float) -> Floats:
    """Hazard per day of a closed business, which nothing announces, or of bills that stay unpaid from now on."""
    return np.asarray(churn_rate / 365 * _INVOLUNTARY_SHARE * _SEGMENT_FACTOR[traits.segment])


def champion_rate(traits: Traits, churn_rate: float) -> Floats:
    """Hazard per day at average timing on the day after the champion left."""
    return np.asarray(churn_rate / 365 * _CHAMPION_HAZARD * _SEGMENT_FACTOR[traits.segment])


def faded(days: Floats) -> Floats:
    """What is left of a champion's loss so many days later; nothing before it, or where there was none."""
    after = np.nan_to_num(days, nan=-1.0)
    return np.asarray(np.where(after > 0, np.exp(-np.maximum(after, 0) / CHAMPION_FADE_DAYS), 0.0))


@dataclass(frozen=True)
class Pull:
    """All that makes accounts leave on the days of one month, beside their mood."""

    market: Market
    month: int
    factor: Floats
    """`timing`, (accounts, days, pressures)."""
    extra: Floats
    """Relief by day, (accounts, days, pressures)."""
    since_loss: Floats
    """Days since the champion left, (accounts, days); NaN where none did."""


def daily_hazard(traits: Traits, mood: Mood, pull: Pull) -> Floats:
    """Hazard on each day of a month, (accounts, days, causes + involuntary)."""
    churn_rate, level = pull.market.churn_rate, pull.market.level(pull.month)
    voluntary = rates(traits, mood.resolve, mood.relief, level)[:, None, :] * pull.factor
    voluntary = voluntary * relieved(pull.extra)
    alone = champion_rate(traits, churn_rate)[:, None] * faded(pull.since_loss) * pull.factor[..., 0]
    steady = np.broadcast_to(involuntary_rate(traits, churn_rate)[:, None, None], (*alone.shape, 1))
    return np.concatenate([voluntary, alone[..., None], steady], axis=2)


def relieved(relief: Floats) -> Floats:
    """The factor by which relief lowers the hazard of each pressure."""
    return np.asarray(np.exp(-_SLOPE * relief))


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


Part = TypeVar("Part", Traits, Mood, Terms)


def picked(part: Part, who: Ints) -> Part:
    """The same record for some accounts only."""
    return replace(part, **{name: column[who] for name, column in vars(part).items()})
