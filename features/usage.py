"""How much, how widely and how recently an account uses the product.

Source: `usage`. Needs days: from monthly aggregates these features cannot be told and are missing.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, Measure, log_change, ratio
from features.tables import Tables
from features.windows import Window, known_before

_EARLIER_WINDOWS = range(1, 7)
_LONGEST = 28 * 7


def _recent_days(tables: Tables, instants: ir.Table) -> ir.Table:
    return known_before(tables["account_days"], instants, within_days=_LONGEST)


def _all_days(tables: Tables, instants: ir.Table) -> ir.Table:
    return known_before(tables["account_days"], instants)


def _recent_user_days(tables: Tables, instants: ir.Table) -> ir.Table:
    return known_before(tables["user_days"], instants, within_days=28)


def _core_before(number: int) -> Measure:
    """Core use of the `number`-th 28-day window before the last one."""
    first = 28 * number + 1
    return Measure(f"core_28d_{number}_before", lambda day: day.days(first, first + 27).core.sum(), window=_LONGEST)


def _own_z(row: ir.Table) -> ir.FloatingValue:
    """Distance of the last 28 days from the account's own earlier windows, in (population sd + 1)."""
    held = [row.tenure_days >= 28 * (number + 1) for number in _EARLIER_WINDOWS]
    counts = [row[f"core_28d_{number}_before"].cast("double") for number in _EARLIER_WINDOWS]
    n = reduce(add, [known.cast("int8").cast("double") for known in held])
    mean = reduce(add, [known.ifelse(x, 0.0) for known, x in zip(held, counts, strict=True)]) / n.nullif(0.0)
    squares = [known.ifelse((x - mean) * (x - mean), 0.0) for known, x in zip(held, counts, strict=True)]
    deviation = (reduce(add, squares) / n.nullif(0.0)).sqrt()
    value = (row.core_28d.cast("double") - mean) / (deviation + 1)
    return (n >= 3).ifelse(value, ibis.null("double"))


USAGE = Family(
    name="usage",
    source="usage",
    owner="product analytics",
    rows=_recent_days,
    measures=(
        Measure("core_28d", lambda day: day.core.sum(), window=28),
        Measure("core_91d", lambda day: day.core.sum(), window=91),
        Measure("minutes_28d", lambda day: day.minutes.sum(), window=28),
        *(_core_before(number) for number in _EARLIER_WINDOWS),
    ),
    features=(
        Feature(
            name="active_days_28d",
            formula=lambda day: day.event_at.nunique(),
            label="days with use in the last 28",
            meaning="Days with any event in the 28 days before `as_of`.",
            unit="days", window=28, missing="Z", sign=-1, group="usage", actionable=True, needs=("usage.day",),
            examples=(
                example(2, "two uses on one day are one day", usage="event_at; -1@08:00; -1@09:00; -28; -29"),
                example(0, "nobody used it", usage=""),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="usage_trend_28v91",
            formula=lambda row: log_change(row.core_28d, row.core_91d - row.core_28d, scale=28 / 63),
            label="core use of the last 28 days against the 63 days before",
            meaning="ln((x28 + 1) / ((x91 - x28) · 28/63 + 1)) over core events.",
            unit="log ratio", window=91, missing="H", sign=-1, group="usage", actionable=True, needs=("usage.day",),
        ),
        Feature(
            name="usage_own_z_28d",
            formula=_own_z,
            label="core use against the account's own six months before",
            meaning="(x28 - mean of the six earlier 28-day windows) / (their population sd + 1); 3 windows needed.",
            unit="sd", window=112, missing="H", sign=-1, group="usage", actionable=True, needs=("usage.day",),
        ),
    ),
)  # fmt: skip

RECENCY = Family(
    name="recency",
    source="usage",
    owner="product analytics",
    rows=_all_days,
    features=(
        Feature(
            name="days_since_last_login",
            formula=lambda day: day.age_days.min(),
            label="days since the last use",
            meaning="Days from the last event to `as_of`; 1 for yesterday.",
            unit="days", missing="E", sign=1, group="usage", actionable=True, needs=("usage.day",),
        ),
        Feature(
            name="days_since_core_use",
            formula=lambda day: day.age_days.min(where=day.core > 0),
            label="days since the last core use",
            meaning="Days from the last core event to `as_of`; 1 for yesterday.",
            unit="days", missing="E", sign=1, group="usage", actionable=True, needs=("usage.day",),
        ),
    ),
)  # fmt: skip


def _users(day: Window) -> ir.NumericValue:
    """Distinct users; where the source only counts them, the largest count of the window."""
    return ibis.coalesce(day.user_id.nunique().nullif(0).cast("double"), day.n_users.max())


USERS = Family(
    name="users",
    source="usage",
    owner="product analytics",
    rows=_recent_user_days,
    features=(
        Feature(
            name="active_users_7d",
            formula=_users,
            label="active users in the last 7 days",
            meaning="Distinct users with an event in the 7 days before `as_of`.",
            unit="users", window=7, missing="Z", sign=-1, group="usage", actionable=True,
            needs=("usage.day", "usage.users"),
        ),
        Feature(
            name="active_users_28d",
            formula=_users,
            label="active users in the last 28 days",
            meaning="Distinct users with an event in the 28 days before `as_of`.",
            unit="users", window=28, missing="Z", sign=-1, group="usage", actionable=True,
            needs=("usage.day", "usage.users"),
        ),
    ),
    ratios=(
        Feature(
            name="core_actions_per_user_28d",
            formula=lambda row: ratio(row.core_28d, row.active_users_28d),
            label="core actions per active user in the last 28 days",
            meaning="Core events / active users, 28 days.",
            unit="per user", window=28, missing="D", sign=-1, group="usage", actionable=True,
            needs=("usage.day", "usage.users"),
        ),
        Feature(
            name="wau_mau_ratio_28d",
            formula=lambda row: ratio(row.active_users_7d, row.active_users_28d),
            label="share of the month's users who were active in the last week",
            meaning="active_users_7d / active_users_28d.",
            unit="share", window=28, missing="D", sign=-1, group="usage", actionable=True,
            needs=("usage.day", "usage.users"),
        ),
        Feature(
            name="seat_utilisation_28d",
            formula=lambda row: ratio(row.active_users_28d, row.seats),
            label="share of the seats in use",
            meaning="active_users_28d / seats held at `as_of`; above 1 where more users than seats were active.",
            unit="share", window=28, missing="D", sign=-1, group="adoption", actionable=True,
            needs=("usage.day", "usage.users", "contracts.seats"),
        ),
        Feature(
            name="active_minutes_28d",
            formula=lambda row: ratio(row.minutes_28d, row.active_users_28d),
            label="minutes per active user in the last 28 days",
            meaning="Minutes / active users, 28 days; long may mean stuck.",
            unit="minutes", window=28, missing="D", sign=0, group="usage", actionable=False,
            needs=("usage.day", "usage.users", "usage.minutes"),
        ),
    ),
)  # fmt: skip

FAMILIES = (USAGE, RECENCY, USERS)
