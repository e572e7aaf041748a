"""What it costs the customer to get something done: tickets closed in vain or opened again, uneven and worse service.

Source: `tickets` as `tickets_known` tells them. A closed ticket is as old as its end: its resolution, or while it is
open again the closing before.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.service import resolved_at
from features.families.support import tickets_known
from features.families.versions import seconds_between
from features.family import Family, Feature, Measure, flag, ratio
from features.tables import Tables
from features.windows import Window, age_days, known_before

SLOWER = 1.5
"""A resolution that took so many times as long as the one before went worse."""
_LEAST_TO_VARY = 3


def _closings(tables: Tables, instants: ir.Table) -> ir.Table:
    """Tickets that were closed, newest first (`recency` 0) and those that are open again last; aged by their end."""
    ticket = tickets_known(tables, instants)
    solved_at = resolved_at(ticket)
    ended_at = ibis.coalesce(solved_at, ticket.done_at)
    closed = ticket.mutate(
        ended_at=ended_at,
        age_days=age_days(ended_at, ticket.as_of),
        seconds=seconds_between(ticket.opened_at, solved_at).cast("decimal(38, 0)"),
    ).filter(ended_at.notnull())
    order = [closed.is_open, closed.ended_at.desc(), closed.ticket_id.desc()]
    newest_first = ibis.window(group_by=["account_id", "as_of"], order_by=order)
    before = closed.seconds.lead().over(newest_first)
    return closed.mutate(
        closing=ibis.literal(1),
        resolution=1 - closed.is_open,
        was_reopened=closed.reopened_at.notnull().cast("int8"),
        is_unfulfilled=((closed.is_open == 0) & ~closed.fulfilled).fill_null(False).cast("int8"),
        squares=closed.seconds * closed.seconds,
        recency=ibis.row_number().over(newest_first),
        is_slower=((closed.seconds > before) & (closed.seconds >= before * SLOWER)).cast("int8"),
    )


def _variation(closing: Window) -> ir.FloatingValue:
    """Population sd / mean of the seconds to a resolution, from sums without rounding: sqrt(n Σx² - (Σx)²) / Σx."""
    n, total = closing.seconds.count(), closing.seconds.sum()
    spread = (closing.squares.sum() * n - total * total).cast("double").sqrt()
    return ibis.ifelse(n >= _LEAST_TO_VARY, ratio(spread, total), ibis.null("double"))


def _is_second_worse(row: ir.Table) -> ir.FloatingValue:
    """Of speed and satisfaction, those that can be compared; missing where neither can."""
    slower = ibis.coalesce(row.is_last_resolution_slower, row.is_last_csat_lower)
    lower = ibis.coalesce(row.is_last_csat_lower, row.is_last_resolution_slower)
    return flag((slower == 1) | (lower == 1))


def _after_help(tables: Tables, instants: ir.Table) -> ir.Table:
    """Tickets opened on the day of a help view or the day after."""
    ticket = tickets_known(tables, instants)
    days = tables["account_days"]
    views = known_before(days.filter(days.help_views > 0), instants, within_days=29)
    views = views.select("account_id", "as_of", viewed_at="event_at")
    same = [ticket.account_id == views.account_id, ticket.as_of == views.as_of]
    near = age_days(views.viewed_at, ticket.opened_at).between(0, 1)
    return ticket.semi_join(views, [*same, near]).mutate(ticket=ibis.literal(1))


CLOSINGS = Family(
    name="closings",
    source="tickets",
    owner="support operations",
    rows=_closings,
    measures=(
        Measure("tickets_closed_91d", lambda closing: closing.closing.sum(), window=91),
        Measure("tickets_resolved_91d", lambda closing: closing.resolution.sum(), window=91),
        Measure("tickets_reopened_91d", lambda closing: closing.was_reopened.sum(), window=91),
        Measure(
            "is_last_resolution_slower",
            lambda closing: closing.is_slower.max(where=(closing.recency == 0) & (closing.is_open == 0)),
            missing="E",
        ),
    ),
    features=(
        Feature(
            name="resolution_cv_182d",
            formula=_variation,
            label="how much the time to a resolution varied in 182 days",
            meaning="Population sd / mean of the hours to a resolution, over 3 or more tickets resolved in 182 days.",
            unit="ratio", window=182, missing="D", sign=1, group="support", actionable=True,
            needs=("tickets.done",),
            examples=(
                example(0.2828427125, "12, 24 and 24 hours: sqrt((64 + 16 + 16) / 3) / 20",
                        tickets="ticket_id opened_at resolved_at;"
                        "a -9 -9@12:00; b -9 -8; c -183 -182; d -184 -183; e -3 ."),
                example(0, "always a day", tickets="ticket_id opened_at resolved_at; a -9 -8; b -8 -7; c -7 -6"),
                example(None, "two are too few",
                        tickets="ticket_id opened_at resolved_at; a -9 -8; b -9 -9@12:00; c -9 0"),
            ),
        ),
        Feature(
            name="unfulfilled_requests_182d",
            formula=lambda closing: closing.is_unfulfilled.sum(),
            label="tickets closed without what was asked for in 182 days",
            meaning="Tickets closed in 182 days as not fulfilled, or with wrong information.",
            unit="tickets", window=182, missing="Z", sign=1, group="effort", actionable=True,
            needs=("tickets.fulfilled", "tickets.done"),
            examples=(
                example(1, "by the day of the closing; b is too old, c not closed",
                        tickets="ticket_id opened_at closed_at fulfilled;"
                        "a -300 -182 no; b -300 -183 no; c -9 0 no; d -9 -8 yes; e -9 -8 ."),
                example(0, "open again", tickets="ticket_id opened_at closed_at reopened_at fulfilled; a -9 -8 -7 no"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="is_second_worse",
            formula=_is_second_worse,
            label="last resolution slower, or satisfaction lower, than the one before",
            meaning="The last resolution took 1.5 times the one before or more, or satisfaction fell by 2 of 5 points.",
            unit="0/1", missing="E", sign=1, group="support", actionable=True,
            needs=("tickets.done",),
            examples=(
                example(1, "36 hours after 24", tickets="ticket_id opened_at resolved_at; a -20 -19; b -9 -8@12:00"),
                example(0, "35 hours after 24; the third is not resolved",
                        tickets="ticket_id opened_at resolved_at; a -20 -19; b -9 -8@11:00; c -7 0"),
                example(1, "as fast as before, but a score of 3 after one of 5",
                        tickets="ticket_id opened_at resolved_at csat; a -20 -19 5; b -9 -8 3"),
                example(None, "nothing to compare with", tickets="ticket_id opened_at resolved_at csat; a -20 -19 5"),
            ),
        ),
        Feature(
            name="reopen_rate_91d",
            formula=lambda row: ratio(row.tickets_reopened_91d, row.tickets_closed_91d),
            label="share of closed tickets that were opened again, 91 days",
            meaning="Opened again / closed, tickets whose last known closing lies in the 91 days before `as_of`.",
            unit="share", window=91, missing="D", sign=1, group="effort", actionable=True,
            needs=("tickets.done", "tickets.reopened_at"),
            examples=(
                example(0.1, "3 of 30; closed on the day 92, or still open, counts nowhere",
                        tickets="ticket_id opened_at closed_at reopened_at; a -99 -91 -90; b -9 -5 -1; c -9 -1 -2;"
                        "d -99 -92 -50; e -9 . .; f -9 0 .;" + "".join(f"t{n} -9 -5 .;" for n in range(27))),
                example(0, "opened again at the instant",
                        tickets="ticket_id opened_at closed_at reopened_at; a -9 -5 0"),
                example(None, "none was closed", tickets="ticket_id opened_at closed_at; a -9 ."),
            ),
        ),
        Feature(
            name="touches_per_ticket_91d",
            formula=lambda row: ratio(row.all_touches_91d, row.tickets_resolved_91d),
            label="contacts per resolved ticket in 91 days",
            meaning="Touches in either direction / tickets resolved, 91 days.",
            unit="per ticket", window=91, missing="D", sign=1, group="effort", actionable=True,
            needs=("tickets.done", "touches.event_at"),
            examples=(
                example(3, "60 touches, 20 resolved tickets",
                        tickets="ticket_id opened_at resolved_at; a -9 .; b -99 -92;"
                        + "".join(f"t{n} -92 -91;" for n in range(20)),
                        touches="event_at direction; -92 in;" + "-91 in;" * 40 + "-1 out;" * 20),
                example(None, "none is resolved: opened again",
                        tickets="ticket_id opened_at resolved_at reopened_at; a -9 -8 -7", touches="event_at; -1"),
            ),
        ),
    ),
)  # fmt: skip

HELP = Family(
    name="help",
    source="tickets",
    owner="support operations",
    rows=_after_help,
    measures=(Measure("tickets_after_help_28d", lambda ticket: ticket.ticket.sum(), window=28),),
    ratios=(
        Feature(
            name="kb_view_then_ticket_share_28d",
            formula=lambda row: ratio(row.tickets_after_help_28d, row.tickets_opened_28d),
            label="share of tickets asked after a look into the help, 28 days",
            meaning="Tickets with a help view on their day or the day before / tickets opened, 28 days.",
            unit="share", window=28, missing="D", sign=1, group="effort", actionable=True,
            needs=("usage.day", "usage.kind"),
            examples=(
                example(0.5, "on the day and the day before; not two days before, nor the day after",
                        tickets="ticket_id opened_at; a -28@01:00; b -9@23:00; c -20; d -15; e -29",
                        usage="event_at kind; -29@23:00 help_view; -9@10:00 help_view; -9@11:00 help_view;"
                        "-22 help_view; -14 help_view; -15 login"),
                example(0, "it only logged in", tickets="ticket_id opened_at; a -9", usage="event_at kind; -9 login"),
                example(None, "no ticket", usage="event_at kind; -9 help_view"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (CLOSINGS, HELP)
