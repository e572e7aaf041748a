"""What happened to each account, to be shown beside its risk: use by week, and dated events, as known at an instant.

An event is what the sources told by then: a ticket resolved at or after the instant is open, an invoice paid later is
unpaid. No free text and nobody's name is in it, and of people no id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from features.compiled import keep_statements, kept_statements, key_of, settled
from features.families.billing import failed_payments, invoices_known
from features.families.contract import renewal_at
from features.families.feedback import answers
from features.families.onboarding import steps_known
from features.families.relationship import contacts_known, owners_known
from features.families.reliability import incidents_known
from features.families.service import resolved_at
from features.families.support import tickets_known
from features.snapshots import contracts_known
from features.sources import keep
from features.tables import Tables
from features.windows import TIMESTAMP, age_days, in_window, instants_table, known_before, known_outcome

DAYS, WEEK = 182, 7
WEEKS = DAYS // WEEK
"""Weeks of use, the last of which ends at the instant."""
USAGE_WEEK = "usage_week"
INSTANT = "timeline_instant"
_FACTS = {
    "id": "string", "value": "double", "low": "double", "high": "double", "is_open": "boolean",
    "active_days": "int16", "core_events": "double", "active_users": "int32",
}  # fmt: skip
COLUMNS = ("account_id", "kind", "at", *_FACTS)

Rows = Callable[[Tables, ir.Table], ir.Table]


@dataclass(frozen=True, kw_only=True)
class Told:
    """Events that a source tells, or any of several."""

    name: str
    sources: tuple[str, ...]
    rows: Rows


def timeline(tables: Tables, as_of: datetime) -> pa.Table:
    """The use and the events of every account in the half year before `as_of`, and what is planned after it.

    Returns
    -------
    table of `COLUMNS`, sorted by all of them, so that an account lies together: `kind` and `at` (UTC) of an event, the
    `id` of its ticket, invoice, contract, outage or step, and by kind its `value` (severity, score, amount, MRR, hours
    or days), the scale of a score from `low` to `high`, and whether it `is_open`. A row of kind `usage_week` has the
    days with use, core events and people of the week that begins at `at`; a week without use has no row.
    Its metadata tell under `usage` by what period use is known (`week`, or why not: `month`, `none`), and under
    `users` whether the people are told apart.

    """
    moments = instants_table(tables.backend, [as_of], name=INSTANT)
    key = key_of("timeline", type(tables).__qualname__, tables.shape)
    statements = kept_statements(tables.compiled, key)
    if statements is None:
        statements = list(_compiled(tables, moments))
        keep_statements(tables.compiled, key, statements)
    everything = " union all ".join(f"({sql})" for _, sql in statements)
    keep(tables.backend, "timeline", everything)
    found = tables.backend.table("timeline").order_by(list(COLUMNS)).to_pyarrow()
    return found.replace_schema_metadata({"usage": _usage_told(tables), "users": json.dumps(_has_users(tables))})


def _compiled(tables: Tables, moments: ir.Table) -> Iterator[tuple[str, str]]:
    """The name and SQL of each kind of event that the company's sources can tell; of none at least an empty one."""
    yield "nothing", settled(tables.backend.compile(_nothing(moments)))
    for told in EVENTS:
        if any(tables.has(source) for source in told.sources):
            yield told.name, settled(tables.backend.compile(told.rows(tables, moments)))


def _nothing(moments: ir.Table) -> ir.Table:
    none = moments.filter(ibis.literal(False)).mutate(account_id=ibis.null("string"))
    return _events(none, "nothing", none.as_of)


def _events(rows: ir.Table, kind: str | ir.StringValue, at: ir.TimestampValue, **facts: ir.Value) -> ir.Table:
    """`rows` as events of the columns `COLUMNS`; what is not told of this kind is missing."""
    known = {name: facts[name].cast(of) if name in facts else ibis.null(of) for name, of in _FACTS.items()}
    named = ibis.literal(kind) if isinstance(kind, str) else kind
    return rows.select("account_id", kind=named, at=at.cast(TIMESTAMP), **known)


def _lately(rows: ir.Table, at: ir.TimestampValue) -> ir.BooleanValue:
    return in_window(at, rows.as_of, days=DAYS).fill_null(False)


