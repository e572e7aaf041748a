"""Usage events rolled up once to account-days and account-user-days.

A rolled-up row keeps `known_at` as the first midnight by which its events were known, so that a late event appears at
the instants that knew it and at no earlier one. `event_at` is the midnight that begins the day.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.family import exact
from features.sources import is_stored, stored
from features.tables import Tables


def usage_days(tables: Tables) -> ir.Table:
    """One row per account, day and `known_at`: quantity of use, of core use, minutes."""
    events = _events(tables)
    days = events.group_by("account_id", "event_at", "known_at").agg(
        core=events.core.sum(), minutes=events.minutes.sum()
    )
    return _once(tables, "usage_days", days)


def user_days(tables: Tables) -> ir.Table:
    """One row per account, user, day and `known_at`; `n_users` instead of users where the source only counts them."""
    events = _events(tables)
    days = events.group_by("account_id", "user_id", "event_at", "known_at").agg(n_users=events.n_users.max())
    return _once(tables, "user_days", days)


def _events(tables: Tables) -> ir.Table:
    usage = tables["usage"]
    quantity = exact(usage.quantity.fill_null(1.0))
    # Where nobody said which use is core, all of it is.
    core = ibis.ifelse(usage.is_core, quantity, 0) if tables.has("usage", "is_core") else quantity
    midnight = usage.known_at.truncate("D")
    return usage.select(
        "account_id",
        "user_id",
        event_at=usage.event_at.truncate("D"),
        known_at=ibis.ifelse(midnight < usage.known_at, midnight + ibis.interval(days=1), midnight),
        core=core,
        minutes=exact(usage.minutes),
        n_users=usage.n_users,
    )


def _once(tables: Tables, name: str, rows: ir.Table) -> ir.Table:
    """`rows` computed once per open company."""
    if is_stored(tables.backend, name):
        return tables.backend.table(name)
    return stored(tables.backend, name, rows)
