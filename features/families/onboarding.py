"""How far an account has come since it signed: the steps of its onboarding, and the service it got then.

Sources: `milestones` in the version known at `as_of`, and `tickets`, `touches` and `opportunities` around the start.
A step is required unless its row says otherwise; one completed at or after `as_of` is open.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.value import starts
from features.family import Family, Feature, Measure, ratio
from features.tables import Tables
from features.windows import age_days, known_before, known_outcome, newest_before

ONBOARDING_DAYS = 90
_POST_SALE_DAYS = 60


def steps_known(tables: Tables, instants: ir.Table) -> ir.Table:
    """Each step of the onboarding, as `milestone`, in the version known at the instant."""
    latest = newest_before(tables["milestones"].rename(milestone="step"), instants, "milestone")
    done_at = known_outcome(latest.completed_at, latest.as_of)
    is_required = latest.required.fill_null(True)
    is_open = is_required & done_at.isnull()
    due_age = age_days(latest.due_at, latest.as_of)
    nothing = ibis.null(due_age.type())
    return latest.mutate(
        is_required=is_required.cast("int8"),
        is_open=is_open.cast("int8"),
        overdue=ibis.ifelse(is_open & (latest.due_at < latest.as_of), due_age, nothing),
        due_age=ibis.ifelse(is_required, due_age, nothing),
        done_age=age_days(done_at, latest.as_of),
        required_done_age=ibis.ifelse(is_required, age_days(done_at, latest.as_of), nothing),
    )


def _delay(row: ir.Table) -> ir.NumericValue:
    """Days from the last planned end of a required step to the last actual one, or to now while one is open."""
    return row.step_due_age - ibis.ifelse(row.steps_open > 0, 0, row.step_required_done_age)


def _stuck(row: ir.Table) -> ir.NumericValue:
    since = ibis.least(ibis.coalesce(row.step_done_age, row.tenure_days), row.tenure_days)
    return ibis.ifelse(row.steps_open > 0, since, 0)


def _since_start(rows: ir.Table, tables: Tables, instants: ir.Table, *, days: int) -> ir.Table:
    """The rows known at each instant that happened in the first `days` days of the account."""
    seen = known_before(rows, instants)
    begun = starts(tables, instants).view()
    joined = seen.join(begun, ["account_id", "as_of"])
    since = age_days(joined.start_at, joined.event_at)
    return joined.filter(since.between(0, days - 1))


def _first_tickets(tables: Tables, instants: ir.Table) -> ir.Table:
    return _since_start(tables["tickets"], tables, instants, days=ONBOARDING_DAYS)


def _first_users(tables: Tables, instants: ir.Table) -> ir.Table:
    return _since_start(tables["user_days"], tables, instants, days=ONBOARDING_DAYS)


def _first_touches(tables: Tables, instants: ir.Table) -> ir.Table:
    touches = tables["touches"]
    proactive = touches.filter(touches.kind.strip().lower() == "proactive")
    seen = _since_start(proactive, tables, instants, days=_POST_SALE_DAYS)
    return seen.mutate(touch=ibis.literal(1))


def _deals(tables: Tables, instants: ir.Table) -> ir.Table:
    """The last deal opened before the first contract was signed; earlier ones were lost."""
    deals = tables["opportunities"]
    deals = deals.filter(deals.kind.fill_null("").strip().lower() != "renewal")
    seen = known_before(deals, instants)
    signed = starts(tables, instants).view()
    joined = seen.join(signed, ["account_id", "as_of"])
    before = joined.filter(joined.opened_at <= joined.signed_at)
    return before.mutate(took=age_days(before.opened_at, before.signed_at))


STEPS = Family(
    name="onboarding_steps",
    source="milestones",
    owner="customer success operations",
    rows=steps_known,
    measures=(
        Measure("steps_required", lambda step: step.is_required.sum()),
        Measure("steps_open", lambda step: step.is_open.sum()),
        Measure("step_done_age", lambda step: step.done_age.min(), missing="E"),
        Measure("step_due_age", lambda step: step.due_age.min(), missing="E"),
        Measure("step_required_done_age", lambda step: step.required_done_age.min(), missing="E"),
    ),
    features=(
        Feature(
            name="onboarding_overdue_days",
            formula=lambda step: step.overdue.max(),
            label="days the oldest open onboarding step is overdue",
            meaning="Days since the earliest due date of a required step that is open at `as_of`; 0 if none is due.",
            unit="days", missing="Z", sign=1, group="onboarding", actionable=True,
            needs=("milestones.due_at",),
            examples=(
                example(20, "b is open until the instant; what is done or not required is not overdue",
                        milestones="step required due_at completed_at;"
                        "a yes -40 -30; b yes -20 0; c no -50 .; d . -9 ."),
                example(0, "due at the instant", milestones="step required due_at completed_at; a yes 0 ."),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="onboarding_done_share",
            formula=lambda row: ratio(row.steps_required - row.steps_open, row.steps_required),
            label="share of the onboarding steps done",
            meaning="Required steps done / required steps.",
            unit="share", missing="D", sign=-1, group="onboarding", actionable=True,
            needs=("milestones.completed_at",),
            examples=(
                example(0.5, "done, open, and one that does not count",
                        milestones="step required completed_at; a yes -3; b . .; c no -2"),
                example(0, "a version of after the instant says it is done",
                        milestones="step completed_at event_at known_at; a . -30 -30; a -2 -30 0@01:00"),
                example(None, "no step is required", milestones="step required completed_at; a no -3"),
            ),
        ),
        Feature(
            name="days_stuck_on_step",
            formula=_stuck,
            label="days since the last onboarding step was done",
            meaning="Days from the last step done, or from the start where none is, to `as_of`, while a required step "
            "is open; else 0.",
            unit="days", missing="Z", sign=1, group="onboarding", actionable=True,
            needs=("milestones.completed_at",),
            examples=(
                example(25, "since a, though c is not required", contracts="start_at mrr; -60 100",
                        milestones="step required completed_at; a yes -40; b yes .; c no -25"),
                example(60, "nothing done since the start", contracts="start_at mrr; -60 100",
                        milestones="step completed_at; a ."),
                example(0, "all done", milestones="step completed_at; a -40"),
            ),
        ),
        Feature(
            name="delivery_delay_days",
            formula=_delay,
            label="days the onboarding is later than planned",
            meaning="Last completion of a required step, or `as_of` while one is open, minus the last planned one; "
            "below 0 where it is early or not yet due.",
            unit="days", missing="E", sign=1, group="onboarding", actionable=True,
            needs=("milestones.due_at", "milestones.completed_at"),
            examples=(
                example(10, "planned for day 30 before, done on day 20",
                        milestones="step required due_at completed_at; a yes -50 -55; b yes -30 -20; c no -10 ."),
                example(-15, "one step is open and due in 15 days",
                        milestones="step due_at completed_at; a -50 -55; b 15 ."),
                example(None, "nothing was planned", milestones="step due_at completed_at; a . -3"),
            ),
        ),
    ),
)  # fmt: skip

FIRST_USERS = Family(
    name="onboarding_users",
    source="usage",
    owner="customer success operations",
    rows=_first_users,
    measures=(
        Measure(
            "users_first_90d",
            lambda day: ibis.coalesce(day.user_id.nunique().nullif(0).cast("double"), day.n_users.max()),
        ),
    ),
)

FIRST_TICKETS = Family(
    name="onboarding_tickets",
    source="tickets",
    owner="customer success operations",
    rows=_first_tickets,
    measures=(Measure("tickets_first_90d", lambda ticket: ticket.ticket_id.nunique()),),
    ratios=(
        Feature(
            name="onboarding_tickets_per_user",
            formula=lambda row: ratio(row.tickets_first_90d, row.users_first_90d),
            label="tickets per active user in the first 90 days",
            meaning="Tickets opened in the first 90 days of the account / users active then.",
            unit="per user", missing="D", sign=1, group="onboarding", actionable=True,
            needs=("usage.day", "usage.users"),
            examples=(
                example(1.5, "days 0 and 89 count, what came before or later does not",
                        contracts="start_at mrr; -200 100", usage="event_at user_id; -200 u; -150 v; -110 w",
                        tickets="ticket_id opened_at; 1 -201; 2 -200; 3 -160; 4 -111; 5 -110"),
                example(None, "nobody used it",
                        contracts="start_at mrr; -200 100", tickets="ticket_id opened_at; 6 -190"),
            ),
        ),
    ),
)  # fmt: skip

FIRST_TOUCHES = Family(
    name="onboarding_touches",
    source="touches",
    owner="customer success operations",
    rows=_first_touches,
    features=(
        Feature(
            name="post_sale_touches_60d",
            formula=lambda touch: touch.touch.sum(),
            label="times we reached out in the first 60 days",
            meaning="Touches of the kind proactive in the first 60 days of the account.",
            unit="touches", missing="Z", sign=-1, group="onboarding", actionable=True,
            needs=("touches.kind",),
            examples=(
                example(2, "days 0 and 59; a reply of ours is reactive", contracts="start_at mrr; -200 100",
                        touches="event_at kind; -201 proactive; -200@09:00 proactive; -180 reactive;"
                        "-141 Proactive; -140 proactive"),
                example(0, "none so far", contracts="start_at mrr; -20 100", touches="event_at kind; 0 proactive"),
            ),
        ),
    ),
)  # fmt: skip

DEALS = Family(
    name="deals",
    source="opportunities",
    owner="revenue operations",
    rows=_deals,
    features=(
        Feature(
            name="sales_cycle_days",
            formula=lambda deal: deal.took.min(),
            label="days from the deal's opening to the first signature",
            meaning="Days from the opening of the last deal before the first contract, renewals apart, to its signing.",
            unit="days", missing="E", sign=0, group="context", actionable=False,
            needs=("contracts.signed_at",),
            examples=(
                example(45, "the deal of a year before was lost", contracts="start_at signed_at mrr; -100 -110 100",
                        opportunities="opportunity_id kind opened_at; o new -500; p new -155; q new -20"),
                example(None, "no deal on file", contracts="start_at signed_at mrr; -100 -110 100",
                        opportunities="opportunity_id kind opened_at; o renewal -155"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (STEPS, FIRST_USERS, FIRST_TICKETS, FIRST_TOUCHES, DEALS)