def _happened(rows: ir.Table, kind: str | ir.StringValue, at: ir.TimestampValue, **facts: ir.Value) -> ir.Table:
    """The events of the half year before the instant."""
    dated = rows.mutate(happened_at=at, **{f"told_{name}": value for name, value in facts.items()})
    if not isinstance(kind, str):
        dated = dated.mutate(named=kind)
    dated = dated.filter(_lately(dated, dated.happened_at))
    told = {name: dated[f"told_{name}"] for name in facts}
    return _events(dated, kind if isinstance(kind, str) else dated.named, dated.happened_at, **told)


# Use


def _usage_told(tables: Tables) -> str:
    if not tables.has("usage"):
        return "none"
    return "month" if tables.usage_period == "month" else "week"


def _has_users(tables: Tables) -> bool:
    return tables.has("usage", "user_id")


def _weeks(tables: Tables, moments: ir.Table) -> ir.Table:
    """A row for each week with use; none where use is told by the month."""
    keys = ("account_id", "as_of", "weeks_ago")
    days = _in_weeks(tables["account_days"], moments)
    weeks = days.group_by(keys).agg(active_days=days.event_at.nunique(), core_events=days.core.sum())
    people = _in_weeks(tables["user_days"], moments).filter(ibis._.user_id.notnull())
    # In two steps: counting what is distinct in so many rows is the slow way.
    people = people.select(*keys, "user_id").distinct()
    counted = people.group_by(keys).agg(active_users=people.count())
    both = weeks.left_join(counted, keys)
    begins_at = both.as_of - (WEEK * (both.weeks_ago + 1)).as_interval("D")
    return _events(
        both.filter(ibis.literal(_usage_told(tables) == "week")), USAGE_WEEK, begins_at,
        active_days=both.active_days, core_events=both.core_events, active_users=both.active_users,
    )  # fmt: skip


