"""The use of the product of a generated company: who, on which day, with which feature, and how much."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa

from features.world.loads import Loads
from features.world.people import Roster
from features.world.rows import HOUR, Columns, Export, Month, sigmoid
from features.world.state import Flags, Floats, Ints, Traits, generator

CORE = ("report", "dashboard", "workflow", "approval", "forecast", "planner")
"""Core features, in the order in which plans include them."""
_OTHER = ("account", "search", "export", "connector", "handbook", "scheduler")
FEATURES = (*CORE, *_OTHER)
MODULES = ("analytics", "automation", "planning")
"""Each has two core features."""
RELEASED = np.array([-1400, -1400, -900, -600, -250, 150])
"""Days of the releases of the core features, from the first day of the world."""
_KINDS = ("action", "login", "export", "integration", "help_view", "job_failed")
_KIND_OF_OTHER = np.array([1, 0, 2, 3, 4, 5])
_OTHER_SHARES = np.array([0.48, 0.78, 0.83, 0.91, 0.98, 1.0])
"""Shares, added up, of the features that are not core."""
_AFTER_DRIFT = 0.5
"""Share of core use that is left, for everyone, once the product has changed."""


def usage_rows(traits: Traits, month: Month, seed: int, start: date) -> Columns:
    """One row per account, user and day with use; a user keeps a place and a liking for the product."""
    account = np.repeat(np.arange(len(traits.users)), traits.users)
    place = np.arange(len(account)) - np.repeat(np.cumsum(traits.users) - traits.users, traits.users)
    liking = generator(seed, 0, "users").normal(size=(2, len(account)))
    random = generator(seed, month.number, "usage")
    shape = (len(account), month.present.shape[1])
    lot, core_lot, volume, hour = (random.random(shape, dtype=np.float32) for _ in range(4))
    active, core = _appetite(traits, month, random)
    active = _calendar(active, month, start)[account] + 0.9 * liking[0][:, None]
    user, day = np.nonzero(_allowed(month, account, place) & (lot < sigmoid(active)))
    chance = sigmoid(core[account[user], day] + 0.5 * liking[1][user]) * (_AFTER_DRIFT if month.is_drifted else 1.0)
    is_core = core_lot[user, day] < chance
    drive = np.exp(0.25 * np.clip(active[user, day], -3, 3))
    quantity = 1 + np.floor(-np.log1p(-volume[user, day]) * 9 * drive)
    minutes = quantity * (1.5 + 2 * core_lot[user, day])
    columns: Columns = {
        "account": account[user],
        "person": Roster(traits).index(account[user], place[user], month.generation[account[user]]),
        "event_at": month.first_day + day + (7 + 12 * hour[user, day]) * HOUR,
        "quantity": quantity.astype(np.int64),
        "is_core": is_core,
        "minutes": np.round(minutes, 1).astype(np.float64),
    }
    lots = (
        generator(seed, month.number, "features").random((2, *shape), dtype=np.float32)[:, user, day].astype(np.float64)
    )
    return columns | _features(month, columns, lots, user_day=(account[user], day))


def _allowed(month: Month, account: Ints, place: Ints) -> Flags:
    """On which days each user may use the product, (users, days)."""
    ready = month.age[account, None] + np.arange(month.present.shape[1]) >= 2 * place[:, None]
    allowed = month.present[account] & ready & (place < month.seats[account])[:, None]
    return np.asarray(allowed & ~((place == 0)[:, None] & month.empty[account]))


def _features(month: Month, columns: Columns, lots: Floats, user_day: tuple[Ints, Ints]) -> Columns:
    """The feature and the kind of each row: who doubts the product uses fewer of those bought, an angry one errs."""
    account, day = user_day
    doubt, anger = ((month.before.pressure + month.after.pressure)[:, cause] / 2 for cause in (0, 1))
    relief = month.before.relief[account] + month.extra[account, day]
    out = np.searchsorted(RELEASED, month.first_day + day, side="right")
    bought = np.minimum(bought_features(month.plan[account]), out)
    breadth = 1 + (bought - 1) * sigmoid(1.0 - 0.8 * (doubt[account] - relief[:, 0]))
    core = np.minimum((lots[0] ** 1.3 * breadth).astype(np.int64), bought - 1)
    other = np.searchsorted(_OTHER_SHARES, lots[0], side="right")
    is_core = columns["is_core"].astype(bool)
    kind = np.where(is_core, 0, _KIND_OF_OTHER[other])
    fails = lots[1] < sigmoid(0.45 * (anger[account] - relief[:, 1]) - 3.6)
    feature = np.where(is_core, core, len(CORE) + other)
    return {"feature": feature.astype(np.int8), "kind": kind.astype(np.int8), "is_error": fails | (kind == 5)}


def bought_features(plan: Ints) -> Ints:
    """How many core features a plan includes."""
    return np.asarray(np.minimum(3 + plan, len(CORE)))


def usage_table(columns: Columns, export: Export, loads: Loads) -> pa.Table:
    """The exported `usage`."""
    happened = columns["event_at"].astype(np.float64)
    key = columns["person"]
    columns = {**columns, "known_at": loads.hourly("usage", key, happened)}
    table = export.table(columns, {"feature": FEATURES, "kind": _KINDS})
    names = {"contact_id": "user_id", "feature": "feature_id"}
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _appetite(traits: Traits, month: Month, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Logits of any use and of core use, (accounts, days); core use gives way first."""
    days = month.present.shape[1]
    share = (np.arange(days) / days)[None, :]
    pressure, resolve = (_blend(month, share, name) for name in ("pressure", "resolve"))
    wobble = 0.35 * random.normal(size=(len(traits.users), 1))
    late_anger = 0.3 * np.maximum(resolve[..., 1] - 1.5, 0)
    active = -0.15 + 0.8 * traits.intensity[:, None] + wobble - late_anger - 0.9 * month.leaving[:, None]
    active = active - 0.25 * pressure[..., 0] - 0.65 * resolve[..., 0]
    return active, 0.9 - 0.75 * pressure[..., 0] + 0.3 * wobble


def _blend(month: Month, share: Floats, name: str) -> Floats:
    """A mood from the month's start to its end, day by day, less the relief known on the day."""
    first, last = getattr(month.before, name), getattr(month.after, name)
    mood = first[:, None, :] + share[..., None] * (last - first)[:, None, :]
    return np.asarray(mood - month.before.relief[:, None, :] - month.extra)


def _calendar(active: Floats, month: Month, start: date) -> Floats:
    """Weekends, the end of December and the summer are quieter, for everyone and without a cause of churn."""
    dates = np.datetime64(start, "D") + int(month.first_day) + np.arange(active.shape[1])
    weekday = (dates.astype(np.int64) + 3) % 7
    number = dates.astype("datetime64[M]").astype(np.int64) % 12 + 1
    in_month = (dates - dates.astype("datetime64[M]")).astype(np.int64) + 1
    holiday = (number == 12) & (in_month >= 23)
    summer = np.where(number == 8, 0.35, np.where(number == 7, 0.2, 0.0))
    quiet = np.where(weekday >= 5, 3.0, 0.0) + np.where(holiday, 2.0, 0.0) + summer
    return np.asarray(active - quiet[None, :])
