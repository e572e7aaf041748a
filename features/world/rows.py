"""The visible side of a generated company: tickets and surveys of one month, and how tables are exported.

Each draw fills a fixed grid (account or user, day or place), so that a change in one account moves no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.world.state import Flags, Floats, Ints, Mood, Traits, generator

HOUR = 1 / 24
Columns = dict[str, npt.NDArray[np.generic]]

_SLA_HOURS = np.array([4, 8, 24, 72])
PLANS = ("starter", "team", "business", "corporate")
_REASONS = ("low_usage", "service", "price", "champion_left", "non_payment", "business_closed")
_TOPICS = ("how_to", "bug", "performance", "integration", "billing", "access")
_PLANNED, _WHOLE = ("due_at", "term_end_at"), ("csat", "score")
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
    plan: Ints
    first_start: Floats
    """Day of the account's first contract; NaN before it has one."""
    extra: Floats
    """(accounts, days, pressures): relief by plays of this month."""
    empty: Flags
    """(accounts, days): the champion left and no successor is there."""
    generation: Ints
    """How many champions left before the month."""
    manager: Ints
    """Number of the CSM."""
    is_drifted: bool

    @property
    def age(self) -> Floats:
        """Days since the account's first start, at the month's first day."""
        return np.asarray(self.first_day - self.first_start)

    @property
    def is_new(self) -> Flags:
        """Accounts not yet told of: those whose first contract starts in the month, in the first month all."""
        begins = self.first_start < self.first_day + self.present.shape[1]
        return np.asarray(begins & ((self.number == 0) | (self.first_start >= self.first_day)))

    def felt(self, day: Ints) -> Floats:
        """What accounts feel on a day of the month for each slot of a grid, (accounts, slots, pressures)."""
        pressure = (self.before.pressure + self.after.pressure) / 2 - self.before.relief
        return np.asarray(pressure[:, None, :] - self.extra[np.arange(len(day))[:, None], day])


def sigmoid(logit: Floats) -> Floats:
    """The chance of a logit."""
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
    severity = 4 - (sigmoid(noise[0] + 0.6 * anger - 0.6) * 3.4).astype(np.int64)
    sla = _SLA_HOURS[severity - 1]
    first = sla * np.exp(0.75 * noise[1] + 0.4 * anger - 1.0)
    resolution = first + 2.5 * sla * np.exp(0.9 * noise[2] + 0.4 * anger - 0.3)
    mark = 4.4 - 0.55 * anger - 0.8 * (first > sla) - 0.2 * doubt + 1.2 * (chance[3] + chance[4] - 1)
    opened = month.first_day + day + (6 + 14 * chance[5]) * HOUR
    number = np.broadcast_to(np.arange(_TICKETS), happens.shape)
    answers = chance[6] < 0.45 + 0.08 * np.tanh(traits.voice)[:, None]
    faulty = chance[8] < sigmoid(0.5 * anger)
    columns = {
        "account": account,
        "number": month.number * _TICKETS + number,
        "opened_at": opened,
        "first_response_at": opened + first * HOUR,
        "resolved_at": opened + resolution * HOUR,
        "severity": severity,
        "topic": np.where(faulty, 1 + 3 * chance[7], 4 * (chance[7] > 0.5 + 0.1 * doubt) + 1.5 * chance[8]),
        "escalated": (chance[2] < 0.25 * sigmoid(anger - 1)) & (severity <= 3),
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
    answers = chance[0] < sigmoid(0.1 + 0.3 * traits.voice - 0.35 * resolve[:, 0])[:, None]
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


@dataclass(frozen=True)
class Export:
    """What the company exports at `end`: rows known by then, outcomes that have happened by then."""

    accounts: pa.Array
    people: pa.Array
    """The ids that `person` counts."""
    start: date
    end: float = math.inf

    def known(self, columns: Columns) -> Columns:
        """The rows that have reached the warehouse."""
        is_known = columns["known_at"].astype(np.float64) < self.end
        return {name: column[is_known] for name, column in columns.items()}

    def table(self, columns: Columns, texts: Mapping[str, Sequence[str]] | None = None, key: str = "") -> pa.Table:
        """The columns with ids, texts and timestamps; `key` is the name and pattern of the id, if any."""
        columns = self.known(columns) if "known_at" in columns else columns
        shown = {"account_id": self.accounts.take(pa.array(columns["account"].astype(np.int64)))}
        if key:
            name, pattern = key.split()
            shown = {name: _keys(pattern, columns), **shown}
        for name, column in columns.items():
            if texts is not None and name in texts:
                places = column.astype(np.int64)
                shown[name] = pa.array(texts[name]).take(pa.array(places, mask=places < 0))
            elif name == "person":
                places = column.astype(np.int64)
                shown["contact_id"] = self.people.take(pa.array(places, mask=places < 0))
            elif name not in ("account", "number"):
                shown[name] = self._values(name, column)
        return pa.table(shown)

    def _values(self, name: str, column: npt.NDArray[np.generic]) -> pa.Array:
        if name.endswith("_at"):
            happened = (column.astype(np.float64) < self.end) | (name in _PLANNED)
            return instants(np.where(happened, column, np.nan), self.start)
        if name in _WHOLE:
            missing = np.isnan(column.astype(np.float64))
            return pa.array(np.where(missing, 0, column).astype(np.int64), mask=missing)
        return pa.array(column, mask=np.isnan(column.astype(np.float64)) if column.dtype.kind == "f" else None)


def ticket_table(columns: Columns, export: Export) -> pa.Table:
    """The exported `tickets`; a score comes with the resolution."""
    is_open = columns["resolved_at"].astype(np.float64) >= export.end
    columns = {**columns, "csat": np.where(is_open, np.nan, columns["csat"])}
    return export.table(columns, {"topic": _TOPICS}, "ticket_id tic-{:05d}-{:04d}")


def survey_table(columns: Columns, export: Export) -> pa.Table:
    """The exported `surveys`: all NPS; a score comes with the answer."""
    waiting = ~(columns["responded_at"].astype(np.float64) < export.end)
    table = export.table({**columns, "score": np.where(waiting, np.nan, columns["score"])})
    return table.add_column(2, "kind", pa.array(["nps"] * len(table), pa.string()))


def contract_table(columns: Columns, export: Export) -> pa.Table:
    """The exported `contracts`: versions in the order in which they became known."""
    order = np.argsort(columns["known_at"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    return export.table(columns, {"end_reason": _REASONS, "plan": PLANS}, "contract_id con-{:05d}-{}")


def _keys(pattern: str, columns: Columns) -> pa.Array:
    places = zip(columns["account"].tolist(), columns["number"].tolist(), strict=True)
    return pa.array([pattern.format(account, number) for account, number in places], pa.string())
