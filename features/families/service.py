"""How soon tickets are served: promises kept, and the time to an answer and to a resolution.

Source: `tickets` as `tickets_known` tells them. A ticket that waits for its answer or resolution is never left out of
a median: its time so far is a least value (Kaplan-Meier).
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.support import tickets_known
from features.families.versions import seconds_between
from features.family import Family, Feature, Measure, ratio
from features.kaplan_meier import km_median
from features.tables import Tables
from features.windows import age_days, masked


def _promises(tables: Tables, instants: ir.Table) -> ir.Table:
    """Tickets whose promised first response came or fell due; not those that are still in time."""
    ticket = tickets_known(tables, instants)
    ticket = ticket.filter(ticket.promised_at.notnull())
    judged = ticket.filter(ticket.first_response_at.notnull() | (ticket.promised_at < ticket.as_of))
    kept = (judged.first_response_at <= judged.promised_at).fill_null(False)
    return judged.mutate(judged=ibis.literal(1), kept=kept.cast("int8"))


def _breaches(tables: Tables, instants: ir.Table) -> ir.Table:
    """Promises that were not kept; their age counts from when the response was due."""
    late = _promises(tables, instants).filter(ibis._.kept == 0)
    return late.mutate(age_days=age_days(late.promised_at, late.as_of))


def resolved_at(ticket: ir.Table) -> ir.TimestampValue:
    """When the ticket was resolved for good, as far as is known; missing while it is open."""
    # The closing that follows a resolution by itself days later took nobody's time, unless it ended a second round.
    ended_at = ibis.ifelse(
        ticket.reopened_at > ticket.resolved_at,
        ticket.closed_at,
        ibis.coalesce(ticket.resolved_at, ticket.closed_at),
    )
    return ibis.ifelse(ticket.is_open == 1, ibis.null(ended_at.type()), ended_at)


def _medians(tables: Tables, instants: ir.Table) -> ir.Table:
    """Median seconds to the first response and to the resolution, a row each, of tickets opened in 91 days."""
    ticket = tickets_known(tables, instants)
    spans = []
    for what, ended_at in (("response", ticket.first_response_at), ("resolution", resolved_at(ticket))):
        waited = seconds_between(ticket.opened_at, ibis.coalesce(ended_at, ticket.as_of))
        span = ticket.mutate(what=ibis.literal(what), waited=waited, observed=ended_at.notnull().cast("int8"))
        span = span.mutate(duration=masked(span, 91).waited)
        spans.append(span.select("account_id", "as_of", "what", "duration", "observed"))
    medians = km_median(ibis.union(*spans), "seconds", by=("account_id", "as_of", "what"))
    # The window is in the spans already; a median itself has no age.
    return medians.mutate(age_days=ibis.literal(1))


PROMISES = Family(
    name="promises",
    source="tickets",
    owner="support operations",
    rows=_promises,
    measures=(
        Measure("promises_judged_91d", lambda ticket: ticket.judged.sum(), window=91),
        Measure("promises_kept_91d", lambda ticket: ticket.kept.sum(), window=91),
    ),
    ratios=(
        Feature(
            name="sla_met_share_91d",
            formula=lambda row: ratio(row.promises_kept_91d, row.promises_judged_91d),
            label="share of promised response times kept in 91 days",
            meaning="Answered in time / (answered + unanswered past the promise), tickets opened in 91 days.",
            unit="share", window=91, missing="D", sign=-1, group="support", actionable=True,
            needs=("tickets.sla_hours", "tickets.first_response_at"),
            examples=(
                example(7 / 9, "24 hours: 7 in time, 1 after 30, 1 open for 40, 1 open for 5",
                        tickets="ticket_id opened_at first_response_at sla_hours;"
                        "a -9 -9 24; b -9 -9@01:00 24; c -9 -8 24; d -91 -91 24; e -9 -9 24; f -9 -9 24; g -9 -9 24;"
                        "h -9 -8@06:00 24; i -2@08:00 . 24; j -1@19:00 . 24; k -92 -92 24; l -9 -9 ."),
                example(0, "the answer at the instant is not known yet",
                        tickets="ticket_id opened_at first_response_at sla_hours; a -2 0 47.9"),
                example(None, "due only at the instant",
                        tickets="ticket_id opened_at first_response_at sla_hours; a -2 0 48"),
            ),
        ),
    ),
)  # fmt: skip

BREACHES = Family(
    name="breaches",
    source="tickets",
    owner="support operations",
    rows=_breaches,
    measures=(
        Measure("sla_breaches_29to56d", lambda ticket: ticket.days(29, 56).ticket_id.nunique(), window=56),
    ),
    features=(
        Feature(
            name="sla_breaches_28d",
            formula=lambda ticket: ticket.ticket_id.nunique(),
            label="promised response times missed in the last 28 days",
            meaning="Tickets whose promised first response fell due, unanswered, in the 28 days before `as_of`.",
            unit="tickets", window=28, missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.sla_hours", "tickets.first_response_at"),
            examples=(
                example(2, "due unanswered on the days 1 and 28; opened on the day 29",
                        tickets="ticket_id opened_at first_response_at sla_hours;"
                        "a -1 . 23; b -29 -3 24; c -30 . 24; d -9 -8 24"),
                example(0, "due at the instant",
                        tickets="ticket_id opened_at first_response_at sla_hours; a -1 . 24"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="sla_breach_delta_28d",
            formula=lambda row: row.sla_breaches_28d - row.sla_breaches_29to56d,
            label="promised response times missed in 28 days, against the 28 before",
            meaning="sla_breaches_28d minus the breaches of the 28 days before them.",
            unit="tickets", window=28, missing="Z", sign=1, group="support", actionable=True,
            needs=("tickets.sla_hours", "tickets.first_response_at"),
            examples=(
                example(-1, "due on the days 28, 29 and 56, and one on the day 57",
                        tickets="ticket_id opened_at sla_hours; a -29 24; b -30 24; c -57 24; d -58 24"),
                example(0, "one in each window", tickets="ticket_id opened_at sla_hours; a -9 1; b -40 1"),
            ),
        ),
    ),
)  # fmt: skip

WAITS = Family(
    name="waits",
    source="tickets",
    owner="support operations",
    rows=_medians,
    features=(
        Feature(
            name="first_response_median_h_91d",
            formula=lambda wait: wait.seconds.max(where=wait.what == "response") / 3600,
            label="median hours to a first response in 91 days",
            meaning="Kaplan-Meier median from opening to first response, 91 days; unanswered ones open at `as_of`.",
            unit="hours", window=91, missing="E", sign=1, group="support", actionable=True,
            needs=("tickets.first_response_at",),
            examples=(
                example(6, "2, 4, 6, 8 hours, and unanswered for 10 and 30",
                        tickets="ticket_id opened_at first_response_at; a -9 -9@02:00; b -91 -91@04:00; c -9 -9@06:00;"
                        "d -9 -9@08:00; e -1@14:00 .; f -2@18:00 0@02:00; g -92 -92@00:01"),
                example(None, "more than half are unanswered",
                        tickets="ticket_id opened_at first_response_at; a -9 -9@05:00; b -9 .; c -9 .; d -9 ."),
            ),
        ),
        Feature(
            name="resolution_median_h_91d",
            formula=lambda wait: wait.seconds.max(where=wait.what == "resolution") / 3600,
            label="median hours to a resolution in 91 days",
            meaning="Kaplan-Meier median from opening to resolution, tickets of 91 days; open ones open at `as_of`.",
            unit="hours", window=91, missing="E", sign=1, group="support", actionable=True,
            needs=("tickets.done",),
            examples=(
                example(6, "2, 4, 6, 8 hours, and open for 10 and 30",
                        tickets="ticket_id opened_at resolved_at; a -9 -9@02:00; b -91 -91@04:00; c -9 -9@06:00;"
                        "d -9 -9@08:00; e -1@14:00 .; f -2@18:00 0; g -92 -92@00:01"),
                example(96, "until the second round ended, where there was one; else without the closing that follows",
                        tickets="ticket_id opened_at resolved_at reopened_at closed_at; a -9 -8 -7 -5; b -9 -5 . -2"),
                example(None, "opened again and not resolved since",
                        tickets="ticket_id opened_at resolved_at reopened_at; a -9 -8 -7"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (PROMISES, BREACHES, WAITS)
