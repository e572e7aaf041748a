"""Published lists without an account that was erased.

Ranks and figures of the others stay as published, and `counts.erased` says how many accounts are missing. A list names
the one that it was compared with, so every later list gets a new name too. Runs are written first, all of them, then
the ledger, then the pointers; old runs go last, the latest first: what is broken off is made whole by doing it again.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from features.erased_state import Erased
from features.errors import CannotWrite
from features.settings import Settings
from serving.ledger import open_ledger
from serving.ledger.lists import keep_list
from serving.ledger.tables import account_reasons, account_scores, risk_lists, runs
from serving.publication import list_bytes, point_to, write_run
from serving.published import CURRENT, read_list, verified
from serving.timeline import TIMELINE, timeline_bytes

LISTS = "lists"
_PARTS = ("rows", "leaving", "excluded")
_TABLES = ("features.parquet", "contributions.parquet", TIMELINE)


@dataclass
class _Renewal:
    """Which run takes the place of which."""

    runs: dict[tuple[str, str], str] = field(default_factory=dict)
    """Day and name of a run → the name of the one that takes its place; its own where nothing changed."""
    rows: int = 0

    def followed(self, named: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The list that another one was compared with, by its name of now."""
        if named is None:
            return None
        own = named["list_id"]
        return {**named, "list_id": self.runs.get((named["as_of"], own), own)}


def is_listed(settings: Settings, account: str) -> bool:
    """Whether a published list, or the ledger, knows an account."""
    with open_ledger(settings).reading() as connection:
        known = select(account_scores.c.as_of).where(account_scores.c.account_id == account).limit(1)
        if connection.execute(known).first() is not None:
            return True
    return any(account in _accounts(json.loads((run / "list.json").read_bytes())) for run in _runs(settings))


def erase_from_lists(settings: Settings, erased: Erased) -> int:
    """Renew every list that holds the account or follows one that does; return how many of its rows there were."""
    renewal = _Renewal()
    for run in _runs(settings):
        contents = _contents(run, erased, renewal)
        day = run.parent.name
        renewal.runs[day, run.name] = run.name if contents is None else write_run(run.parent, contents)
    _renew_ledger(settings, renewal, erased)
    places = {day: settings.state_dir / LISTS / day for day, _ in renewal.runs}
    for day, place in places.items():
        if (current := _current(place)) is not None and renewal.runs.get((day, current), current) != current:
            point_to(place, renewal.runs[day, current])
    for (day, old), new in sorted(renewal.runs.items(), reverse=True):
        if new != old:
            _remove(places[day] / old)
    for place in places.values():
        for left_behind in place.glob(".*"):
            _remove(left_behind)
    open_ledger(settings).forget()
    return renewal.rows


def _runs(settings: Settings) -> list[Path]:
    """Every run of every day, earliest day first."""
    return sorted(path.parent for path in (settings.state_dir / LISTS).glob("*/[!.]*/list.json"))


def _current(place: Path) -> str | None:
    path = place / CURRENT
    return path.read_text(errors="replace").strip() if path.is_file() else None


def _contents(run: Path, erased: Erased, renewal: _Renewal) -> dict[str, bytes] | None:
    """The files of the run that takes the place of `run`; None where it can stay."""
    published = read_list(run)
    found = without_account(published, erased)
    before = renewal.followed(published["before"])
    if found == published and before == published["before"]:
        return None
    renewal.rows += sum(row["account_id"] == erased.id for part in _PARTS for row in published[part])
    tables = {name: _table(run, name, erased) for name in _TABLES if (run / name).exists()}
    return {"list.json": list_bytes({**found, "before": before}), **tables}


def without_account(published: Mapping[str, Any], erased: Erased) -> dict[str, Any]:
    """A list without the rows of an account, which another may still name as its parent, by its other name."""
    kept: dict[str, Any] = {
        part: [_renamed(row, erased) for row in published[part] if row["account_id"] != erased.id]
        for part in (*_PARTS, "left")
    }
    if erased.id not in _accounts(published):
        return {**published, **kept}
    lost = {part: len(published[part]) - len(kept[part]) for part in _PARTS}
    listed = sum(row["is_listed"] for row in published["rows"]) - sum(row["is_listed"] for row in kept["rows"])
    counts = dict(published["counts"])
    gone = {"accounts": sum(lost.values()), "scored": lost["rows"], "listed": listed, "leaving": lost["leaving"],
            "excluded": lost["excluded"]}  # fmt: skip
    counts |= {name: counts[name] - number for name, number in gone.items()}
    return {**published, **kept, "counts": {**counts, "erased": counts.get("erased", 0) + 1}}


def _accounts(published: Mapping[str, Any]) -> set[str]:
    return {row["account_id"] for part in (*_PARTS, "left") for row in published[part]}


def _renamed(row: Mapping[str, Any], erased: Erased) -> dict[str, Any]:
    return {**row, "parent_id": erased.pseudonym} if row.get("parent_id") == erased.id else dict(row)


def _table(run: Path, name: str, erased: Erased) -> bytes:
    content = verified(run, name)
    rows = pq.read_table(io.BytesIO(content))
    kept = rows.filter(pc.not_equal(rows["account_id"], erased.id))
    if kept.num_rows == rows.num_rows:
        return content
    if name == TIMELINE:
        return timeline_bytes(kept)
    sink = io.BytesIO()
    pq.write_table(kept, sink)
    return sink.getvalue()


def _renew_ledger(settings: Settings, renewal: _Renewal, erased: Erased) -> None:
    """One transaction: lists as their files now are, and nothing of the account in what has no file any more."""
    with open_ledger(settings).writing() as connection:
        kept = connection.execute(select(risk_lists.c.as_of, risk_lists.c.list_id)).all()
        for day, run in kept:
            renewed = renewal.runs.get((day, run), run)
            if renewed != run:
                keep_list(connection, read_list(settings.state_dir / LISTS / day / renewed), list_id=renewed)
        for table in (account_reasons, account_scores):
            connection.execute(delete(table).where(table.c.account_id == erased.id))
        scores = account_scores.c
        connection.execute(
            update(account_scores).where(scores.parent_id == erased.id).values(parent_id=erased.pseudonym)
        )
        _rename_in_history(connection, erased)


def _rename_in_history(connection: Connection, erased: Erased) -> None:
    """What a run said may quote a row."""
    found = connection.execute(select(runs.c.run_id, runs.c.said).where(runs.c.said.contains(erased.id))).all()
    for run_id, said in found:
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(said=erased.renamed(said)))


def remove_older_ledgers(settings: Settings) -> int:
    """Remove what was kept of the ledger before it was brought up to date, and return how many files it was."""
    older = open_ledger(settings).copies()
    for path in older:
        _remove(path)
    return len(older)


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise CannotWrite(
            f"{path} must be removed, for it holds an erased row; {error.strerror}. Erase again."
        ) from error
