"""What a generated company plans with its accounts: onboarding, purchases, deals, goals; and its outages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.world.rows import HOUR, Columns, Month, joined, sigmoid
from features.world.state import Floats, Traits, generator
from features.world.usage import CORE, MODULES, RELEASED, bought_features

STEPS = ("kickoff", "data_connected", "users_invited", "first_report", "review")
_DUE_DAYS = np.array([5, 14, 24, 40, 60])
_IS_REQUIRED = np.array([True, True, True, True, False])
_OUTAGES, _OUTAGE_RATE = 3, 0.3
OUTAGE_CAUSES = ("database", "network", "release", "provider")
STAGES = ("discovery", "proposal", "negotiation", "won", "lost")
DEALS = ("new", "renewal")
_RENEWAL_DAYS = 92.0
_GOALS = 2


def milestone_rows(traits: Traits, month: Month, seed: int) -> Columns:
    """The onboarding steps of accounts that start, with what becomes of them; who doubts takes longer."""
    random = generator(seed, month.number, "milestones")
    accounts = len(traits.users)
    lot, noise = random.random((accounts, len(STEPS))), random.normal(size=(accounts, 1))
    doubt = (month.before.pressure - month.before.relief)[:, 0, None]
    start = month.first_start[:, None]
    pace = np.exp(0.35 * noise + 0.3 * doubt - 0.2 * traits.fit[:, None] - 0.1)
    done = start + pace * _DUE_DAYS * (0.8 + 0.4 * lot)
    columns = {
        "account": np.repeat(np.arange(accounts)[:, None], len(STEPS), axis=1),
        "step": np.broadcast_to(np.arange(len(STEPS)), done.shape),
        "required": np.broadcast_to(_IS_REQUIRED, done.shape),
        "event_at": np.broadcast_to(start, done.shape),
        "due_at": start + _DUE_DAYS,
        "completed_at": np.where(done < start + 240, done, np.nan),
    }
    return {name: column[month.is_new] for name, column in columns.items()}


def entitlement_rows(traits: Traits, month: Month) -> Columns:
    """The core features that starting accounts buy; one that is released later is theirs from then on."""
    accounts = len(traits.users)
    place = np.broadcast_to(np.arange(len(CORE)), (accounts, len(CORE)))
    released = np.broadcast_to(RELEASED, place.shape)
    columns = {
        "account": np.repeat(np.arange(accounts)[:, None], len(CORE), axis=1),
        "feature": place,
        "module": place // (len(CORE) // len(MODULES)),
        "released_at": released,
        "event_at": np.maximum(month.first_start[:, None], released),
    }
    bought = month.is_new[:, None] & (place < bought_features(month.plan)[:, None])
    return {name: column[bought] for name, column in columns.items()}


def incident_rows(month: Month, seed: int) -> Columns:
    """Outages of the month, a row for each account hit: more often those that suffer from the service."""
    random = generator(seed, month.number, "incidents")
    accounts, days = month.present.shape
    when, happens, cause, hours = random.random((4, _OUTAGES))
    lot = random.random((accounts, _OUTAGES))
    day = np.broadcast_to(np.floor(when * days).astype(np.int64), lot.shape)
    account = np.repeat(np.arange(accounts)[:, None], _OUTAGES, axis=1)
    hit = lot < sigmoid(0.55 * month.felt(day)[..., 1] - 1.4)
    start = month.first_day + day + (6 + 14 * np.abs(2 * when * days % 2 - 1)) * HOUR
    columns = {
        "account": account,
        "incident": np.broadcast_to(month.number * _OUTAGES + np.arange(_OUTAGES), lot.shape),
        "started_at": start,
        "ended_at": start + (0.4 - 3 * np.log1p(-0.99 * hours)) * HOUR,
        "cause": np.broadcast_to(np.floor(cause * len(OUTAGE_CAUSES)), lot.shape),
    }
    struck = hit & (happens < _OUTAGE_RATE) & month.present[account, day]
    return {name: column[struck] for name, column in columns.items()}


@dataclass(frozen=True)
class Deals:
    """The deals of a month, one entry per account."""

    ends: Floats
    """When the term ends of those who may renew it; NaN where no deal is needed."""
    lost_at: Floats
    """When the account left or gave notice in this month; NaN where it did not."""
    signed_at: Floats


def deal_rows(traits: Traits, month: Month, deals: Deals, seed: int) -> Columns:
    """Stages that deals enter in the month: a renewal opens 92 days before the term ends, slower at a high price."""
    accounts, days = month.present.shape
    slow, cycle = generator(seed, month.number // 12, "deals").random((2, accounts))
    price = np.clip((month.before.pressure - month.before.relief)[:, 2], -2, 2)
    opened = deals.ends - _RENEWAL_DAYS + 10 * HOUR
    first, last = month.first_day, month.first_day + days
    closes = np.where(np.isnan(deals.lost_at) & (deals.ends < last), deals.ends - 0.5, deals.lost_at + 1)
    wait = np.stack([np.zeros(accounts), 20 + 14 * slow, 48 + 14 * slow]) * np.exp(0.15 * price)
    entered = np.vstack([opened + wait, closes])
    open_until = np.where(np.isnan(closes), last, closes)
    enters = (opened < open_until) & (entered >= first) & (entered < last)
    enters[:3] &= entered[:3] < open_until
    enters[3] |= (opened < closes) & (closes >= last) & ~np.isnan(deals.lost_at)
    stage = np.vstack([*(np.full(accounts, place) for place in range(3)), np.where(np.isnan(deals.lost_at), 3, 4)])
    renewals = {
        "account": np.broadcast_to(np.arange(accounts), stage.shape),
        "number": np.broadcast_to(np.nan_to_num(deals.ends).astype(np.int64), stage.shape),
        "kind": np.ones(stage.shape, dtype=np.int64),
        "opened_at": np.broadcast_to(opened, stage.shape),
        "stage": stage,
        "stage_entered_at": entered,
        "closed_at": np.where(stage >= 3, entered, np.nan),
    }
    who = np.flatnonzero(month.is_new)
    signed = deals.signed_at[who]
    sales = {"account": who, "number": np.zeros(len(who), dtype=np.int64), "kind": np.zeros(len(who), dtype=np.int64),
             "opened_at": signed - 20 - 100 * cycle[who] ** 2, "stage": np.full(len(who), 3),
             "stage_entered_at": signed, "closed_at": signed}  # fmt: skip
    return joined([{name: column[enters] for name, column in renewals.items()}, sales])


def goal_rows(traits: Traits, month: Month, seed: int) -> Columns:
    """Each quarter what was reached of the year's goals; who doubts the product reaches less."""
    random = generator(seed, month.number, "goals")
    accounts = len(traits.users)
    noise = random.normal(size=(accounts, _GOALS))
    target = 10 * (1 + generator(seed, month.number // 12, "targets").integers(1, 20, (accounts, _GOALS)))
    number = np.broadcast_to(np.arange(_GOALS), noise.shape)
    day = np.full(noise.shape, 10)
    share = np.exp(0.1 + 0.25 * noise - 0.2 * month.felt(day)[..., 0])
    columns = {
        "account": np.repeat(np.arange(accounts)[:, None], _GOALS, axis=1),
        "number": month.number // 12 * _GOALS + number,
        "event_at": month.first_day + day + 9 * HOUR,
        "target": target.astype(np.float64),
        "actual": np.round(target * share * (1 + month.number % 12 // 3) / 4, 1),
    }
    has = number < 1 + (traits.segment > 0)[:, None]
    due = has & (month.number % 3 == 0) & month.present[:, 10, None]
    return {name: column[due] for name, column in columns.items()}
