"""What an account asks of support: how many tickets it opens, and what of them is still open.

Source: `tickets`. A ticket resolved or answered at or after `as_of` is open or unanswered at `as_of`.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, Measure, flag, log_change, ratio
from features.tables import Tables
from features.windows import known_outcome, newest_before

QUIET_BELOW = -0.35
"""A usage trend under which an account without tickets is falling silent."""
_OUTCOMES = ("first_response_at", "resolved_at", "closed_at", "reopened_at")


def tickets_known(tables: Tables, instants: ir.Table) -> ir.Table:
    """Each ticket in the version known at the instant, later outcomes blanked.

    Returns
    -------
    the columns of `tickets` with as_of and age_days; `done_at`, when it was last closed, and `is_open` (0 or 1);
    `promised_at`, by when it was to be answered, missing without a promise.
    """
    latest = newest_before(tables["tickets"], instants, "ticket_id")
    # Blanked one by one: a later closing must not hide that the ticket was resolved by now.
    ticket = latest.mutate(**{name: known_outcome(latest[name], latest.as_of) for name in _OUTCOMES})
    done_at = ibis.coalesce(ticket.closed_at, ticket.resolved_at)
    is_open = done_at.isnull() | (ticket.reopened_at > done_at).fill_null(False)
    promised_at = ticket.opened_at + (ticket.sla_hours * 3600).round().cast("int64").as_interval("s")
    return ticket.mutate(done_at=done_at, is_open=is_open.cast("int8"), promised_at=promised_at)


def _tickets(tables: Tables, instants: ir.Table) -> ir.Table:
    ticket = tickets_known(tables, instants)
    return ticket.mutate(
        ticket=ibis.literal(1),
        is_urgent_open=((ticket.is_open == 1) & (ticket.severity <= 2)).fill_null(False).cast("int8"),
        escalation=ticket.escalated.fill_null(False).cast("int8"),
        complaint=ticket.is_complaint.fill_null(False).cast("int8"),
    )


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
            examples=(
                example(2, "the day 29 is out", tickets="ticket_id opened_at; a -1@23:59; b -28; c -29"),
                example(1, "one ticket in two versions", tickets="ticket_id opened_at known_at; a -9 -9; a -9 -3"),
                example(0, "opened at the instant", tickets="ticket_id opened_at; a 0"),
            ),
        ),
        Feature(
            name="open_tickets",
            formula=lambda ticket: ticket.is_open.sum(),
            label="tickets open now",
            meaning="Tickets open at `as_of`.",
            unit="tickets", missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.done",),
            examples=(
                example(2, "closed at the instant, or opened again: open",
                        tickets="ticket_id opened_at closed_at reopened_at; a -9 0 .; b -9 -5 -4; c -9 -1@23:59 ."),
                example(0, "resolved; the closing that follows is not known",
                        tickets="ticket_id opened_at resolved_at closed_at; a -9 -3 2"),
            ),
        ),
        Feature(
            name="high_sev_open",
            formula=lambda ticket: ticket.is_urgent_open.sum(),
            label="urgent tickets open now",
            meaning="Tickets of severity 1 or 2 open at `as_of`.",
            unit="tickets", missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.done", "tickets.severity"),
            examples=(
                example(2, "one of no known severity is not urgent",
                        tickets="ticket_id opened_at closed_at severity;"
                        "a -9 . 1; b -9 . 2; c -9 . 3; d -9 . .; e -9 -1 1"),
                example(0, "not urgent", tickets="ticket_id opened_at severity; a -9 3"),
            ),
        ),
        Feature(
            name="oldest_open_ticket_days",
            formula=lambda ticket: ticket.age_days.max(where=ticket.is_open == 1),
            label="days the oldest open ticket has been open",
            meaning="Days since the oldest ticket open at `as_of` was opened; 0 if none is open.",
            unit="days", missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.done",),
            examples=(
                example(12, "opened late on the day 12",
                        tickets="ticket_id opened_at closed_at; a -12@22:00 .; b -99 -2"),
                example(0, "none is open", tickets="ticket_id opened_at closed_at; a -12 -2"),
            ),
        ),
        Feature(
            name="escalations_91d",
            formula=lambda ticket: ticket.escalation.sum(),
            label="tickets escalated in the last 91 days",
            meaning="Escalated tickets opened in the 91 days before `as_of`.",
            unit="tickets", window=91, missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.escalated",),
            examples=(
                example(1, "the second is too old",
                        tickets="ticket_id opened_at escalated; a -91 yes; b -92 yes; c -1 no"),
                example(0, "not said to be", tickets="ticket_id opened_at escalated; a -1 ."),
            ),
        ),
        Feature(
            name="complaints_91d",
            formula=lambda ticket: ticket.complaint.sum(),
            label="complaints in the last 91 days",
            meaning="Tickets marked as complaints opened in the 91 days before `as_of`.",
            unit="tickets", window=91, missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.is_complaint",),
            examples=(
                example(2, "the third is too old",
                        tickets="ticket_id opened_at is_complaint; a -1 yes; b -91 yes; c -92 yes; d -3 no; e -3 ."),
                example(0, "marked only after the instant",
                        tickets="ticket_id opened_at is_complaint known_at; a -5 no -5; a -5 yes 1"),
            ),
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
            examples=(
                example(1.5, "3 tickets of 2 users", tickets="ticket_id opened_at; a -1; b -2; c -28; d -29",
                        usage="event_at user_id; -3 u; -3 v; -29 w"),
                example(None, "nobody was active", tickets="ticket_id opened_at; a -1",
                        usage="event_at user_id; -29 u"),
            ),
        ),
        Feature(
            name="ticket_rate_change_28v91",
            formula=lambda row: log_change(
                row.tickets_opened_28d, row.tickets_opened_91d - row.tickets_opened_28d, scale=28 / 63
            ),
            label="tickets of the last 28 days against the 63 days before",
            meaning="ln((x28 + 1) / ((x91 - x28) · 28/63 + 1)) over opened tickets.",
            unit="log ratio", window=91, missing="H", sign=1, group="support", actionable=True,
            examples=(
                example(1.0986122887, "2 after none: ln(3)", tickets="ticket_id opened_at; a -1; b -28; c -92"),
                example(-1.6094379124, "none after 9: ln(1 / (9 · 28/63 + 1)) = ln(1 / 5)",
                        tickets="ticket_id opened_at; a -29; b -30; c -40; d -50; e -60; f -70; g -80; h -90; i -91"),
                example(None, "a customer for 90 days", contracts="contract_id start_at mrr; c -90 100",
                        tickets="ticket_id opened_at; a -1"),
            ),
        ),
        Feature(
            name="is_quiet_and_falling",
            formula=lambda row: flag((row.tickets_opened_91d == 0) & (row.usage_trend_28v91 < QUIET_BELOW)),
            label="no ticket for 91 days while use is falling",
            meaning="No ticket in 91 days and usage_trend_28v91 < -0.35.",
            unit="0/1", window=91, missing="F", sign=1, group="engagement", actionable=True,
            needs=("usage.day",),
            examples=(
                example(1, "1 use after 9: ln(2 / 5); the ticket is too old",
                        usage="event_at quantity is_core; -1 1 yes; -29 9 yes", tickets="ticket_id opened_at; a -92"),
                example(0, "a ticket on the day 91",
                        usage="event_at quantity is_core; -1 1 yes; -29 9 yes", tickets="ticket_id opened_at; a -91"),
                example(0, "use is steady: ln(5 / 5)", usage="event_at quantity is_core; -1 4 yes; -29 9 yes"),
            ),
        ),
        Feature(
            name="complaint_share_91d",
            formula=lambda row: ratio(row.complaints_91d, row.tickets_opened_91d + row.inbound_touches_91d),
            label="share of complaints among what reached us in 91 days",
            meaning="complaints_91d / (tickets opened + inbound touches), 91 days.",
            unit="share", window=91, missing="D", sign=1, group="support", actionable=True,
            needs=("tickets.is_complaint", "touches.direction"),
            examples=(
                example(0.05, "6 complaints of 120 contacts: 10 tickets and 110 touches",
                        tickets="ticket_id opened_at is_complaint; a -1 yes; b -2 yes; c -3 yes; d -4 yes; e -5 yes;"
                        "f -91 yes; g -9 no; h -9 no; i -9 no; j -9 .; k -92 yes",
                        touches="event_at direction;" + "-91 in;" * 110 + "-92 in; -1 out"),
                example(None, "nothing reached us", touches="event_at direction; -1 out"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (SUPPORT,)
