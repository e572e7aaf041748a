"""The data contract: every source table, its columns, keys and rules, as data.

A column that a table does not carry is missing (null), never zero. Times are UTC; a date is its midnight.
Adding a table or a column is adding a line here; reading, checking and set-aside follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["id", "text", "number", "boolean", "time"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A row for which `broken` holds is set aside under `name`."""

    name: str
    broken: str
    """SQL predicate over the typed columns; null counts as kept."""
    reason: str
    """What is wrong, in words, for the reader of the quarantine."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the contract."""

    name: str
    kind: Kind
    required: bool = False
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """One source table of the contract."""

    name: str
    grain: str
    columns: tuple[Column, ...]
    event: str
    """SQL for `event_at`: when the fact happened. A row counts at instants after it."""
    key: tuple[str, ...] = ()
    any_of: tuple[tuple[str, ...], ...] = ()
    """Of each group at least one column must be there."""
    rules: tuple[Rule, ...] = ()
    costs: str = ""
    """What is missing where the table is."""

    def column(self, name: str) -> Column:
        """The column called `name`."""
        return next(column for column in self.columns if column.name == name)


def _id(name: str, *, required: bool = False) -> Column:
    return Column(name=name, kind="id", required=required)


def _text(name: str, *allowed: str) -> Column:
    return Column(name=name, kind="text", allowed=allowed)


def _time(name: str, *, required: bool = False) -> Column:
    return Column(name=name, kind="time", required=required)


def _flag(name: str) -> Column:
    return Column(name=name, kind="boolean")


LARGEST = 1e11
"""No sum of seats, minutes or money of one row comes near; a larger number is a slip."""


def _number(name: str, *, low: float = -LARGEST, high: float = LARGEST) -> Column:
    return Column(name=name, kind="number", low=low, high=high)


def _order(later: str, earlier: str) -> Rule:
    return Rule(name="time_order", broken=f"{later} < {earlier}", reason=f"{later} must not be before {earlier}")


ACCOUNTS = Table(
    name="accounts",
    grain="account",
    columns=(
        _id("account_id", required=True),
        _text("name"),
        _text("segment"),
        _text("plan"),
        _text("industry"),
        _text("region"),
        _id("csm_id"),
        _id("parent_id"),
        _time("started_at"),
        _number("employees", low=0),
        _text("currency"),
        _time("churned_at"),
        _time("known_at"),
    ),
    key=("account_id", "known_at"),
    event="coalesce(started_at, known_at, timestamp '1970-01-01')",
    rules=(_order("churned_at", "started_at"),),
)

CONTRACTS = Table(
    name="contracts",
    grain="account × contract version",
    columns=(
        _id("account_id", required=True),
        _id("contract_id"),
        _time("start_at", required=True),
        _time("term_end_at"),
        _time("cancelled_at"),
        _time("ended_at"),
        _time("signed_at"),
        _number("notice_days", low=0),
        _flag("auto_renew"),
        _number("term_months", low=0),
        _number("seats", low=0),
        _text("plan"),
        _number("mrr", low=0),
        _number("arr", low=0),
        _number("list_arr", low=0),
        _text("end_reason"),
        _time("known_at"),
    ),
    any_of=(("mrr", "arr"),),
    key=("account_id", "contract_id", "start_at", "known_at"),
    event="coalesce(signed_at, start_at)",
    rules=(_order("term_end_at", "start_at"), _order("ended_at", "start_at")),
    costs="who left is then told by accounts.churned_at alone; price, seats and renewal dates are missing",
)

USAGE = Table(
    name="usage",
    grain="event, or an account(-user) aggregate per day or month",
    columns=(
        _id("account_id", required=True),
        _time("event_at"),
        _time("period_start"),
        _id("user_id"),
        _id("feature_id"),
        _number("quantity", low=0),
        _number("minutes", low=0),
        _flag("is_core"),
        _flag("is_error"),
        _text("kind", "login", "action", "help_view", "export", "job_failed", "integration"),
        _number("n_users", low=0),
        _number("n_features", low=0),
        _time("known_at"),
    ),
    any_of=(("event_at", "period_start"),),
    event="event_at",
    costs="features of usage and adoption are missing, the strongest early signs among them",
)

TICKETS = Table(
    name="tickets",
    grain="ticket",
    columns=(
        _id("ticket_id", required=True),
        _id("account_id", required=True),
        _time("opened_at", required=True),
        _time("first_response_at"),
        _time("resolved_at"),
        _time("closed_at"),
        _time("reopened_at"),
        _number("severity", low=1, high=4),
        _text("topic"),
        _text("channel"),
        _flag("escalated"),
        _number("sla_hours", low=0),
        _number("csat", low=1, high=5),
        _flag("is_complaint"),
        _time("known_at"),
    ),
    key=("ticket_id", "known_at"),
    event="opened_at",
    rules=(
        _order("first_response_at", "opened_at"),
        _order("resolved_at", "opened_at"),
        _order("closed_at", "opened_at"),
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
        _id("account_id", required=True),
        Column(name="kind", kind="text", required=True, allowed=("nps", "csat", "ces")),
        _id("contact_id"),
        _number("score"),
        _number("scale_min"),
        _number("scale_max"),
        _text("polarity", "ease", "effort"),
        _text("trigger"),
        _text("comment"),
        _time("sent_at"),
        _time("responded_at"),
        _time("followed_up_at"),
        _time("known_at"),
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
        _order("responded_at", "sent_at"),
    ),
    costs="features of NPS and CSAT are missing",
)

CONTRACT: tuple[Table, ...] = (ACCOUNTS, CONTRACTS, USAGE, TICKETS, SURVEYS)
"""All tables; accounts first, because the others point to it."""


def table(name: str) -> Table:
    """The contract's table called `name`."""
    return next(table for table in CONTRACT if table.name == name)
