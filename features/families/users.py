"""How many people at the account use the product, and how many of them stopped.

Source: `usage`, by user and day. Where the source only counts users, the largest count of a window stands for them.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, ratio
from features.tables import Tables
from features.windows import known_before, masked

_PEOPLE = """event_at user_id; -1 ann; -7 bob; -3 ann; -8 cem; -28 dee; -29 eve"""
"""Two users in the last week, four in 28 days."""


def _people(tables: Tables, instants: ir.Table) -> ir.Table:
    """One row per account, instant and user (one for all who have no name): in which windows they were seen."""
    seen = known_before(tables["user_days"], instants, within_days=56)
    windows = {"week": (1, 7), "month": (1, 28), "month_before": (29, 56)}
    through = {name: masked(seen, 56).days(first, last) for name, (first, last) in windows.items()}
    users = seen.group_by("account_id", "as_of", "user_id").agg(
        **{f"in_{name}": (day.events.count() > 0).cast("int8") for name, day in through.items()},
        **{f"counted_{name}": day.n_users.max() for name, day in through.items()},
    )
    named = users.user_id.notnull().cast("int8")
    return users.mutate(
        age_days=ibis.literal(1),
        **{f"in_{name}": users[f"in_{name}"] * named for name in windows},
        lost=users.in_month_before * (1 - users.in_month) * named,
    )


def _counted(people: ir.IntegerColumn, count: ir.NumericColumn) -> ir.NumericValue:
    return ibis.coalesce(people.sum().nullif(0).cast("double"), count.max())


USERS = Family(
    name="users",
    source="usage",
    owner="product analytics",
    rows=_people,
    features=(
        Feature(
            name="active_users_7d",
            formula=lambda user: _counted(user.in_week, user.counted_week),
            label="active users in the last week",
            meaning="Distinct users with an event in 7 days; of counts without users the largest.",
            unit="users", window=7, missing="Z", sign=-1, group="usage", actionable=True,
            needs=("usage.day", "usage.users"),
            examples=(example(2, usage=_PEOPLE), example(0, "nobody")),
        ),
        Feature(
            name="active_users_28d",
            formula=lambda user: _counted(user.in_month, user.counted_month),
            label="active users in the last 28 days",
            meaning="Distinct users with an event in 28 days; of counts without users the largest.",
            unit="users", window=28, missing="Z", sign=-1, group="usage", actionable=True,
            needs=("usage.day", "usage.users"),
            examples=(example(4, usage=_PEOPLE), example(0, "too long ago", usage="event_at user_id; -29 u")),
        ),
        Feature(
            name="users_lost_share_28d",
            formula=lambda user: ratio(user.lost.sum(), user.in_month_before.sum()),
            label="share of the users of the month before who stayed away",
            meaning="Users active 29 to 56 days before `as_of` and not in the last 28 days / users active then.",
            unit="share", window=28, missing="D", sign=1, group="usage", actionable=True,
            needs=("usage.day", "usage.user_id"),
            examples=(
                example(0.5, "ann came back", usage="event_at user_id; -1 ann; -29 ann; -56 bob; -57 cem; -2 new"),
                example(None, "nobody was there before", usage="event_at user_id; -1 ann"),
            ),
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
            examples=(
                example(1.5, "3 by two users", usage="event_at user_id quantity is_core; -1 ann 3 yes; -2 bob 9 no"),
                example(None, "no users", usage=""),
            ),
        ),
        Feature(
            name="wau_mau_ratio_28d",
            formula=lambda row: ratio(row.active_users_7d, row.active_users_28d),
            label="share of the month's users who were active in the last week",
            meaning="active_users_7d / active_users_28d.",
            unit="share", window=28, missing="D", sign=-1, group="usage", actionable=True,
            needs=("usage.day", "usage.users"),
            examples=(example(0.5, "2 of 4", usage=_PEOPLE), example(None, "no users")),
        ),
        Feature(
            name="seat_utilisation_28d",
            formula=lambda row: ratio(row.active_users_28d, row.seats),
            label="share of the seats in use",
            meaning="active_users_28d / seats held at `as_of`; above 1 where more users than seats were active.",
            unit="share", window=28, missing="D", sign=-1, group="adoption", actionable=True,
            needs=("usage.day", "usage.users", "contracts.seats"),
            examples=(
                example(4 / 3, "more users than seats", usage=_PEOPLE, contracts="start_at mrr seats; -400 1 3"),
                example(None, "no seats", usage=_PEOPLE, contracts="start_at mrr seats; -400 1 0"),
            ),
        ),
        Feature(
            name="active_minutes_28d",
            formula=lambda row: ratio(row.minutes_28d, row.active_users_28d),
            label="minutes per active user in the last 28 days",
            meaning="Minutes / active users, 28 days; long may mean stuck.",
            unit="minutes", window=28, missing="D", sign=0, group="usage", actionable=False,
            needs=("usage.day", "usage.users", "usage.minutes"),
            examples=(
                example(15.25, "two users", usage="event_at user_id minutes; -1 ann 10; -3 bob 20.5; -29 bob 99"),
                example(None, "no users"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (USERS,)
