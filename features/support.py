"""What an account asks of support, and how it is served.

Source: `tickets`. A ticket resolved or answered at or after `as_of` is open or unanswered at `as_of`.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.family import Family, Feature, Measure, flag, log_change, ratio
from features.tables import Tables
from features.windows import age_days, known_before, known_outcome

QUIET_BELOW = -0.35
"""A usage trend under which an account without tickets is falling silent."""


def _tickets(tables: Tables, instants: ir.Table) -> ir.Table:
    """Each ticket in the version known at the instant, later outcomes blanked."""
    seen = known_before(tables["tickets"], instants)
    newest = ibis.window(group_by=["account_id", "ticket_id", "as_of"], order_by=seen.known_at.desc())
    latest = seen.mutate(version=ibis.row_number().over(newest)).filter(ibis._.version == 0)
    # Blanked one by one: a later closing must not hide that the ticket was resolved by now.
    done_at = ibis.coalesce(
        known_outcome(latest.closed_at, latest.as_of), known_outcome(latest.resolved_at, latest.as_of)
    )
    reopened_at = known_outcome(latest.reopened_at, latest.as_of)
    is_open = done_at.isnull() | (reopened_at > done_at).fill_null(False)
    return latest.mutate(
        ticket=ibis.literal(1),
        is_open=is_open.cast("int8"),
        is_urgent_open=(is_open & (latest.severity <= 2)).fill_null(False).cast("int8"),
        escalation=latest.escalated.fill_null(False).cast("int8"),
    )


def _breaches(tables: Tables, instants: ir.Table) -> ir.Table:
    """Tickets whose promised first response did not come in time; their age counts from when the promise ended."""
    tickets = _tickets(tables, instants).filter(ibis._.sla_hours.notnull())
    promised_at = tickets.opened_at + (tickets.sla_hours * 3600).round().cast("int64").as_interval("s")
    answered_at = known_outcome(tickets.first_response_at, tickets.as_of)
    late = (promised_at < tickets.as_of) & (answered_at.isnull() | (answered_at > promised_at))
    return tickets.filter(late).mutate(age_days=age_days(promised_at, tickets.as_of))


SUPPORT = Family(
    name="support",
    source="tickets",
    owner="support operations",
    rows=_tickets,
    measures=(Measure("tickets_opened_91d", lambda ticket: ticket.ticket.sum(), window=91),),
    features=(
        Feature(
            name="tickets_opened_28d",
            formula=lambda ticket: ticket.ticket.sum(),
            label="tickets opened in the last 28 days",
            meaning="Tickets opened in the 28 days before `as_of`; many and none can both be signs.",
            unit="tickets", window=28, missing="Z", sign=0, group="support", actionable=True,
        ),
        Feature(
            name="open_tickets",
            formula=lambda ticket: ticket.is_open.sum(),
            label="tickets open now",
            meaning="Tickets open at `as_of`.",
            unit="tickets", missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.done",),
        ),
        Feature(
            name="high_sev_open",
            formula=lambda ticket: ticket.is_urgent_open.sum(),
            label="urgent tickets open now",
            meaning="Tickets of severity 1 or 2 open at `as_of`.",
            unit="tickets", missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.done", "tickets.severity"),
        ),
        Feature(
            name="oldest_open_ticket_days",
            formula=lambda ticket: ticket.age_days.max(where=ticket.is_open == 1),
            label="days the oldest open ticket has been open",
            meaning="Days since the oldest ticket open at `as_of` was opened; 0 if none is open.",
            unit="days", missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.done",),
        ),
        Feature(
            name="escalations_91d",
            formula=lambda ticket: ticket.escalation.sum(),
            label="tickets escalated in the last 91 days",
            meaning="Escalated tickets opened in the 91 days before `as_of`.",
            unit="tickets", window=91, missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.escalated",),
        ),
    ),
    ratios=(
        Feature(
            name="tickets_per_user_28d",
            formula=lambda row: ratio(row.tickets_opened_28d, row.active_users_28d),
            label="tickets per active user in the last 28 days",
            meaning="tickets_opened_28d / active_users_28d.",
            unit="per user", window=28, missing="D", sign=0, group="support", actionable=True,
            needs=("usage.day", "usage.users"),
        ),
        Feature(
            name="ticket_rate_change_28v91",
            formula=lambda row: log_change(
                row.tickets_opened_28d, row.tickets_opened_91d - row.tickets_opened_28d, scale=28 / 63
            ),
            label="tickets of the last 28 days against the 63 days before",
            meaning="ln((x28 + 1) / ((x91 - x28) · 28/63 + 1)) over opened tickets.",
            unit="log ratio", window=91, missing="H", sign=1, group="support", actionable=True,
        ),
        Feature(
            name="is_quiet_and_falling",
            formula=lambda row: flag((row.tickets_opened_91d == 0) & (row.usage_trend_28v91 < QUIET_BELOW)),
            label="no ticket for 91 days while use is falling",
            meaning="No ticket in 91 days and usage_trend_28v91 < -0.35.",
            unit="0/1", window=91, missing="F", sign=1, group="engagement", actionable=True,
            needs=("usage.day",),
        ),
    ),
)  # fmt: skip

BREACHES = Family(
    name="breaches",
    source="tickets",
    owner="support operations",
    rows=_breaches,
    features=(
        Feature(
            name="sla_breaches_28d",
            formula=lambda ticket: ticket.ticket_id.nunique(),
            label="promised response times missed in the last 28 days",
            meaning="Tickets whose promised first response fell due, unanswered, in the 28 days before `as_of`.",
            unit="tickets", window=28, missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.sla_hours", "tickets.first_response_at"),
        ),
    ),
)  # fmt: skip

FAMILIES = (SUPPORT, BREACHES)
