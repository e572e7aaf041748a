"""A seeded company that sells software to other companies, with known truth.

`World` plays it month by month: plays change what follows, and the same seed without them is the counterfactual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from features.world import care, plays, rows, state, success
from features.world.accounts import first_managers
from features.world.billing import invoice_rows
from features.world.contracts import Bills, Book
from features.world.export import Parties, export_tables
from features.world.flaws import with_wrong_rows
from features.world.loads import Loads
from features.world.people import People
from features.world.plays import PLAYS, Effect
from features.world.risk import Snapshot, main_cause, true_risk
from features.world.rows import Columns, Month
from features.world.state import CAUSES, Floats, Market
from features.world.usage import usage_rows

_SETTINGS = """# A generated company; `truth/` is sealed: no part of tenure reads it.
[label]
horizon_days = 90
grace_days = 30
lead_days = 30

"""
_CAUSES = pa.array([*CAUSES, None])


class Knobs(TypedDict, total=False):
    """What can be turned of a world, beside its size."""

    churn_rate: float
    """About the share of accounts that decide to leave in a year."""
    effect: Effect
    """A play works on its own cause of churn (`by_cause`), or on anyone who still uses the product."""
    drift_month: int | None
    """From this month on the product and the reasons to leave are others."""
    late_share: float
    """Share of the rows that reach the warehouse days late."""
    wrong_share: float
    """Rows of each table that break a rule, as a share of the good ones."""


DEFAULTS: Knobs = {
    "churn_rate": 0.14,
    "effect": "by_cause",
    "drift_month": None,
    "late_share": 0.01,
    "wrong_share": 0.0,
}


class World:
    """A company with `accounts` accounts, three in ten of which join in the first two years.

    It starts on the first of a month.
    """

    def __init__(
        self, accounts: int = 2000, *, seed: int = 7, start: date = date(2024, 1, 1), **knobs: Unpack[Knobs]
    ) -> None:
        given: Knobs = {**DEFAULTS, **knobs}
        if unknown := set(knobs) - set(DEFAULTS):
            raise TypeError(f"A world must be given knobs of {sorted(DEFAULTS)}; found {sorted(unknown)}.")
        is_known = given["effect"] in ("by_cause", "by_engagement") and 0 < given["churn_rate"] < 1
        if accounts < 1 or start.day != 1 or not is_known:
            raise ValueError(
                "A world must have accounts, start on the first of a month, a churn_rate in (0, 1) and a known "
                f"effect; found {accounts}, {start}, {given['churn_rate']}, {given['effect']!r}."
            )
        if (
            not 0
            <= min(given["late_share"], given["wrong_share"])
            <= max(given["late_share"], given["wrong_share"])
            < 1
        ):
            raise ValueError(
                f"late_share and wrong_share must be in [0, 1); found {given['late_share']} and {given['wrong_share']}."
            )
        self._start, self._seed, self._effect, self._wrong_share = start, seed, given["effect"], given["wrong_share"]
        self._market, self._loads = Market(given["churn_rate"], given["drift_month"]), Loads(seed, given["late_share"])
        self._traits = state.draw_traits(accounts, seed)
        self._mood = state.first_mood(self._traits, seed)
        self._book = Book(self._traits, seed, start)
        self._people = People(self._traits, seed, first_managers(accounts, seed))
        self._months: list[dict[str, Columns]] = []
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
        relief = plays.play_relief(self._effect, self._traits, self._mood)
        extra = plays.relief_by_day(actions, relief, self._start, (first, last))
        before, traits, book = self._mood, self._traits, self._book
        after = state.next_mood(before, traits, state.generator(self._seed, month, "mood"))
        held, terms, generation = book.at_risk(), book.terms(), self._people.generation
        empty = self._people.advance(month, first, last, held)
        leaving, seats = book.leaving(), book.seats
        saved = book.play(month, *self._decisions(month, (first, last), extra), before.resolve - before.relief)
        lost_at = np.where(held & ~book.at_risk(), np.fmin(book.cancelled_at, book.ended_at), np.nan)
        present = book.presence(first, last)
        book.open(month)
        present |= book.presence(first, last)
        seen = Month(
            month, first, before, after, present, leaving, seats, book.plan, book.first_start, extra, empty,
            generation, self._people.manager, self._market.is_drifted(month),
        )  # fmt: skip
        ends = np.where(held & ~terms.monthly, terms.end_day, np.nan)
        self._months.append(self._rows(seen, success.Deals(ends, lost_at, book.signed_at), book.bills(first, last)))
        self._mood = replace(after, relief=after.relief + state.PERSISTENCE * extra[:, -1] + saved[:, None])
        self._snapshots.append(self._snapshot(month + 1))

    def _decisions(self, month: int, span: tuple[float, float], extra: Floats) -> tuple[state.Ints, state.Ints]:
        """Day of the month on which each account decides (-1: it does not) and the cause."""
        day = np.arange(*span)
        since_loss = day - self._people.lost_at[:, None]
        factor = state.timing(self._book.terms(), day)
        pull = state.Pull(self._market, month, factor, extra, since_loss)
        hazard = state.daily_hazard(self._traits, self._mood, pull)
        on, cause = state.first_decisions(hazard, state.generator(self._seed, month, "decisions"))
        return np.where(self._book.at_risk(), on, -1), cause

    def _rows(self, seen: Month, deals: success.Deals, bills: Bills) -> dict[str, Columns]:
        traits, seed = self._traits, self._seed
        return {
            "usage": usage_rows(traits, seen, seed, self._start),
            "tickets": rows.ticket_rows(traits, seen, seed),
            "surveys": rows.survey_rows(traits, seen, seed),
            "invoices": invoice_rows(traits, seen, bills, seed),
            "touches": care.touch_rows(traits, seen, seed),
            "tasks": care.task_rows(traits, seen, seed),
            "emails": care.email_rows(traits, seen, seed),
            "milestones": success.milestone_rows(traits, seen, seed),
            "entitlements": success.entitlement_rows(traits, seen),
            "incidents": success.incident_rows(seen, seed),
            "opportunities": success.deal_rows(traits, seen, deals, seed),
            "goals": success.goal_rows(traits, seen, seed),
        }

    def tables(self) -> dict[str, pa.Table]:
        """What the company would export at the end of the last month played; times are naive UTC microseconds."""
        return self._export()[0]

    def _export(self) -> tuple[dict[str, pa.Table], pa.Table]:
        """The tables and which of their rows are wrong."""
        if not self._months:
            raise ValueError("A world must have played a month before it exports; found none. Call advance(0).")
        end = float(state.month_starts(self._start, len(self._months)))
        played = {name: rows.joined([month[name] for month in self._months]) for name in self._months[0]}
        parties = Parties(self._traits, self._book, self._people)
        tables = export_tables(played, parties, start=self._start, end=end, loads=self._loads)
        return with_wrong_rows(tables, self._wrong_share, self._seed)

    def truth(self) -> dict[str, pa.Table]:
        """What no company knows: `probability`, `effects`, `decisions`, and `wrong_rows` where there are any.

        `probability` and `effects` have a row for each account with a contract and no notice at each first of a
        month, the last one included; `effects` is the change of the probability if the play is opened there.
        """
        probability, effects = zip(*(self._risk(snapshot) for snapshot in self._snapshots), strict=True)
        decisions = rows.joined(self._book.decisions)
        export = rows.Export(pa.array(state.account_ids(len(self._traits.users))), pa.array([""]), self._start)
        decided = export.table({name: decisions[name] for name in ("account", "decided_at")})
        known = {
            "probability": pa.concat_tables(probability),
            "effects": pa.concat_tables(effects),
            "decisions": decided.append_column("cause", _CAUSES.take(pa.array(decisions["cause"]))),
        }
        return known if self._wrong_share == 0 else known | {"wrong_rows": self._export()[1]}

    def _risk(self, snapshot: Snapshot) -> tuple[pa.Table, pa.Table]:
        traits, who = self._traits, snapshot.at_risk
        relief = plays.play_relief(self._effect, traits, snapshot.mood)
        risk = true_risk(snapshot, traits, relief, seed=self._seed, market=self._market)
        cause = _CAUSES.take(pa.array(main_cause(snapshot, traits, self._market)))
        ids = pa.array(state.account_ids(len(traits.users))).take(pa.array(who))
        as_of = rows.instants(np.full(len(who), snapshot.first_day), self._start)
        base = pa.table({"account_id": ids, "as_of": as_of})
        effects = pa.concat_tables([base] * len(PLAYS)).append_column("play", pa.array(np.repeat(PLAYS, len(who))))
        probability = base.append_column("probability", pa.array(risk[0])).append_column("cause", cause)
        return probability, effects.append_column("effect", pa.array((risk[1:] - risk[0]).ravel()))

    def _snapshot(self, month: int) -> Snapshot:
        starts = state.month_starts(self._start, np.arange(month, month + 5))
        lengths = np.diff(np.minimum(starts, starts[0] + state.HORIZON_DAYS)).astype(int).tolist()
        book, people = self._book, self._people
        at_risk = np.flatnonzero(book.at_risk())
        hidden = book.terms(), at_risk, people.lost_at, people.arrives_at, book.owes()
        return Snapshot(month, float(starts[0]), lengths, self._mood, *hidden)


def write_world(
    directory: Path,
    *,
    accounts: int,
    months: int,
    seed: int,
    progress: Callable[[str], None] | None = None,
    format: Literal["csv", "parquet"] = "parquet",
    **knobs: Unpack[Knobs],
) -> None:
    """Write the tables of a company, a `tenure.toml` and the sealed truth; same arguments, same bytes.

    The truth is Parquet whatever the `format` of the tables.
    """
    world = World(accounts, seed=seed, **knobs)
    for month in range(months):
        world.advance(month)
        if progress is not None:
            progress(f"month {month + 1} of {months}")
    (directory / "truth").mkdir(parents=True, exist_ok=True)
    tables = world.tables()
    for name, table in tables.items():
        write = csv.write_csv if format == "csv" else pq.write_table
        write(table, directory / f"{name}.{format}")
    for name, table in world.truth().items():
        pq.write_table(table, directory / "truth" / f"{name}.parquet")
    sections = "".join(f'[tables.{name}]\npath = "{name}.{format}"\n\n' for name in tables)
    (directory / "tenure.toml").write_text(_SETTINGS + sections, encoding="utf-8")
