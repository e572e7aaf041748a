"""The contracts of a generated company: signed, renewed, changed, given notice of, left and signed again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from features.world import state
from features.world.rows import Columns
from features.world.state import CLOSED_SHARE, CUT_DAYS, INVOLUNTARY, Flags, Floats, Ints, Terms, Traits

_WITHDRAWN, _WON_BACK = 0.1, 0.12
_UNTOLD = 0.25
"""Share of voluntary ends whose reason nobody wrote down."""

_WRITTEN = "number signed_at cancelled_at ended_at notice_days auto_renew term_months seats plan"


@dataclass(frozen=True)
class Bills:
    """The bills of a month, one entry per account."""

    issued: Flags
    day: Floats
    amount: Floats
    """The MRR at the end of the month."""


class Book:
    """The contracts of all accounts; a change writes a new version, and no version is rewritten."""

    def __init__(self, traits: Traits, seed: int, start: date) -> None:
        random, accounts = state.generator(seed, 0, "contracts"), len(traits.users)
        self._joins, self._seed, self._start = traits.joins, seed, start
        monthly = random.random(accounts) < np.array([0.4, 0.15, 0.0])[traits.segment]
        self.term_months = np.where(monthly, 1, np.where(random.random(accounts) < 0.12, 24, 12))
        self.auto_renew = monthly | (random.random(accounts) < 0.8)
        long, short = random.choice((30, 60, 90), accounts), random.choice((0, 7, 15), accounts)
        self.notice_days, self._dom = np.where(monthly, short, long), random.integers(2, 29, accounts)
        running = np.where(self.auto_renew, traits.joins, -1 - (-1 - traits.joins) % self.term_months)
        self._start_month = np.where(traits.joins < 0, running, traits.joins)
        self.seats = np.ceil(traits.users * random.uniform(1.0, 1.5, accounts)).astype(np.int64)
        self.plan = np.minimum(traits.segment + random.integers(0, 2, accounts), 3)
        self._price = np.round(random.uniform(18, 30, accounts) * (1 + 0.35 * self.plan))
        self.number, self._reason = np.zeros(accounts, dtype=np.int64), np.full(accounts, -1)
        self.signed_at, self.cancelled_at, self.ended_at, self.first_start = np.full((4, accounts), np.nan)
        self._leaves, self._withdraws, self._returns, self._cut_at = np.full((4, accounts), np.nan)
        self._end_month, self._last_known = self._start_month.copy(), np.full(accounts, -np.inf)
        self.versions: list[Columns] = []
        self.decisions: list[Columns] = []
        self.unpaid: list[Columns] = []
        self._sign(traits.joins < 0, self._last_known, random.random((2, accounts)))
        # A term that ended in silence before the world starts was renewed.
        self._end_month += self.term_months * np.maximum(0, -(self._end_month // self.term_months))

    def _day(self, months: Ints) -> Floats:
        return state.month_starts(self._start, months) + self._dom - 1

    def terms(self) -> Terms:
        """When each contract can be left."""
        ends = self._day(self._end_month), self._day(self._end_month + self.term_months)
        return Terms(*ends, self.term_months == 1, self.auto_renew, self.notice_days)

    def leaving(self) -> Flags:
        """Accounts in notice."""
        return np.asarray(np.isnan(self.ended_at) & ~np.isnan(self.cancelled_at))

    def at_risk(self) -> Flags:
        """Accounts with a contract and without notice."""
        return np.asarray((self.number > 0) & np.isnan(self.ended_at) & np.isnan(self.cancelled_at))

    def presence(self, first: float, last: float) -> Flags:
        """On which days, whole ones only, an account holds its present contract."""
        day, started = np.arange(first, last), self._day(self._start_month)[:, None]
        return np.asarray((self.number[:, None] > 0) & (day >= started) & ~(day + 1 > self.ended_at[:, None]))

    def owes(self) -> Flags:
        """Accounts that stopped paying and are to be cut off."""
        return np.asarray(self.at_risk() & ~np.isnan(self._cut_at))

    def bills(self, first: float, last: float) -> Bills:
        """The bills of the days from `first` to before `last`."""
        day = first + self._dom - 1
        held = (self.number > 0) & (day >= self._day(self._start_month)) & ~(day + 1 > self.ended_at)
        return Bills(np.asarray(held & (day < last)), np.asarray(day), np.asarray(self.seats * self._price))

    def play(self, month: int, day: Ints, cause: Ints, wish: Floats) -> Flags:
        """Write what happens to running contracts; returns whose notice was withdrawn.

        `day` is the day of the month of a decision (-1: none), `wish` the resolve to leave.
        """
        lots = state.generator(self._seed, month, "contracts").random((11, len(day)))
        first, last = state.month_starts(self._start, [month, month + 1])
        day, cut = self._stop_paying(day, cause == INVOLUNTARY, (first, last), lots)
        cause = np.where(cut, INVOLUNTARY, cause)
        decides, end = day >= 0, self._day(self._end_month)
        involuntary = decides & (cause == INVOLUNTARY)
        renews = self.at_risk() & (end < last) & ~(decides & (first + day < end))
        self._change_seats(self.at_risk() & ~decides & (self.auto_renew | ~renews), wish, first, lots)
        self._end_month[renews] += self.term_months[renews]
        self._write(renews & ~self.auto_renew, end - 0.5)
        lapses = decides & ~involuntary & ~self.auto_renew & (first + day == end - 1)
        when = np.where(lapses, end, first + day + (8 + 9 * lots[3]) / 24)
        np.copyto(self._reason, _told(cause, involuntary, cut, lots[4]), where=decides)
        sudden = involuntary | lapses
        self._give_notice(decides & ~sudden, when, lots[5:8])
        saved = self._take_back(last)
        quick = involuntary & (lots[8] < state.QUICK_RETURN)
        who = np.flatnonzero(decides & ~quick)
        self.decisions.append({"account": who, "decided_at": when[who], "cause": cause[who]})
        leaves = self.leaving() & (self._leaves < last)
        won_back = ~involuntary & (lots[8] < _WON_BACK)
        gap = np.where(quick, 5 + 9 * lots[9], np.where(won_back, 64 + 120 * lots[9], np.nan))
        self._end(sudden | leaves, np.where(leaves, self._leaves, when), gap, lots[0])
        return saved

    def _stop_paying(self, day: Ints, struck: Flags, span: tuple[float, float], lots: Floats) -> tuple[Ints, Flags]:
        """Start arrears and let those of earlier months end: the days of decisions so changed, and who is cut off."""
        first, last = span
        cut = self.at_risk() & ~((day >= 0) & ~struck) & (self._cut_at < last)
        stops = self.at_risk() & (day >= 0) & struck & (lots[4] >= CLOSED_SHARE)
        since = first + day + 0.5
        day = np.where(stops, -1, day)
        day = np.where(cut, np.maximum(np.floor(self._cut_at - first), 0), day)
        who = np.flatnonzero(stops & np.isnan(self._cut_at))
        self._cut_at[who] = since[who] + CUT_DAYS[0] + (CUT_DAYS[1] - CUT_DAYS[0]) * lots[10, who]
        self.unpaid.append({"account": who, "since": since[who], "until": self._cut_at[who]})
        return day.astype(np.int64), np.asarray(cut)

    def _take_back(self, last: float) -> Flags:
        """Withdraw the notices that are taken back before `last`."""
        saved: Flags = self.leaving() & (self._withdraws < last)
        self.cancelled_at[saved] = np.nan
        self._write(saved, self._withdraws + 0.1)
        return saved

    def _end(self, who: Flags, when: Floats, gap: Floats, lot: Floats) -> None:
        self._cut_at[who] = np.nan
        self.ended_at = np.where(who, when, self.ended_at)
        self._returns = np.where(who, when + gap, self._returns)
        self._write(who, when + 0.05 + lot)

    def _change_seats(self, who: Flags, wish: Floats, first: float, lots: Floats) -> None:
        cut = np.minimum(0.012 * np.exp(1.1 * wish[:, 2]), 0.15)
        grown = 0.02 * np.exp(-0.4 * wish[:, 2] - 0.3 * wish[:, 0])
        factor = np.where(lots[0] < cut, 0.9 - 0.25 * lots[1], 1 + (lots[0] > 1 - grown) * (0.05 + 0.25 * lots[1]))
        before = self.seats
        self.seats = np.where(who, np.maximum(1, np.round(before * factor)), before).astype(np.int64)
        self._write(self.seats != before, first + 3 + 20 * lots[2])

    def _give_notice(self, who: Flags, when: Floats, lots: Floats) -> None:
        self.cancelled_at = np.where(who, when, self.cancelled_at)
        for _ in range(2):  # a monthly plan ends with the first month that leaves room for the notice
            short = self._day(self._end_month) < np.ceil(when) + self.notice_days
            self._end_month[who & (self.term_months == 1) & short] += 1
        self._leaves = np.where(who, self._day(self._end_month), self._leaves)
        back = when + 5 + 20 * lots[1]
        # In the last month the end is being prepared: no notice is taken back.
        saved = (lots[0] < _WITHDRAWN) & (back < self._leaves - 31)
        self._withdraws = np.where(who, np.where(saved, back, np.nan), self._withdraws)
        self._write(who, when + 0.05 + 2 * lots[2] ** 2)

    def open(self, month: int) -> None:
        """Sign the contracts that start in the month: new accounts and returning ones."""
        first, last = state.month_starts(self._start, [month, month + 1])
        back = (self._returns >= first) & (self._returns < last)
        self._dom[back] = np.clip(self._returns[back] - first + 1, 2, 28)
        who = back | (self._joins == month)
        self._start_month[who] = month
        lots = state.generator(self._seed, month, "signing").random((2, len(who)))
        self._sign(who, np.fmax(first, self.ended_at), lots)

    def _sign(self, who: Flags, earliest: Floats, lots: Floats) -> None:
        start = self._day(self._start_month)
        signed = np.maximum(start - 1 - 29 * lots[0], earliest)
        self.signed_at = np.where(who, signed, self.signed_at)
        self.number[who] += 1
        self._end_month[who] = (self._start_month + self.term_months)[who]
        for column in (self.cancelled_at, self._leaves, self._withdraws, self.ended_at, self._returns):
            column[who] = np.nan
        self.first_start = np.where(who & np.isnan(self.first_start), start, self.first_start)
        self._write(who, signed + 0.1 + 0.8 * lots[1])

    def _write(self, who: Flags, known_at: Floats) -> None:
        """Add the present version of some contracts; it becomes known after the one before."""
        known = np.maximum(known_at, self._last_known + 1 / 1440)
        self._last_known = np.where(who, known, self._last_known)
        columns: Columns = {name: getattr(self, name) for name in _WRITTEN.split()}
        columns |= {"account": np.arange(len(who)), "known_at": known, "mrr": self.seats * self._price}
        columns |= {"start_at": self._day(self._start_month), "term_end_at": self._day(self._end_month)}
        columns["end_reason"] = np.where(np.isnan(self.ended_at), -1, self._reason)
        self.versions.append({name: column[who] for name, column in columns.items()})


def _told(cause: Ints, involuntary: Flags, cut: Flags, lot: Floats) -> Ints:
    """The reason written down for each end, by number; -1 where nobody wrote one."""
    return np.where(involuntary, INVOLUNTARY + ~cut, np.where(lot < _UNTOLD, -1, cause))
