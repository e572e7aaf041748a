"""The night's work: read and check the sources, copy what is overwritten, score, publish; one lock and a history."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import insert, select, update

from features.errors import DependencyDown, TenureError
from features.history import snapshot
from features.settings import Settings
from features.tables import Tables
from features.timeline import timeline
from serving.champion import NoChampion, load_champion
from serving.day_one import day_one_list
from serving.ledger import Ledger, open_ledger
from serving.ledger.tables import runs
from serving.list_parts import Made, RiskList, Rules
from serving.publication import list_before, one_at_a_time, publish
from serving.retention.playbooks import read_playbooks
from serving.risklist import risk_list
from serving.scoring import features_at, people_at, staleness

Clock = Callable[[], datetime]
"""Gives the time, in UTC and without a zone, as the ledger keeps it."""


def score_and_publish(tables: Tables, settings: Settings, *, as_of: datetime) -> RiskList:
    """Publish the list of `as_of`; all of it or nothing."""
    if stale := staleness(tables, settings, as_of):
        raise stale
    with one_at_a_time(settings):
        return _published(tables, settings, as_of)


def make_list(tables: Tables, settings: Settings, as_of: datetime) -> tuple[Made, pd.DataFrame]:
    """The list of `as_of` by the champion, by rules before the first one, what happened, and the features behind it."""
    made, features = _ranked(tables, settings, as_of)
    return replace(made, timeline=timeline(tables, as_of)), features


def _ranked(tables: Tables, settings: Settings, as_of: datetime) -> tuple[Made, pd.DataFrame]:
    features, people = features_at(tables, settings, as_of), people_at(tables, settings, as_of)
    try:
        champion = load_champion(settings)
    except NoChampion:
        horizon = settings.label.horizon_days
        return day_one_list(features, people, rules(settings), as_of=as_of, horizon_days=horizon), features
    before = list_before(settings, as_of)
    return risk_list(champion, features, people, rules(settings), as_of=as_of, before=before), features


def rules(settings: Settings) -> Rules:
    """What a company's lists follow."""
    return Rules(
        plays=read_playbooks(),
        policy=settings.policy,
        lead_days=settings.label.lead_days,
        threads=settings.engine.cores,
    )


def _published(tables: Tables, settings: Settings, as_of: datetime) -> RiskList:
    made, features = make_list(tables, settings, as_of)
    publish(made, features, settings)
    return made.risk_list


@dataclass(frozen=True, kw_only=True)
class Night:
    """What one run did, step by step."""

    run_id: str
    as_of: str
    counts: dict[str, Any]
    steps: tuple[dict[str, Any], ...]
    """Name and seconds of each step."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"run_id": self.run_id, "as_of": self.as_of, "counts": self.counts, "steps": list(self.steps)}

    def text(self) -> str:
        """For a person, and the scheduler's log."""
        took = ", ".join(f"{step['step']} {step['seconds']:.1f} s" for step in self.steps)
        count = self.counts
        return (
            f"The list of {self.as_of} is published: {count['scored']} scored, {count['listed']} listed, "
            f"{count['leaving']} leaving, {count['excluded']} excluded.\n{took}"
        )


def run_night(open_company: Callable[[], Tables], settings: Settings, *, as_of: datetime, clock: Clock) -> Night:
    """The whole night under one lock; how it ended is in the history, also where it failed.

    Parameters
    ----------
    open_company : reads and checks the sources; its failures are the run's
    """
    with one_at_a_time(settings):
        ledger, run_id = open_ledger(settings), secrets.token_hex(8)
        _begun(ledger, run_id, as_of, clock())
        steps: list[dict[str, Any]] = []
        try:
            counts = _worked(open_company, settings, as_of, clock, steps)
        except Exception as error:
            code = error.exit_code if isinstance(error, TenureError) else 1
            _ended(ledger, run_id, clock(), exit_code=code, said=str(error) or type(error).__name__, steps=steps)
            raise
        _ended(ledger, run_id, clock(), exit_code=0, said="published", steps=steps, counts=counts)
    return Night(run_id=run_id, as_of=f"{as_of:%Y-%m-%d}", counts=counts, steps=tuple(steps))


def _worked(
    open_company: Callable[[], Tables], settings: Settings, as_of: datetime, clock: Clock, steps: list[dict[str, Any]]
) -> dict[str, Any]:
    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = clock()
        found = work()
        steps.append({"step": name, "seconds": (clock() - start).total_seconds()})
        return found

    tables: Tables = timed("read and check", open_company)
    grades = {name: loaded.grade for name, loaded in tables.loaded.items()}
    timed("snapshot", lambda: snapshot(tables.backend, settings, grades, now=clock()))
    if stale := staleness(tables, settings, as_of):
        raise stale
    made: RiskList = timed("score and publish", lambda: _published(tables, settings, as_of))
    return dict(made["counts"])


def _begun(ledger: Ledger, run_id: str, as_of: datetime, now: datetime) -> None:
    row = {"run_id": run_id, "command": "run", "as_of": f"{as_of:%Y-%m-%d}", "started_at": now}
    with ledger.writing() as connection:
        connection.execute(insert(runs), row)


def _ended(ledger: Ledger, run_id: str, now: datetime, *, exit_code: int, said: str, **facts: Any) -> None:
    values = {"ended_at": now, "exit_code": exit_code, "said": said, "facts": facts}
    with ledger.writing() as connection:
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(values))


def history(settings: Settings, *, last: int) -> list[dict[str, Any]]:
    """The newest runs first: when each began and ended, its code and what it said."""
    with open_ledger(settings).reading() as connection:
        found = connection.execute(select(runs).order_by(runs.c.started_at.desc()).limit(last)).mappings().all()
    return [_shown(dict(row)) for row in found]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    told = {name: row[name] for name in ("run_id", "as_of", "exit_code", "said")}
    for name in ("started_at", "ended_at"):
        told[name] = None if row[name] is None else f"{row[name]:%Y-%m-%d %H:%M:%S}"
    if row["ended_at"] is None:
        told["said"] = "did not end: it is still at work, or was killed"
    return told


class NotRun(DependencyDown):
    """A nightly run that should have been there is not."""


def require_recent(rows: Sequence[dict[str, Any]], *, within: timedelta, now: datetime) -> None:
    """Refuse where no run ended well within so long.

    Raises
    ------
    NotRun
        Says when the last good one was, and what the last one said.
    """
    good = [row for row in rows if row["exit_code"] == 0]
    if good and now - datetime.fromisoformat(good[0]["ended_at"]) <= within:
        return
    last = f"the last good one ended {good[0]['ended_at']} UTC" if good else "no run ever ended well"
    said = f"; the newest said: {rows[0]['said']}" if rows else ""
    raise NotRun(
        f"A run must have ended well within {within.total_seconds() / 3600:g} hours; {last}{said}. "
        "Run `tenure run`, and look at the scheduler."
    )
