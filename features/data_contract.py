"""The data contract: every source table, its columns, keys and rules.

Adding a table or a column is adding a line here; reading, checking and set-aside follow.
"""

from __future__ import annotations

from features.schema import Column, Rule, Table, flag, ident, number, order, text, time

ACCOUNTS = Table(
    name="accounts",
    grain="account",
    columns=(
        ident("account_id", required=True),
        text("name"),
        text("segment"),
        text("plan"),
        text("industry"),
        text("region"),
        ident("csm_id"),
        ident("parent_id"),
        time("started_at"),
        number("employees", low=0),
        text("currency"),
        time("churned_at"),
        text("trial_type"),
        text("sold_use_case"),
        time("cohort_month"),
        time("known_at"),
    ),
    key=("account_id", "known_at"),
    event="coalesce(started_at, known_at, timestamp '1970-01-01')",
    rules=(order("churned_at", "started_at"),),
)

IDENTITIES = Table(
    name="identities",
    grain="account × its id in another system",
    columns=(
        ident("account_id", required=True),
        ident("source", required=True),
        ident("source_id", required=True),
        time("valid_from_at"),
        time("valid_to_at"),
        time("known_at"),
    ),
    key=("source", "source_id", "account_id", "valid_from_at"),
    event="coalesce(valid_from_at, known_at, timestamp '1970-01-01')",
    rules=(order("valid_to_at", "valid_from_at"),),
    costs="every table must name accounts by account_id",
)

CONTRACTS = Table(
    name="contracts",
    grain="account × contract version",
    columns=(
        ident("account_id", required=True),
        ident("contract_id"),
        time("start_at", required=True),
        time("term_end_at"),
        time("cancelled_at"),
        time("ended_at"),
        time("signed_at"),
        number("notice_days", low=0),
        flag("auto_renew"),
        number("term_months", low=0),
        number("seats", low=0),
        text("plan"),
        number("mrr", low=0),
        number("arr", low=0),
        number("list_arr", low=0),
        number("next_price_change"),
        flag("special_terms"),
        text("end_reason"),
        time("known_at"),
    ),
    any_of=(("mrr", "arr"),),
    key=("account_id", "contract_id", "start_at", "known_at"),
    event="coalesce(signed_at, start_at)",
    rules=(order("term_end_at", "start_at"), order("ended_at", "start_at")),
    costs="who left is then told by accounts.churned_at alone; price, seats and renewal dates are missing",
)

USAGE = Table(
    name="usage",
    grain="event, or an account(-user) aggregate per day or month",
    columns=(
        ident("account_id", required=True),
        time("event_at"),
        time("period_start"),
        ident("user_id"),
        ident("feature_id"),
        number("quantity", low=0),
        number("minutes", low=0),
        flag("is_core"),
        flag("is_error"),
        text("kind", "login", "action", "help_view", "export", "job_failed", "integration"),
        number("n_users", low=0),
        number("n_features", low=0),
        time("known_at"),
    ),
    any_of=(("event_at", "period_start"),),
    event="event_at",
    costs="features of usage and adoption are missing, the strongest early signs among them",
)

TICKETS = Table(
    name="tickets",
    grain="ticket",
    columns=(
        ident("ticket_id", required=True),
        ident("account_id", required=True),
        time("opened_at", required=True),
        time("first_response_at"),
        time("resolved_at"),
        time("closed_at"),
        time("reopened_at"),
        number("severity", low=1, high=4),
        text("topic"),
        text("channel"),
        flag("escalated"),
        flag("fulfilled"),
        number("sla_hours", low=0),
        number("csat", low=1, high=5),
        flag("is_complaint"),
        time("known_at"),
    ),
    key=("ticket_id", "known_at"),
    event="opened_at",
    rules=(
        order("first_response_at", "opened_at"),
        order("resolved_at", "opened_at"),
        order("closed_at", "opened_at"),
    ),
    costs="features of support are missing, and so are scores given after tickets",
)

# A score off its scale is a slip of the hand or of the export; the scale itself must be stated for csat and ces.
_SURVEY_LOW = "coalesce(scale_min, case when kind = 'nps' then 0 end)"
_SURVEY_HIGH = "coalesce(scale_max, case when kind = 'nps' then 10 end)"

