"""Published lists in the ledger: every account of a list with its reasons, one list in force per instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.engine import Connection

from serving.ledger.tables import account_reasons, account_scores, risk_lists

_HEAD = ("as_of", "model_version", "model_artefact", "horizon_days", "base_rate", "heading", "counts")
_SCORED = (
    "rank", "is_listed", "account_id", "name", "csm_id", "parent_id", "segment", "probability", "raw_score", "band",
    "part", "mrr", "mrr_at_risk", "days_to_renewal",
)  # fmt: skip


def keep_list(connection: Connection, risk_list: Mapping[str, Any], *, list_id: str) -> None:
    """Put a list in the place of the one of its instant; what was there goes, reasons and all."""
    as_of = risk_list["as_of"]
    for table in (account_reasons, account_scores, risk_lists):
        connection.execute(delete(table).where(table.c.as_of == as_of))
    connection.execute(insert(risk_lists), {**{name: risk_list[name] for name in _HEAD}, "list_id": list_id})
    own = {"as_of": as_of, "model_version": risk_list["model_version"]}
    for table, rows in (
        (account_scores, [{**_EMPTY, **own, **row} for row in _scores(risk_list)]),
        (account_reasons, [{"as_of": as_of, **row} for row in _reasons(risk_list)]),
    ):
        if rows:
            connection.execute(insert(table), rows)


_EMPTY = {column.name: None for column in account_scores.columns} | {"is_listed": False}


def _scores(risk_list: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in risk_list["rows"]:
        play, change = row["play"] or {}, row["change"] or {}
        yield {
            **{name: row[name] for name in _SCORED},
            "state": "scored",
            "change": change.get("kind"),
            "probability_before": change.get("probability_before"),
            "play": play.get("play"),
            "play_name": play.get("name"),
            "first_step": play.get("step"),
            "due_date": play.get("due_date"),
        }
    for row in risk_list["leaving"]:
        yield {**{name: row[name] for name in ("account_id", "name", "csm_id", "mrr")}, "state": "leaving"}
    for row in risk_list["excluded"]:
        named = {name: row[name] for name in ("account_id", "name", "csm_id")}
        yield {**named, "state": "excluded", "excluded_because": row["reason"]}


def _reasons(risk_list: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in risk_list["rows"]:
        told = [*(("up", reason) for reason in row["reasons"]), *([("down", row["eases"])] if row["eases"] else [])]
        for place, (direction, reason) in enumerate(told, start=1):
            yield {
                "account_id": row["account_id"],
                "place": place,
                "direction": direction,
                "reason_group": reason["group"],
                "is_actionable": reason["actionable"],
                "sentence": reason["text"],
                **{name: reason[name] for name in ("feature", "value", "typical", "contribution")},
            }
