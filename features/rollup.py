"""Usage rolled up once to days: of accounts, of their users, of the product's features.

A rolled-up row keeps `known_at` as the first midnight by which its events were known, so that a late event appears at
the instants that knew it and at no earlier one. `event_at` is the midnight that begins the day; of an aggregate it is
the last day of its period.

account_days    account_id, event_at, known_at: events, quantity, core, minutes, errors, and the events of each kind
user_days       … and user_id: events, core, minutes; `n_users` where the source only counts users
feature_days    … and feature_id and kind: events, core; `n_features` where the source only counts features
"""

from __future__ import annotations

import ibis

from features.sources import CLEAN

_EXACT = "decimal(18, 6)"
"""Sums of decimals are the same in whatever order rows come."""

KINDS = {
    "logins": "login",
    "actions": "action",
    "help_views": "help_view",
    "exports": "export",
    "failed_jobs": "job_failed",
    "integration_events": "integration",
}
"""Column of `account_days` and the `usage.kind` it counts."""


def roll_up(backend: ibis.BaseBackend, usage: str, *, has_core: bool) -> None:
    """Make the three tables from the clean rows of `usage`, a table or a query."""
    # Where nobody said which use is core, all of it is.
    core = f"sum(case when is_core then quantity else 0::{_EXACT} end)" if has_core else "sum(quantity)"
    events = f"""
        select account_id, user_id, feature_id, kind, is_core, is_error, n_users, n_features,
            date_trunc('day', event_at)::timestamp as event_at,
            date_trunc('day', known_at + interval 1 day - interval 1 microsecond)::timestamp as known_at,
            coalesce(quantity, 1)::{_EXACT} as quantity, minutes::{_EXACT} as minutes
        from {usage}"""
    kinds = ", ".join(f"count(*) filter (kind = '{kind}') as {name}" for name, kind in KINDS.items())
    for name, key, values in (
        (
            "account_days",
            "",
            f"sum(quantity) as quantity, sum(minutes) as minutes, count(*) filter (is_error) as errors, {kinds}",
        ),
        ("user_days", ", user_id", "sum(minutes) as minutes, max(n_users) as n_users"),
        ("feature_days", ", feature_id, kind", "max(n_features) as n_features"),
    ):
        backend.raw_sql(
            f"create or replace table {CLEAN}.{name} as select account_id{key}, event_at, known_at, "
            f"count(*) as events, {core}::{_EXACT} as core, {values} from ({events}) "
            f"group by account_id{key}, event_at, known_at"
        )
