"""The people of a generated company: users, champions who leave, sponsors, deciders, and our own CSMs.

The champion holds the first place among an account's users; a successor takes the place under an id of their own.
A loss is drawn without regard to the mood: it is a cause of its own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features.world.loads import Loads, lots
from features.world.rows import Columns, joined
from features.world.state import CHAMPION_RATE, Flags, Floats, Ints, Traits, account_ids, generator

_SUCCESSORS = 6
"""At most so many champions follow the first one."""
_VACANCY = (35.0, 130.0)
"""Days until a successor arrives."""
_CSM_CHANGE = 0.008
"""Accounts that get another CSM, a month."""
_SPONSORED = np.array([0.35, 0.6, 0.85])
_OUTSIDE = np.array([0.15, 0.5, 0.8])
"""Accounts, by segment, whose decider does not use the product."""


class Roster:
    """All who use the product, first those who were there from the start."""

    def __init__(self, traits: Traits) -> None:
        self._users = traits.users
        self._starts, self._all = np.cumsum(traits.users) - traits.users, int(traits.users.sum())

    def names(self) -> pa.Array:
        """Every id."""
        users = list(zip(account_ids(len(self._users)), self._users.tolist(), strict=True))
        names = [f"{name}-u{place:02d}" for name, used in users for place in range(used)]
        later = [f"{name}-u{used + number:02d}" for name, used in users for number in range(_SUCCESSORS)]
        return pa.array(names + later)

    def index(self, account: Ints, place: Ints, generation: Ints) -> Ints:
        """Where the id of whoever holds a place is in `names()`; `generation` is that of the account's champion."""
        later = self._all + account * _SUCCESSORS + generation - 1
        return np.asarray(np.where((place == 0) & (generation > 0), later, self._starts[account] + place))