SURVEYS = Table(
    name="surveys",
    grain="invitation or answer",
    columns=(
        ident("account_id", required=True),
        Column(name="kind", kind="text", required=True, allowed=("nps", "csat", "ces")),
        ident("contact_id"),
        number("score"),
        number("scale_min"),
        number("scale_max"),
        text("polarity", "ease", "effort"),
        text("trigger"),
        text("comment"),
        time("sent_at"),
        time("responded_at"),
        time("followed_up_at"),
        flag("is_anonymous"),
        text("collected_by"),
        time("known_at"),
    ),
    any_of=(("sent_at", "responded_at"),),
    event="coalesce(sent_at, responded_at)",
    rules=(
        Rule(
            name="scale_missing",
            broken="score is not null and kind in ('csat', 'ces') and (scale_min is null or scale_max is null)",
            reason="a csat or ces score needs scale_min and scale_max",
        ),
        Rule(
            name="scale_missing",
            broken="score is not null and kind = 'ces' and polarity is null",
            reason="a ces score needs its polarity, ease or effort",
        ),
        Rule(
            name="range",
            broken=f"score not between {_SURVEY_LOW} and {_SURVEY_HIGH}",
            reason="score is off its scale",
        ),
        Rule(
            name="range",
            broken="scale_max <= scale_min",
            reason="scale_max must be above scale_min",
        ),
        Rule(
            name="range",
            broken="kind = 'nps' and (coalesce(scale_min, 0) <> 0 or coalesce(scale_max, 10) <> 10)",
            reason="an nps score is on the scale 0 to 10",
        ),
        Rule(
            name="type",
            broken="kind = 'nps' and score <> floor(score)",
            reason="an nps score is a whole number",
        ),
        order("responded_at", "sent_at"),
    ),
    costs="features of NPS and CSAT are missing",
)

INVOICES = Table(
    name="invoices",
    grain="invoice",
    columns=(
        ident("invoice_id", required=True),
        ident("account_id", required=True),
        number("amount", required=True),
        time("issued_at", required=True),
        time("due_at"),
        time("paid_at"),
        time("failed_at"),
        time("disputed_at"),
        flag("prepaid"),
        text("currency"),
        time("known_at"),
    ),
    key=("account_id", "invoice_id", "known_at"),
    event="issued_at",
    rules=(order("failed_at", "issued_at"), order("disputed_at", "issued_at")),
    costs="features of billing are missing",
)

TOUCHES = Table(
    name="touches",
    grain="contact between the account and us",
    columns=(
        ident("account_id", required=True),
        time("event_at", required=True),
        ident("contact_id"),
        ident("csm_id"),
        text("direction", "in", "out"),
        text("kind"),
        text("channel"),
        time("ring_at"),
        time("answered_at"),
        time("replied_at"),
        flag("accepted"),
        text("topic"),
        time("known_at"),
    ),
    event="event_at",
    rules=(order("answered_at", "ring_at"), order("replied_at", "event_at")),
    costs="features of calls, meetings and messages are missing",
)

CONTACTS = Table(
    name="contacts",
    grain="person at the account (× version, with `known_at`)",
    columns=(
        ident("contact_id", required=True),
        ident("account_id", required=True),
        text("role"),
        flag("is_champion"),
        flag("is_sponsor"),
        flag("is_decision_maker"),
        time("left_at"),
        time("event_at"),
        time("known_at"),
    ),
    key=("account_id", "contact_id", "known_at"),
    event="coalesce(event_at, known_at, timestamp '1970-01-01')",
    costs="champion, sponsor and decision maker are unknown",
)

MILESTONES = Table(
    name="milestones",
    grain="onboarding step",
    columns=(
        ident("account_id", required=True),
        ident("step", required=True),
        flag("required"),
        time("due_at"),
        time("completed_at"),
        time("event_at"),
        time("known_at"),
    ),
    key=("account_id", "step", "known_at"),
    event="coalesce(event_at, known_at, timestamp '1970-01-01')",
    costs="features of onboarding are missing",
)

