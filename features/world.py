"""A seeded company that sells software to other companies, with known truth.

`World` plays it month by month: plays change what follows, and the same seed without them is the counterfactual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features import world_rows as rows
from features import world_state as state
from features.world_rows import Columns, Month
from features.world_state import CAUSES, INVOLUNTARY, PLAYS, Effect, Flags, Floats, Ints, Terms, Traits

_WITHDRAWN, _WON_BACK = 0.1, 0.12
_SETTINGS = """# A generated company; `truth/` is sealed: no part of tenure reads it.
[label]
horizon_days = 90
grace_days = 30
lead_days = 30

"""
_CAUSES = pa.array([*CAUSES, None])
_UNTOLD = 0.25
"""Share of voluntary ends whose reason nobody wrote down."""

_WRITTEN = "number signed_at cancelled_at ended_at notice_days auto_renew term_months seats plan"


class World:
    """A company with `accounts` accounts, three in ten of which join in the first two years.

    It starts on the first of a month; `churn_rate` is about the share of accounts that decide to leave in a year.
    A play works on its own cause of churn (`by_cause`), or on anyone who still uses the product (`by_engagement`).
    """

    def __init__(
        self,
        accounts: int = 2000,
        *,
        seed: int = 7,
        start: date = date(2024, 1, 1),
        churn_rate: float = 0.14,
        effect: Effect = "by_cause",
    ) -> None:
        if accounts < 1 or start.day != 1 or not 0 < churn_rate < 1 or effect not in ("by_cause", "by_engagement"):
            raise ValueError(
                "A world must have accounts, start on the first of a month, a churn_rate in (0, 1) and a known "
                f"effect; found {accounts}, {start}, {churn_rate}, {effect!r}."
            )
        self._start, self._seed, self._churn_rate, self._effect = start, seed, churn_rate, effect
        self._traits = state.draw_traits(accounts, seed)
        self._mood = state.first_mood(self._traits, seed)
        self._book = _Book(self._traits, seed, start)
        self._months: list[tuple[Columns, Columns, Columns]] = []
        self._snapshots = [self._snapshot(0)]

    def advance(self, month: int, actions: pa.Table | pd.DataFrame | None = None) -> None:
        """Play one month (0, 1, 2, …) with the plays opened in it: account_id, play, opened_at.

        A play works from the first midnight not before `opened_at`; one without a known effect changes nothing.

        Raises
        ------
        ValueError
            `month` is not the next one; an action names no account or lies outside the month.
        """
        if month != len(self._months):
            raise ValueError(f"month must be {len(self._months)}, the next one; found {month}. Play all in order.")
        first, last = state.month_starts(self._start, [month, month + 1])
        plays = state.play_relief(self._effect, self._traits, self._mood)
        extra = state.relief_by_day(actions, plays, self._start, (first, last))
        before, traits, book = self._mood, self._traits, self._book
        after = state.next_mood(before, traits, state.generator(self._seed, month, "mood"))
        leaving, seats = book.leaving(), book.seats
        factor = state.timing(book.terms(), np.arange(first, last))
        hazard = state.daily_hazard(traits, before, factor, extra, self._churn_rate)
        day, cause = state.first_decisions(hazard, state.generator(self._seed, month, "decisions"))
        saved = book.play(month, np.where(book.at_risk(), day, -1), cause, before.resolve - before.relief)
        present = book.presence(first, last)
        book.open(month)
        present |= book.presence(first, last)
        seen = Month(month, first, before, after, present, leaving, seats, first - book.first_start, extra)
        usage = rows.usage_rows(traits, seen, self._seed, self._start)
        tickets, surveys = (draw(traits, seen, self._seed) for draw in (rows.ticket_rows, rows.survey_rows))
        self._months.append((usage, tickets, surveys))
        self._mood = replace(after, relief=after.relief + state.PERSISTENCE * extra[:, -1] + saved[:, None])
        self._snapshots.append(self._snapshot(month + 1))

    def tables(self) -> dict[str, pa.Table]:
        """What the company would export at the end of the last month played; times are naive UTC microseconds."""
        if not self._months:
            raise ValueError("A world must have played a month before it exports; found none. Call advance(0).")
        end = float(state.month_starts(self._start, len(self._months)))
        known = np.flatnonzero(self._book.number > 0)
        accounts = pa.table(rows.account_columns(self._traits, self._seed)).take(pa.array(known))
        started = rows.instants(self._book.first_start[known], self._start)
        usage, tickets, surveys = (rows.joined(months) for months in zip(*self._months, strict=True))
        return {
            "accounts": accounts.append_column("started_at", started),
            "contracts": rows.contract_table(rows.joined(self._book.versions), self._traits, self._start, end),
            "usage": rows.usage_table(usage, self._traits, self._start),
            "tickets": rows.ticket_table(tickets, self._traits, self._start, end),
            "surveys": rows.survey_table(surveys, self._traits, self._start, end),
        }

    def truth(self) -> dict[str, pa.Table]:
        """What no company knows: `probability`, `effects` and `decisions`.

        `probability` and `effects` have a row for each account with a contract and no notice at each first of a
        month, the last one included; `effects` is the change of the probability if the play is opened there.
        """
        probability, effects = zip(*(self._risk(snapshot) for snapshot in self._snapshots), strict=True)
        decisions = rows.joined(self._book.decisions)
        decided = rows.exported(decisions, len(self._traits.users), self._start).drop_columns("cause")
        return {
            "probability": pa.concat_tables(probability),
            "effects": pa.concat_tables(effects),
            "decisions": decided.append_column("cause", _CAUSES.take(pa.array(decisions["cause"]))),
        }

    def _risk(self, snapshot: state.Snapshot) -> tuple[pa.Table, pa.Table]:
        traits, who = self._traits, snapshot.at_risk
        plays = state.play_relief(self._effect, traits, snapshot.mood)
        risk = state.true_risk(snapshot, traits, plays, seed=self._seed, churn_rate=self._churn_rate)
        cause = _CAUSES.take(pa.array(state.main_cause(snapshot, traits, self._churn_rate)))
        ids = pa.array(state.account_ids(len(traits.users))).take(pa.array(who))
        as_of = rows.instants(np.full(len(who), snapshot.first_day), self._start)
        base = pa.table({"account_id": ids, "as_of": as_of})
        effects = pa.concat_tables([base] * len(PLAYS)).append_column("play", pa.array(np.repeat(PLAYS, len(who))))
        probability = base.append_column("probability", pa.array(risk[0])).append_column("cause", cause)
        return probability, effects.append_column("effect", pa.array((risk[1:] - risk[0]).ravel()))

    def _snapshot(self, month: int) -> state.Snapshot:
        starts = state.month_starts(self._start, np.arange(month, month + 5))
        lengths = np.diff(np.minimum(starts, starts[0] + state.HORIZON_DAYS)).astype(int).tolist()
        at_risk = np.flatnonzero(self._book.at_risk())
        return state.Snapshot(month, float(starts[0]), lengths, self._mood, self._book.terms(), at_risk)


class _Book:
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
        self._leaves, self._withdraws, self._returns = np.full((3, accounts), np.nan)
        self._end_month, self._last_known = self._start_month.copy(), np.full(accounts, -np.inf)
        self.versions: list[Columns] = []
        self.decisions: list[Columns] = []
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

    def play(self, month: int, day: Ints, cause: Ints, wish: Floats) -> Flags:
        """Write what happens to running contracts; returns whose notice was withdrawn.

        `day` is the day of the month of a decision (-1: none), `wish` the resolve to leave.
        """
        lots = state.generator(self._seed, month, "contracts").random((10, len(day)))
        first, last = state.month_starts(self._start, [month, month + 1])
        decides, end = day >= 0, self._day(self._end_month)
        involuntary = decides & (cause == INVOLUNTARY)
        renews = self.at_risk() & (end < last) & ~(decides & (first + day < end))
        self._change_seats(self.at_risk() & ~decides & (self.auto_renew | ~renews), wish, first, lots)
        self._end_month[renews] += self.term_months[renews]
        self._write(renews & ~self.auto_renew, end - 0.5)
        lapses = decides & ~involuntary & ~self.auto_renew & (first + day == end - 1)
        when = np.where(lapses, end, first + day + (8 + 9 * lots[3]) / 24)
        told = np.where(involuntary, cause + (lots[4] < 0.4), np.where(lots[4] < _UNTOLD, -1, cause))
        np.copyto(self._reason, told, where=decides)
        sudden = involuntary | lapses
        self._give_notice(decides & ~sudden, when, lots[5:8])
        saved: Flags = self.leaving() & (self._withdraws < last)
        self.cancelled_at[saved] = np.nan
        self._write(saved, self._withdraws + 0.1)
        quick = involuntary & (lots[8] < state.QUICK_RETURN)
        who = np.flatnonzero(decides & ~quick)
        self.decisions.append({"account": who, "decided_at": when[who], "cause": cause[who]})
        leaves = self.leaving() & (self._leaves < last)
        won_back = np.where(~involuntary & (lots[8] < _WON_BACK), 64 + 120 * lots[9], np.nan)
        gap = np.where(quick, 5 + 9 * lots[9], won_back)
        self._end(sudden | leaves, np.where(leaves, self._leaves, when), gap, lots[0])
        return saved

    def _end(self, who: Flags, when: Floats, gap: Floats, lot: Floats) -> None:
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


def write_world(
    directory: Path, *, accounts: int, months: int, seed: int, progress: Callable[[str], None] | None = None
) -> None:
    """Write the tables of a company, a `tenure.toml` and the sealed truth; same arguments, same bytes."""
    world = World(accounts, seed=seed)
    for month in range(months):
        world.advance(month)
        if progress is not None:
            progress(f"month {month + 1} of {months}")
    (directory / "truth").mkdir(parents=True, exist_ok=True)
    tables = world.tables()
    for name, table in tables.items():
        pq.write_table(table, directory / f"{name}.parquet")
    for name, table in world.truth().items():
        pq.write_table(table, directory / "truth" / f"{name}.parquet")
    sections = "".join(f'[tables.{name}]\npath = "{name}.parquet"\n\n' for name in tables)
    (directory / "tenure.toml").write_text(_SETTINGS + sections, encoding="utf-8")
