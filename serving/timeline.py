"""What happened to an account, read from its published list and told in words.

The file lies beside the list, sorted by account, so that one account is read from one or two groups of rows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import ConfigurationError, DataError
from features.settings import Settings
from features.timeline import USAGE_WEEK, WEEK, WEEKS
from serving.published import published, verified

TIMELINE = "timeline.parquet"
ROWS_A_GROUP = 16_384

Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How events of one kind are told."""

    group: str
    """The group of reasons that they are evidence of."""
    says: Callable[[Event], str]
    unit: str | None = None
    """Of the value."""


def timeline_bytes(timeline: pa.Table) -> bytes:
    """The timelines of a list as they are published: the same bytes for the same rows."""
    sink = io.BytesIO()
    pq.write_table(timeline, sink, row_group_size=ROWS_A_GROUP)
    return sink.getvalue()


def timeline_of(settings: Settings, account_id: str, as_of: str) -> dict[str, Any]:
    """What the list of `as_of` (YYYY-MM-DD) tells of an account.

    Returns
    -------
    mapping of account_id and as_of; `because`, why there is nothing to show, or None; `weeks`, oldest first, empty
    where use is not told by the day; `events`, newest first, those that are planned before all others
    """
    empty: dict[str, Any] = {"account_id": account_id, "as_of": as_of, "because": None, "weeks": [], "events": []}
    try:
        content = _published(published(settings, as_of))
    except (ConfigurationError, DataError):
        return {**empty, "because": f"The timeline of the list of {as_of} cannot be read; score again."}
    if content is None:
        return {**empty, "because": f"No timeline on this list: the one of {as_of} was published without."}
    rows = pq.read_table(pa.BufferReader(content), filters=[("account_id", "=", account_id)], use_threads=False)
    found, day = rows.to_pylist(), date.fromisoformat(as_of)
    metadata = {key.decode(): value.decode() for key, value in (rows.schema.metadata or {}).items()}
    events = [_told(row, as_of) for row in sorted(found, key=_newest_first, reverse=True) if row["kind"] in KINDS]
    return {**empty, "weeks": _weeks(found, day, metadata) if metadata.get("usage") == "week" else [], "events": events}


@lru_cache(maxsize=2)
def _published(folder: Path) -> bytes | None:
    """The file as it was published, read once; None where the list has none."""
    manifest = json.loads((folder / "manifest.json").read_bytes()) if (folder / "manifest.json").is_file() else {}
    return verified(folder, TIMELINE) if TIMELINE in manifest else None


def _newest_first(row: Event) -> tuple[datetime, str, str]:
    return row["at"], row["kind"], row["id"] or ""


# Use