INCIDENTS = Table(
    name="incidents",
    grain="outage × account that it hit",
    columns=(
        ident("account_id", required=True),
        ident("incident_id"),
        time("started_at", required=True),
        time("ended_at"),
        text("cause"),
        time("known_at"),
    ),
    event="started_at",
    rules=(order("ended_at", "started_at"),),
    costs="features of outages are missing",
)

TASKS = Table(
    name="tasks",
    grain="task or meeting planned for the account",
    columns=(
        ident("account_id", required=True),
        ident("task_id"),
        time("event_at", required=True),
        time("due_at", required=True),
        time("done_at"),
        time("known_at"),
    ),
    event="event_at",
    rules=(order("done_at", "event_at"),),
    costs="next actions and overdue tasks are unknown",
)

EMAILS = Table(
    name="emails",
    grain="e-mail sent to the account",
    columns=(
        ident("account_id", required=True),
        time("event_at", required=True),
        flag("delivered"),
        flag("clicked"),
        time("unsubscribed_at"),
        time("known_at"),
    ),
    event="event_at",
    costs="the click rate is missing",
)

ENTITLEMENTS = Table(
    name="entitlements",
    grain="product feature that the account has bought",
    columns=(
        ident("account_id", required=True),
        ident("feature_id", required=True),
        ident("module_id"),
        time("released_at"),
        time("event_at"),
        time("known_at"),
    ),
    event="coalesce(event_at, known_at, timestamp '1970-01-01')",
    costs="what was bought and is not used is unknown",
)

OPPORTUNITIES = Table(
    name="opportunities",
    grain="deal (× stage)",
    columns=(
        ident("account_id", required=True),
        ident("opportunity_id"),
        text("kind"),
        time("opened_at", required=True),
        text("stage"),
        time("stage_entered_at"),
        time("closed_at"),
        time("known_at"),
    ),
    event="coalesce(stage_entered_at, opened_at)",
    costs="the pace of sales and renewals is unknown",
)

GOALS = Table(
    name="goals",
    grain="goal agreed with the account",
    columns=(
        ident("account_id", required=True),
        ident("goal_id"),
        time("event_at", required=True),
        number("target"),
        number("actual"),
        time("known_at"),
    ),
    event="event_at",
    costs="the goals of the account are unknown",
)

ASSIGNMENTS = Table(
    name="assignments",
    grain="time in which a CSM looked after the account",
    columns=(
        ident("account_id", required=True),
        ident("csm_id", required=True),
        time("from_at", required=True),
        time("to_at"),
        time("known_at"),
    ),
    event="from_at",
    rules=(order("to_at", "from_at"),),
    costs="changes of the CSM are unknown",
)

ACTIONS = Table(
    name="actions",
    grain="retention action taken",
    columns=(
        ident("account_id", required=True),
        text("play"),
        time("opened_at", required=True),
        time("done_at"),
        text("outcome"),
        text("arm"),
        number("propensity", low=0, high=1),
        time("known_at"),
    ),
    event="opened_at",
    costs="treated accounts cannot be told apart",
)

HEALTH_SCORES = Table(
    name="health_scores",
    grain="score that the company gave itself: a baseline, never a feature",
    columns=(
        ident("account_id", required=True),
        time("scored_at", required=True),
        number("score", required=True),
        text("source"),
        time("known_at"),
    ),
    event="scored_at",
    costs="the company's own score cannot be compared with",
)

CONTRACT: tuple[Table, ...] = (
    ACCOUNTS, IDENTITIES, CONTRACTS, USAGE, TICKETS, SURVEYS, INVOICES, TOUCHES, CONTACTS, MILESTONES, INCIDENTS,
    TASKS, EMAILS, ENTITLEMENTS, OPPORTUNITIES, GOALS, ASSIGNMENTS, ACTIONS, HEALTH_SCORES,
)  # fmt: skip
"""All tables; accounts first, because the others point to it, then identities, by which they may do so."""


def table(name: str) -> Table:
    """The contract's table called `name`."""
    return next(table for table in CONTRACT if table.name == name)
