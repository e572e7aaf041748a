"""The visible side of a generated company: names, usage, tickets and surveys of one month.

Each draw fills a fixed grid (account or user, day or place), so that a change in one account moves no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.world_state import SEGMENTS, Flags, Floats, Ints, Mood, Traits, account_ids, generator

HOUR = 1 / 24
Columns = dict[str, npt.NDArray[np.generic]]

_FIRST = (
    "Alder Amber Arbor Aster Atlas Beacon Birch Blue Bright Cedar Clear Cobalt Copper Coral Crest Delta "
    "Dune Ember Falcon Fern Flint Forge Garnet Glacier Golden Granite Harbor Hazel Heron Indigo Iron "
    "Ivory Jade Juniper Keystone Lark Linden Lunar Maple Marble Meadow Mistral North Oak Onyx Orchard "
    "Osprey Pine Quarry Raven River Rowan Saffron Sierra Silver Slate Solar Stone Summit Swift Teal "
    "Thistle Tidal Timber Umber Vale Velvet Violet Willow Zephyr"
)
_SECOND = (
    "bay bridge brook crest dale field ford gate grove haven hill lake land line mark mill peak point "
    "port ridge shore side spring stead view way wood works yard"
)
_THIRD = "Analytics Care Foods Freight Health Labs Logistics Media Partners Retail Systems Tools"
_INDUSTRIES = ("software", "manufacturing", "health", "retail", "logistics", "finance", "education", "media")
_REGIONS = ("north_america", "europe", "asia_pacific", "latin_america")
_CSMS = (
    "Ana_Reyes Ben_Okafor Chloe_Martin Daniel_Novak Elif_Kaya Farid_Haddad Grace_Lee Hugo_Silva "
    "Ines_Weber Jonas_Lind Keiko_Mori Liam_Byrne Maya_Patel Nils_Berg Olga_Petrov Priya_Nair Quentin_Roy "
    "Rosa_Conti Sam_Carter Tara_Singh Umar_Aziz Vera_Kos Wen_Zhao Xenia_Popa Yusuf_Demir Zoe_Clarke"
)
_SLA_HOURS = np.array([4, 8, 24, 72])
_PLANS = np.array(["starter", "team", "business", "corporate"])
_REASONS = np.array(["low_usage", "service", "price", "non_payment", "business_closed"])
_TOPICS = np.array(["how_to", "bug", "performance", "integration", "billing", "access"])
_TICKETS, _INVITES = 12, 3
"""At most so many tickets a month and survey contacts an account."""
_NPS_EVERY = 91


@dataclass(frozen=True)
class Month:
    """One month as the tables see it; the second axis of `present` and `extra` counts its days."""

    number: int
    first_day: float
    before: Mood
    after: Mood
    present: Flags
    """(accounts, days): the account holds a contract."""
    leaving: Flags
    """Accounts in notice since before the month."""
    seats: Ints
    age: Floats
    """Days since the account's first start, at the month's first day."""
    extra: Floats
    """(accounts, days, causes): relief by plays of this month."""


def account_columns(traits: Traits, seed: int) -> dict[str, list[str]]:
    """Name, segment, industry, region and CSM of every account."""
    random = generator(seed, 0, "accounts")
    accounts = len(traits.users)
    words = ([first + second for first in _FIRST.split() for second in _SECOND.split()], _THIRD.split())
    combinations = math.prod(len(part) for part in words)
    places = random.permutation(max(combinations, accounts))[:accounts]
    people = [name.replace("_", " ") for name in _CSMS.split()]
    managers = max(1, round(accounts / 80))
    return {
        "account_id": account_ids(accounts),
        "name": [_name(int(place), words) for place in places],
        "segment": [SEGMENTS[kind] for kind in traits.segment],
        "industry": [_INDUSTRIES[kind] for kind in random.integers(0, len(_INDUSTRIES), accounts)],
        "region": [_REGIONS[kind] for kind in random.choice(4, accounts, p=(0.45, 0.35, 0.13, 0.07))],
        "csm_id": [_name(int(number), (people,)) for number in random.integers(0, managers, accounts)],
    }


def _name(place: int, words: tuple[list[str], ...]) -> str:
    parts = []
    for part in words:
        place, chosen = divmod(place, len(part))
        parts.append(part[chosen])
    return " ".join([*parts, str(place + 1)] if place else parts)


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
    ready = month.age[account, None] + np.arange(shape[1]) >= 2 * place[:, None]
    allowed = month.present[account] & ready & (place < month.seats[account])[:, None]
    user, day = np.nonzero(allowed & (lot < _sigmoid(active)))
    is_core = core_lot[user, day] < _sigmoid(core[account[user], day] + 0.5 * liking[1][user])
    drive = np.exp(0.25 * np.clip(active[user, day], -3, 3))
    quantity = 1 + np.floor(-np.log1p(-volume[user, day]) * 9 * drive)
    minutes = quantity * (1.5 + 2 * core_lot[user, day])
    return {
        "account": account[user],
        "user": user,
        "event_at": month.first_day + day + (7 + 12 * hour[user, day]) * HOUR,
        "quantity": quantity.astype(np.int64),
        "is_core": is_core,
        "minutes": np.round(minutes, 1).astype(np.float64),
    }


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
    """Weekends, the end of December and August are quieter."""
    dates = np.datetime64(start, "D") + int(month.first_day) + np.arange(active.shape[1])
    weekday = (dates.astype(np.int64) + 3) % 7
    number = dates.astype("datetime64[M]").astype(np.int64) % 12 + 1
    in_month = (dates - dates.astype("datetime64[M]")).astype(np.int64) + 1
    holiday = (number == 12) & (in_month >= 23)
    quiet = np.where(weekday >= 5, 3.0, 0.0) + np.where(holiday, 2.0, 0.0) + np.where(number == 8, 0.35, 0.0)
    return np.asarray(active - quiet[None, :])


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit)))


def ticket_rows(traits: Traits, month: Month, seed: int) -> Columns:
    """Tickets opened in the month, with what will become of them; the export hides what is not yet known."""
    random = generator(seed, month.number, "tickets")
    accounts, days = month.present.shape
    chance = random.random((9, accounts, _TICKETS))
    noise = random.normal(size=(3, accounts, _TICKETS))
    day = np.floor(chance[0] * days).astype(np.int64)
    account = np.repeat(np.arange(accounts)[:, None], _TICKETS, axis=1)
    anger = (month.before.pressure + month.after.pressure)[:, 1, None] / 2 - month.before.relief[:, 1, None]
    anger = anger - month.extra[account, day, 1]
    doubt = (month.before.pressure - month.before.relief)[:, 0, None]
    rate = 0.3 * np.sqrt(traits.users)[:, None] * np.exp(0.3 * traits.voice[:, None] + 0.55 * anger - 0.1 * doubt)
    happens = month.present[account, day] & (chance[1] < np.minimum(rate / _TICKETS, 1))
    severity = 4 - (_sigmoid(noise[0] + 0.6 * anger - 0.6) * 3.4).astype(np.int64)
    sla = _SLA_HOURS[severity - 1]
    first = sla * np.exp(0.75 * noise[1] + 0.4 * anger - 1.0)
    resolution = first + 2.5 * sla * np.exp(0.9 * noise[2] + 0.4 * anger - 0.3)
    mark = 4.4 - 0.55 * anger - 0.8 * (first > sla) - 0.2 * doubt + 1.2 * (chance[3] + chance[4] - 1)
    opened = month.first_day + day + (6 + 14 * chance[5]) * HOUR
    number = np.broadcast_to(np.arange(_TICKETS), happens.shape)
    answers = chance[6] < 0.45 + 0.08 * np.tanh(traits.voice)[:, None]
    faulty = chance[8] < _sigmoid(0.5 * anger)
    columns = {
        "account": account,
        "number": month.number * _TICKETS + number,
        "opened_at": opened,
        "first_response_at": opened + first * HOUR,
        "resolved_at": opened + resolution * HOUR,
        "severity": severity,
        "topic": np.where(faulty, 1 + 3 * chance[7], 4 * (chance[7] > 0.5 + 0.1 * doubt) + 1.5 * chance[8]),
        "escalated": (chance[2] < 0.25 * _sigmoid(anger - 1)) & (severity <= 3),
        "sla_hours": sla,
        "csat": np.where(answers, np.clip(np.round(mark), 1, 5), np.nan),
    }
    return {name: column[happens] for name, column in columns.items()}


def survey_rows(traits: Traits, month: Month, seed: int) -> Columns:
    """Relationship NPS: each account is asked about every 91 days, one to three contacts at a time."""
    accounts, days = month.present.shape
    offset = generator(seed, 0, "surveys").integers(0, _NPS_EVERY, accounts)
    random = generator(seed, month.number, "surveys")
    chance = random.random((4, accounts, _INVITES))
    noise = random.normal(size=(accounts, _INVITES))
    wait = (offset - int(month.first_day)) % _NPS_EVERY
    day = np.minimum(wait, days - 1)
    rows = np.arange(accounts)
    old_enough = month.age + day >= 30
    due = (wait < days) & month.present[rows, day] & old_enough & ~month.leaving
    contacts = np.minimum(_INVITES, 1 + traits.users // 8)
    asked = due[:, None] & (np.arange(_INVITES) < contacts[:, None])
    resolve = month.before.resolve - month.before.relief - month.extra[rows, day]
    feeling = 7.9 + 0.4 * traits.fit - resolve @ np.array([0.55, 1.05, 0.6])
    score = np.clip(np.round(feeling[:, None] + 1.7 * noise), 0, 10)
    answers = chance[0] < _sigmoid(0.1 + 0.3 * traits.voice - 0.35 * resolve[:, 0])[:, None]
    sent = month.first_day + day[:, None] + (8 + 2 * chance[1]) * HOUR
    replied = sent - 3 * np.log1p(-0.99 * chance[2]) + HOUR
    columns = {
        "account": np.repeat(rows[:, None], _INVITES, axis=1),
        "number": np.broadcast_to(np.arange(1, _INVITES + 1), asked.shape),
        "score": score,
        "sent_at": sent,
        "responded_at": np.where(answers, replied, np.nan),
    }
    return {name: column[asked] for name, column in columns.items()}


def joined(months: Iterable[Columns]) -> Columns:
    """The rows of all months."""
    parts = list(months)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def instants(days: npt.NDArray[np.generic], start: date) -> pa.Array:
    """Days from `start` (NaN where missing) as naive timestamps."""
    known = days.astype(np.float64)
    stamps = np.datetime64(start, "us") + np.round(np.nan_to_num(known) * 86_400).astype("timedelta64[s]")
    return pa.array(stamps, mask=np.isnan(known), type=pa.timestamp("us"))


def exported(columns: Columns, accounts: int, start: date, end: float = math.inf) -> pa.Table:
    """The columns with ids and timestamps; what lies at or after `end` has not happened yet."""
    shown = {"account_id": pa.array(account_ids(accounts)).take(pa.array(columns["account"]))}
    for name, column in columns.items():
        if name.endswith("_at"):
            shown[name] = instants(np.where(column.astype(np.float64) < end, column, np.nan), start)
        elif name in ("csat", "score"):
            missing = np.isnan(column.astype(np.float64))
            shown[name] = pa.array(np.where(missing, 0, column).astype(np.int64), mask=missing)
        elif name not in ("account", "number"):
            shown[name] = pa.array(column)
    return pa.table(shown)


def usage_table(columns: Columns, traits: Traits, start: date) -> pa.Table:
    """The exported `usage`."""
    names = zip(account_ids(len(traits.users)), traits.users.tolist(), strict=True)
    users = pa.array([f"{name}-u{place:02d}" for name, used in names for place in range(used)])
    table = exported(columns, len(traits.users), start)
    return table.drop_columns("user").add_column(1, "user_id", users.take(pa.array(columns["user"])))


def ticket_table(columns: Columns, traits: Traits, start: date, end: float) -> pa.Table:
    """The exported `tickets`; a score comes with the resolution."""
    open_ = columns["resolved_at"].astype(np.float64) >= end
    columns = {
        **columns,
        "csat": np.where(open_, np.nan, columns["csat"]),
        "topic": _TOPICS[columns["topic"].astype(np.int64)],
    }
    table = exported(columns, len(traits.users), start, end)
    return table.add_column(0, "ticket_id", _keys("tic-{:05d}-{:04d}", columns))


def survey_table(columns: Columns, traits: Traits, start: date, end: float) -> pa.Table:
    """The exported `surveys`: all NPS; a score comes with the answer."""
    waiting = ~(columns["responded_at"].astype(np.float64) < end)
    columns = {**columns, "score": np.where(waiting, np.nan, columns["score"])}
    table = exported(columns, len(traits.users), start, end)
    kind = pa.array(["nps"] * len(table), pa.string())
    return table.add_column(1, "contact_id", _keys("acc-{:05d}-c{}", columns)).add_column(2, "kind", kind)


def contract_table(columns: Columns, traits: Traits, start: date, end: float) -> pa.Table:
    """The exported `contracts`: versions known before `end`, in the order in which they became known."""
    known = columns["known_at"].astype(np.float64)
    order = np.argsort(known, kind="stable")
    columns = {name: column[order[known[order] < end]] for name, column in columns.items()}
    reason = columns["end_reason"].astype(np.int64)
    told = pa.array(_REASONS[reason], mask=reason < 0)
    columns = {**columns, "plan": _PLANS[columns["plan"]]}
    table = exported({name: columns[name] for name in columns if name != "end_reason"}, len(traits.users), start)
    return table.append_column("end_reason", told).add_column(0, "contract_id", _keys("con-{:05d}-{}", columns))


def _keys(pattern: str, columns: Columns) -> pa.Array:
    places = zip(columns["account"].tolist(), columns["number"].tolist(), strict=True)
    return pa.array([pattern.format(account, number) for account, number in places], pa.string())