def _in_weeks(days: ir.Table, moments: ir.Table) -> ir.Table:
    seen = known_before(days, moments, within_days=DAYS)
    return seen.mutate(weeks_ago=(seen.age_days - 1) // WEEK)


# Events


def _tickets(tables: Tables, moments: ir.Table) -> ir.Table:
    """Opened, opened again, resolved; one that is still open also where it was opened long ago."""
    ticket = tickets_known(tables, moments)
    facts = {"id": ticket.ticket_id, "value": ticket.severity}
    is_open = ticket.is_open == 1
    opened = ticket.filter(_lately(ticket, ticket.opened_at) | is_open)
    return ibis.union(
        _events(opened, "ticket_opened", opened.opened_at, id=opened.ticket_id, value=opened.severity,
                is_open=opened.is_open == 1),
        _happened(ticket, "ticket_reopened", ticket.reopened_at, **facts),
        _happened(ticket, "ticket_resolved", resolved_at(ticket), **facts),
    )  # fmt: skip


def _answers(tables: Tables, moments: ir.Table) -> ir.Table:
    answer = answers(tables, moments)
    low, high = (ibis.ifelse(answer.kind == "nps", end, answer[name]) for name, end in _SCALE)
    return _happened(answer, answer.kind + "_answered", answer.responded_at, value=answer.score, low=low, high=high)


_SCALE = (("scale_min", 0.0), ("scale_max", 10.0))


def _contracts(tables: Tables, moments: ir.Table) -> ir.Table:
    """Begun and ended, with notice given; and what is planned: a beginning, an end, a renewal, its last day for notice.

    Where there are no contracts, the account's own start and end stand for them.
    """
    known = contracts_known(tables, moments)
    known = known.mutate(renews_at=ibis.ifelse(known.end_at.isnull(), renewal_at(known), ibis.null(TIMESTAMP)))
    known = known.mutate(notice_until=known.renews_at - known.notice_days.cast("int64").as_interval("D"))
    begun = known.filter(known.start_at < known.as_of)
    since = begun.group_by("account_id", "as_of").agg(since=begun.start_at.min())
    facts = {"id": known.contract_id, "value": known.mrr}
    return ibis.union(
        _events(since, "customer_since", since.since),
        _happened(known, "contract_started", known.start_at, **facts),
        _happened(known, "contract_ended", known.end_at, **facts),
        _happened(known, "notice_given", known.cancelled_at, **facts),
        _planned(known, "contract_starts", "start_at"),
        _planned(known, "contract_ends", "end_at"),
        _planned(known.filter(known.is_live), "contract_renews", "renews_at"),
        _planned(known.filter(known.is_live), "notice_deadline", "notice_until"),
    )


def _planned(known: ir.Table, kind: str, at: str) -> ir.Table:
    ahead = known.filter((known[at] >= known.as_of).fill_null(False))
    return _events(ahead, kind, ahead[at], id=ahead.contract_id, value=ahead.mrr)


def _invoices(tables: Tables, moments: ir.Table) -> ir.Table:
    """Fell due and is unpaid, since whenever; paid so many days late, disputed, and payments that failed."""
    invoice = invoices_known(tables, moments)
    overdue = invoice.filter(invoice.overdue_amount.notnull())
    late = invoice.filter((invoice.paid_at.date() > invoice.due_at.date()).fill_null(False))
    days_late = age_days(late.due_at, late.paid_at)
    failed = failed_payments(tables, moments)
    return ibis.union(
        _events(overdue, "invoice_overdue", overdue.due_at, id=overdue.invoice_id, value=overdue.amount,
                is_open=ibis.literal(True)),
        _happened(late, "invoice_paid_late", late.paid_at, id=late.invoice_id, value=days_late),
        _happened(invoice, "invoice_disputed", invoice.disputed_at, id=invoice.invoice_id, value=invoice.amount),
        _happened(failed, "payment_failed", failed.failed_at, id=failed.invoice_id),
    )  # fmt: skip


def _contacts(tables: Tables, moments: ir.Table) -> ir.Table:
    """Who left, by the part they had; and since when there is another champion."""
    contact = contacts_known(tables, moments)
    part = ibis.cases(
        (contact.is_champion.fill_null(False), "champion_left"),
        (contact.is_sponsor.fill_null(False), "sponsor_left"),
        (contact.is_decision_maker.fill_null(False), "decision_maker_left"),
        else_="contact_left",
    )
    champions = known_before(tables["contacts"], moments).filter(ibis._.is_champion.fill_null(False))
    named = champions.group_by("account_id", "contact_id", "as_of").agg(named_at=champions.event_at.min())
    return ibis.union(
        _happened(contact, part, known_outcome(contact.left_at, contact.as_of)),
        _happened(named, "champion_named", named.named_at),
    )


def _owners(tables: Tables, moments: ir.Table) -> ir.Table:
    turn = owners_known(tables, moments)
    changed = turn.filter(turn.changed == 1)
    return _happened(changed, "owner_changed", changed.from_at)


def _outages(tables: Tables, moments: ir.Table) -> ir.Table:
    outage = incidents_known(tables, moments)
    ended_at = known_outcome(outage.ended_at, outage.as_of)
    hours = (ended_at.epoch_seconds() - outage.started_at.epoch_seconds()) / 3600
    return _happened(outage, "outage", outage.started_at, id=outage.incident_id, value=hours)


def _steps(tables: Tables, moments: ir.Table) -> ir.Table:
    """Steps of the onboarding that were completed, and those that fell due and are open."""
    step = steps_known(tables, moments)
    overdue = step.filter(step.overdue.notnull())
    return ibis.union(
        _happened(step, "step_completed", known_outcome(step.completed_at, step.as_of), id=step.milestone),
        _events(overdue, "step_overdue", overdue.due_at, id=overdue.milestone, is_open=ibis.literal(True)),
    )


EVENTS = (
    Told(name="usage", sources=("usage",), rows=_weeks),
    Told(name="tickets", sources=("tickets",), rows=_tickets),
    Told(name="answers", sources=("surveys", "tickets"), rows=_answers),
    Told(name="contracts", sources=("accounts",), rows=_contracts),
    Told(name="invoices", sources=("invoices",), rows=_invoices),
    Told(name="contacts", sources=("contacts",), rows=_contacts),
    Told(name="owners", sources=("assignments",), rows=_owners),
    Told(name="outages", sources=("incidents",), rows=_outages),
    Told(name="steps", sources=("milestones",), rows=_steps),
)