class People:
    """Who is champion and which CSM looks after each account, month by month."""

    def __init__(self, traits: Traits, seed: int, managers: Ints) -> None:
        random, accounts = generator(seed, 0, "people"), len(traits.users)
        self._traits, self._seed = traits, seed
        self.has_champion = random.random(accounts) < 0.85
        self.has_sponsor = random.random(accounts) < _SPONSORED[traits.segment]
        self.is_outside = random.random(accounts) < _OUTSIDE[traits.segment]
        self.generation = np.zeros(accounts, dtype=np.int64)
        self.lost_at = np.full(accounts, np.nan)
        self.arrives_at = np.where(self.has_champion, -np.inf, np.inf)
        self.manager, self._teams = managers, int(managers.max()) + 1
        self._losses: list[Columns] = []
        self._handovers: list[Columns] = []

    def advance(self, month: int, first: float, last: float, customer: Flags) -> Flags:
        """Play who leaves in a month; returns on which of its days the champion's place is empty."""
        random = generator(self._seed, month, "people")
        wait, vacancy, handover, team = random.random((4, len(customer)))
        day, before = np.arange(first, last), self.arrives_at
        earliest = np.maximum(first, np.ceil(before))
        leaves_on = earliest + np.floor(-np.log1p(-wait) / CHAMPION_RATE)
        leaves = customer & (leaves_on < last) & (self.generation < _SUCCESSORS)
        arrives = np.where(leaves, np.ceil(leaves_on + _VACANCY[0] + (_VACANCY[1] - _VACANCY[0]) * vacancy), before)
        gone = leaves[:, None] & (day > leaves_on[:, None])
        empty = gone | (self.has_champion[:, None] & (day < before[:, None]))
        who = np.flatnonzero(leaves)
        loss = {"account": who, "generation": self.generation[who], "left": leaves_on[who], "arrives": arrives[who]}
        self._losses.append(loss)
        self.lost_at = np.where(leaves, leaves_on, self.lost_at)
        self.arrives_at, self.generation = arrives, self.generation + leaves
        self._hand_over(np.flatnonzero(customer & (handover < _CSM_CHANGE)), first, team)
        return np.asarray(empty)

    def _hand_over(self, who: Ints, first: float, team: Floats) -> None:
        manager = self.manager.copy()
        manager[who] = (manager[who] + 1 + np.floor(team[who] * (self._teams - 1)).astype(np.int64)) % self._teams
        self.manager = manager
        self._handovers.append({"account": who, "manager": manager[who], "from_at": np.full(len(who), first + 9 / 24)})

    def contact_columns(self, roster: Roster, first_start: Floats, loads: Loads) -> Columns:
        """The contacts: users, sponsors and deciders, a version more for each champion who left."""
        traits, losses = self._traits, joined(self._losses)
        account = np.repeat(np.arange(len(traits.users)), traits.users)
        place = np.arange(len(account)) - np.repeat(np.cumsum(traits.users) - traits.users, traits.users)
        joins = np.maximum(first_start[account] + 2.0 * place, first_start[account])
        here = _versions(account, joins, is_champion=(place == 0) & self.has_champion[account])
        here["is_decision_maker"] = (place == 1) & ~self.is_outside[account]
        here["person"] = roster.index(account, place, np.zeros_like(account))
        who, generation = losses["account"].astype(np.int64), losses["generation"].astype(np.int64)
        champion, first_place = np.ones(len(who), dtype=bool), np.zeros_like(who)
        left = losses["left"].astype(np.float64) + 0.8
        gone: Columns = _versions(who, left, is_champion=champion) | {"left_at": left}
        gone["person"] = roster.index(who, first_place, generation)
        new = _versions(who, losses["arrives"].astype(np.float64), is_champion=champion)
        new["person"] = roster.index(who, first_place, generation + 1)
        rows = joined([here, gone, new, *self._outsiders(first_start)])
        at = rows["event_at"].astype(np.float64)
        # That somebody left is learnt within days, when a call finds the place empty.
        notice = 1 + 6 * lots(loads.seed, "notice", rows["account"], rows["person"])
        slow = np.where(np.isnan(rows["left_at"].astype(np.float64)), 0.0, notice)
        return rows | {"known_at": loads.nightly("contacts", rows["account"], at + slow)}

    def _outsiders(self, first_start: Floats) -> list[Columns]:
        """Sponsors and deciders who do not use the product."""
        sponsors, deciders = np.flatnonzero(self.has_sponsor), np.flatnonzero(self.is_outside)
        sponsor = _versions(sponsors, first_start[sponsors])
        sponsor |= {"person": np.full(len(sponsors), -1), "is_sponsor": np.ones(len(sponsors), dtype=bool)}
        decider = _versions(deciders, first_start[deciders])
        decider |= {"person": np.full(len(deciders), -2), "is_decision_maker": np.ones(len(deciders), dtype=bool)}
        return [sponsor, decider]

    def assignment_columns(self, managers: Ints, first_start: Floats, loads: Loads) -> Columns:
        """Who looked after each account, from when to when; `managers` are the first ones."""
        first: Columns = {"account": np.arange(len(managers)), "manager": managers, "from_at": first_start}
        rows = joined([first, *self._handovers])
        order = np.lexsort((rows["from_at"], rows["account"]))
        rows = {name: column[order] for name, column in rows.items()}
        follows = np.append(rows["account"][1:] == rows["account"][:-1], False)
        next_ = np.append(rows["from_at"][1:], np.nan)
        known = loads.nightly("assignments", rows["account"], rows["from_at"].astype(np.float64))
        return rows | {"to_at": np.where(follows, next_, np.nan), "known_at": known}


def _versions(account: Ints, at: Floats, *, is_champion: Flags | None = None) -> Columns:
    """Rows of people without a role yet, known to be there from `at`."""
    nobody = np.zeros(len(account), dtype=bool)
    champion = nobody if is_champion is None else is_champion
    columns: Columns = {"account": account, "event_at": at, "is_champion": champion, "is_sponsor": nobody}
    return columns | {"is_decision_maker": nobody, "left_at": np.full(len(account), np.nan), "person": nobody}


def contact_table(columns: Columns, names: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The ids and the roles of contact rows."""
    person, account = columns["person"].astype(np.int64), columns["account"].tolist()
    outside = [
        f"acc-{number:05d}-c{-place}" if place < 0 else None
        for number, place in zip(account, person.tolist(), strict=True)
    ]
    inside = names.take(pa.array(np.maximum(person, 0)))
    ids = pa.array([away or name for away, name in zip(outside, inside.to_pylist(), strict=True)], pa.string())
    role = np.where(person == -1, "executive", np.where(person == -2, "finance", "user"))
    return ids, pa.array(np.where(columns["is_champion"].astype(bool), "admin", role))
