"""Published lists in the ledger: every account of a list with its reasons, one list in force per instant.

What is read back is what was published: a row of `list.json` and a row from here are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, and_, delete, func, insert, or_, select
from sqlalchemy.engine import Connection, RowMapping

from serving.ledger.tables import account_reasons, account_scores, risk_lists

_HEAD = (
    "as_of", "before", "model_version", "model_artefact", "horizon_days", "base_rate", "heading", "counts",
)  # fmt: skip
_SCORED = (
    "rank", "is_listed", "account_id", "name", "csm_id", "parent_id", "segment", "probability", "raw_score", "band",
    "part", "mrr", "mrr_at_risk", "days_to_renewal", "days_to_notice_deadline",
)  # fmt: skip
_PLAY = {"play": "play", "name": "play_name", "step": "first_step", "due_date": "due_date", "owner": "play_owner"}
_CHANGE = {name: name for name in ("probability_before", "band_before", "rank_before", "moved_by")} | {"kind": "change"}
_REASON = {
    "group": "reason_group", "feature": "feature", "value": "value", "typical": "typical",
    "percentile": "percentile", "contribution": "contribution", "actionable": "is_actionable", "mixed": "is_mixed",
    "text": "sentence",
}  # fmt: skip
_LEFT = ("account_id", "name", "csm_id", "rank_before", "probability_before")

SORTS = ("rank", "probability", "mrr", "mrr_at_risk", "days_to_renewal", "name", "csm_id", "account_id")
"""Columns that a view of a list can be ordered by; its ranks stay what they are."""

_SCORES = account_scores.columns


# Writing


def keep_list(connection: Connection, risk_list: Mapping[str, Any], *, list_id: str) -> None:
    """Put a list in the place of the one of its instant; what was there goes, reasons and all."""
    as_of = risk_list["as_of"]
    for table in (account_reasons, account_scores, risk_lists):
        connection.execute(delete(table).where(table.c.as_of == as_of))
    connection.execute(insert(risk_lists), {**{name: risk_list[name] for name in _HEAD}, "list_id": list_id})
    own = {**dict.fromkeys(_SCORES.keys()), "as_of": as_of, "model_version": risk_list["model_version"]}
    scores = [{**own, "is_listed": False, **row} for row in _scores(risk_list)]
    reasons = [{"as_of": as_of, **row} for row in _reasons(risk_list)]
    for table, rows in ((account_scores, scores), (account_reasons, reasons)):
        if rows:
            connection.execute(insert(table), rows)


def _scores(risk_list: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in risk_list["rows"]:
        play, change = row["play"] or {}, row["change"] or {}
        yield {
            "state": "scored",
            **{name: row[name] for name in _SCORED},
            **{column: play.get(name) for name, column in _PLAY.items()},
            **{column: change.get(name) for name, column in _CHANGE.items()},
        }
    left = {row["account_id"]: row for row in risk_list["left"]}
    for state in ("leaving", "excluded"):
        for row in risk_list[state]:
            named = {name: row.get(name) for name in ("account_id", "name", "csm_id", "mrr", "phase")}
            yield {"state": state, "because": row.get("reason"), **named, **_left(left.pop(row["account_id"], None))}
    for row in left.values():  # In no table any more.
        named = {name: row[name] for name in ("account_id", "name", "csm_id")}
        yield {"state": "gone", "because": row["became"], **named, **_left(row)}


def _left(row: Mapping[str, Any] | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {"change": "left", **{name: row[name] for name in ("rank_before", "probability_before")}}


def _reasons(risk_list: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in risk_list["rows"]:
        told = [*(("up", reason) for reason in row["reasons"]), *([("down", row["eases"])] if row["eases"] else [])]
        for place, (direction, reason) in enumerate(told, start=1):
            given = {column: reason.get(name) for name, column in _REASON.items()}  # Older lists say less.
            yield {"account_id": row["account_id"], "place": place, "direction": direction, **given}


# Reading


@dataclass(frozen=True, kw_only=True)
class View:
    """Which scored accounts of a list, in which order."""

    sort: str = "rank"
    """One of `SORTS`."""
    is_descending: bool = False
    bands: tuple[str, ...] = ()
    csm_id: str | None = None
    text: str | None = None
    """Part of an id or a name, in any case."""
    only_listed: bool = False
    offset: int = 0
    limit: int = 50


def list_head(connection: Connection, as_of: str | None = None) -> dict[str, Any] | None:
    """The heading of the list of a day, by default of the latest, with its list_id; None where there is none."""
    found = select(risk_lists).order_by(risk_lists.c.as_of.desc()).limit(1)
    if as_of is not None:
        found = found.where(risk_lists.c.as_of == as_of)
    row = connection.execute(found).mappings().one_or_none()
    return None if row is None else dict(row)


def list_days(connection: Connection) -> list[str]:
    """The days of all lists, latest first."""
    return list(connection.execute(select(risk_lists.c.as_of).order_by(risk_lists.c.as_of.desc())).scalars())


def probabilities(connection: Connection, as_of: str) -> list[float]:
    """Those of all accounts on the list of a day that have one."""
    known = and_(_SCORES.as_of == as_of, _SCORES.probability.is_not(None))
    return list(connection.execute(select(_SCORES.probability).where(known)).scalars())


def list_rows(
    connection: Connection, as_of: str, visible: ColumnElement[bool], view: View
) -> tuple[list[dict[str, Any]], int]:
    """A page of the scored accounts that may be seen, and how many the view has in all."""
    where = and_(_SCORES.as_of == as_of, _SCORES.state == "scored", visible, *_wanted(view))
    total = connection.execute(select(func.count()).select_from(account_scores).where(where)).scalar_one()
    column = _SCORES[view.sort]
    order = column.desc() if view.is_descending else column.asc()
    page = select(account_scores).where(where).order_by(order.nulls_last(), _SCORES.rank, _SCORES.account_id)
    found = connection.execute(page.offset(view.offset).limit(view.limit)).mappings().all()
    return _with_reasons(connection, as_of, found), total


def _wanted(view: View) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if view.bands:
        wanted.append(_SCORES.band.in_(view.bands))
    if view.csm_id is not None:
        wanted.append(_SCORES.csm_id == view.csm_id)
    if view.only_listed:
        wanted.append(_SCORES.is_listed)
    if view.text:
        wanted.append(
            or_(*(column.icontains(view.text, autoescape=True) for column in (_SCORES.account_id, _SCORES.name)))
        )
    return wanted


def other_rows(connection: Connection, as_of: str, visible: ColumnElement[bool]) -> dict[str, list[dict[str, Any]]]:
    """The accounts of a list that are not ranked: leaving, excluded, and those that left since the list before."""
    where = and_(_SCORES.as_of == as_of, _SCORES.state != "scored", visible)
    found = connection.execute(select(account_scores).where(where).order_by(_SCORES.account_id)).mappings().all()
    return {
        "leaving": [
            {**_picked(row, "account_id", "name", "csm_id", "mrr"), "reason": row["because"]}
            for row in found
            if row["state"] == "leaving"
        ],
        "excluded": [
            {**_picked(row, "account_id", "name", "csm_id", "phase"), "reason": row["because"]}
            for row in found
            if row["state"] == "excluded"
        ],
        "left": [{**_picked(row, *_LEFT), "became": row["because"]} for row in found if row["change"] == "left"],
    }


def owners(connection: Connection, as_of: str, visible: ColumnElement[bool]) -> list[str]:
    """Who owns the accounts of a list that may be seen."""
    where = and_(_SCORES.as_of == as_of, _SCORES.csm_id.is_not(None), visible)
    return list(connection.execute(select(_SCORES.csm_id).where(where).distinct().order_by(_SCORES.csm_id)).scalars())


def counts(connection: Connection, as_of: str, visible: ColumnElement[bool]) -> dict[str, int]:
    """How many accounts of a list that may be seen are in each part of it."""
    where = and_(_SCORES.as_of == as_of, visible)
    by_state = select(_SCORES.state, func.count(), func.sum(_SCORES.is_listed.cast(Integer))).where(where)
    found = {row[0]: row for row in connection.execute(by_state.group_by(_SCORES.state))}
    number = {state: int(row[1]) for state, row in found.items()}
    return {
        "accounts": sum(number.get(state, 0) for state in ("scored", "leaving", "excluded")),
        "scored": number.get("scored", 0),
        "listed": int(found["scored"][2]) if "scored" in found else 0,
        "leaving": number.get("leaving", 0),
        "excluded": number.get("excluded", 0),
    }


def account(connection: Connection, account_id: str, as_of: str | None = None) -> dict[str, Any] | None:
    """What the list of a day, by default the newest that knows the account, says of it; None if nothing."""
    where = and_(_SCORES.account_id == account_id, *([] if as_of is None else [_SCORES.as_of == as_of]))
    newest = select(account_scores).where(where).order_by(_SCORES.as_of.desc()).limit(1)
    row = connection.execute(newest).mappings().one_or_none()
    if row is None:
        return None
    told = {name: row[name] for name in ("as_of", "state", "because", "model_version")}
    return {**told, **_with_reasons(connection, row["as_of"], [row])[0]}


def account_history(connection: Connection, account_id: str, *, limit: int) -> list[dict[str, Any]]:
    """What each list said of an account, newest first."""
    names = ("as_of", "state", "probability", "band", "rank", "is_listed", "mrr", "model_version", "change")
    found = (
        select(*(_SCORES[name] for name in names))
        .where(_SCORES.account_id == account_id)
        .order_by(_SCORES.as_of.desc())
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(found).mappings()]


def _with_reasons(connection: Connection, as_of: str, rows: Sequence[RowMapping]) -> list[dict[str, Any]]:
    ids = [row["account_id"] for row in rows]
    which = and_(account_reasons.c.as_of == as_of, account_reasons.c.account_id.in_(ids))
    found: dict[str, list[RowMapping]] = {}
    for reason in connection.execute(select(account_reasons).where(which).order_by(account_reasons.c.place)).mappings():
        found.setdefault(reason["account_id"], []).append(reason)
    return [_row(row, found.get(row["account_id"], [])) for row in rows]


def _row(row: RowMapping, reasons: Sequence[RowMapping]) -> dict[str, Any]:
    told = [(reason["direction"], {name: reason[column] for name, column in _REASON.items()}) for reason in reasons]
    return {
        **{name: row[name] for name in _SCORED},
        "reasons": [reason for direction, reason in told if direction == "up"],
        "eases": next((reason for direction, reason in told if direction == "down"), None),
        "play": None if row["play"] is None else {name: row[column] for name, column in _PLAY.items()},
        "change": None if row["change"] is None else {name: row[column] for name, column in _CHANGE.items()},
    }


def _picked(row: RowMapping, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}