def _weeks(rows: list[Event], as_of: date, metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every week of the half year: nothing was used in one without a row, unless the account had not begun."""
    used = {row["at"].date(): row for row in rows if row["kind"] == USAGE_WEEK}
    began = min((row["at"].date() for row in rows if row["kind"] in (USAGE_WEEK, "customer_since")), default=as_of)
    begins = [as_of - timedelta(days=WEEK * back) for back in range(WEEKS, 0, -1)]
    has_users = metadata.get("users") == "true"
    return [_week(day, used.get(day), day + timedelta(days=WEEK) > began, has_users) for day in begins]


def _week(day: date, row: Event | None, has_begun: bool, has_users: bool) -> dict[str, Any]:
    found: Event = row or {}
    nothing = 0 if has_begun else None
    users = (found.get("active_users") or nothing) if has_users else None
    return {
        "begins": f"{day}",
        "active_days": found.get("active_days", nothing),
        "core_events": found.get("core_events", nothing),
        "active_users": users,
    }


# Events in words


def _told(row: Event, as_of: str) -> dict[str, Any]:
    kind = KINDS[row["kind"]]
    told = {name: row[name] for name in ("kind", "id", "value", "low", "high", "is_open")}
    return {
        "date": f"{row['at']:%Y-%m-%d}",
        **told,
        "group": kind.group,
        "unit": None if row["value"] is None else kind.unit,
        "is_planned": f"{row['at']:%Y-%m-%d}" >= as_of,
        "text": kind.says(row),
    }


def _named(what: str, event: Event) -> str:
    return what if event["id"] is None else f"{what} {event['id']}"


def _ticket(said: str) -> Callable[[Event], str]:
    def says(event: Event) -> str:
        severity = "" if event["value"] is None else f", severity {event['value']:g}"
        return f"{_named('Ticket', event)} {said}{severity}{'; still open' if event['is_open'] else ''}"

    return says


def _survey(name: str) -> Callable[[Event], str]:
    return lambda event: f"{name} answered: {event['value']:g} on a scale of {event['low']:g} to {event['high']:g}"


def _contract(said: str, *, with_value: bool = False) -> Callable[[Event], str]:
    def says(event: Event) -> str:
        value = f", MRR {event['value']:,.0f}" if with_value and event["value"] is not None else ""
        return said.format(_named("contract", event)) + value

    return says


def _invoice(said: str) -> Callable[[Event], str]:
    def says(event: Event) -> str:
        amount = "" if event["value"] is None else f": {event['value']:,.2f}"
        return f"{_named('Invoice', event)} {said}{amount}"

    return says


def _paid_late(event: Event) -> str:
    days = f"{event['value']:g}"
    return f"{_named('Invoice', event)} paid {days} {'day' if days == '1' else 'days'} late"


def _outage(event: Event) -> str:
    lasted = ", not over yet" if event["value"] is None else f" of {event['value']:.1f} hours"
    return f"{_named('Outage', event)}{lasted}"


def _always(said: str) -> Callable[[Event], str]:
    return lambda event: said


KINDS: Mapping[str, Kind] = {
    "ticket_opened": Kind(group="support", unit="severity", says=_ticket("opened")),
    "ticket_reopened": Kind(group="support", unit="severity", says=_ticket("opened again")),
    "ticket_resolved": Kind(group="support", unit="severity", says=_ticket("resolved")),
    "outage": Kind(group="reliability", unit="hours", says=_outage),
    "nps_answered": Kind(group="sentiment", unit="score", says=_survey("NPS")),
    "csat_answered": Kind(group="sentiment", unit="score", says=_survey("Satisfaction")),
    "ces_answered": Kind(group="sentiment", unit="score", says=_survey("Effort")),
    "invoice_overdue": Kind(group="billing", unit="money", says=_invoice("fell due and is unpaid")),
    "invoice_paid_late": Kind(group="billing", unit="days", says=_paid_late),
    "invoice_disputed": Kind(group="billing", unit="money", says=_invoice("was disputed")),
    "payment_failed": Kind(group="billing", says=lambda event: f"Payment of {_named('invoice', event)} failed"),
    "contract_started": Kind(group="commercial", unit="MRR", says=_contract("Start of {}", with_value=True)),
    "contract_starts": Kind(group="commercial", unit="MRR", says=_contract("Planned start of {}", with_value=True)),
    "contract_ended": Kind(group="commercial", unit="MRR", says=_contract("End of {}", with_value=True)),
    "contract_ends": Kind(group="commercial", unit="MRR", says=_contract("Planned end of {}", with_value=True)),
    "contract_renews": Kind(group="commercial", unit="MRR", says=_contract("Renewal of {}", with_value=True)),
    "notice_given": Kind(group="commercial", unit="MRR", says=_contract("Notice given on {}", with_value=True)),
    "notice_deadline": Kind(group="commercial", unit="MRR", says=_contract("Last day for notice on {}")),
    "customer_since": Kind(group="context", says=_always("Became a customer")),
    "champion_left": Kind(group="relationship", says=_always("A champion left")),
    "sponsor_left": Kind(group="relationship", says=_always("A sponsor left")),
    "decision_maker_left": Kind(group="relationship", says=_always("A decision maker left")),
    "contact_left": Kind(group="relationship", says=_always("A contact left")),
    "champion_named": Kind(group="relationship", says=_always("A contact became champion")),
    "owner_changed": Kind(group="relationship", says=_always("The account got another owner on our side")),
    "step_completed": Kind(
        group="onboarding", says=lambda event: f"{_named('Onboarding step', event)} was completed"
    ),
    "step_overdue": Kind(
        group="onboarding", says=lambda event: f"{_named('Onboarding step', event)} fell due and is open"
    ),
}  # fmt: skip
"""Every kind of event but the weeks of use."""
