"""Usage rolled up once to days: of accounts, of their users, of the product's features.

A rolled-up row keeps `known_at` as the first midnight by which its events were known, so that a late event appears at
the instants that knew it and at no earlier one. `event_at` is the midnight that begins the day; of an aggregate it is
the last day of its period. Sources that come in several files may give several rows for one day; sums, largest values
and distinct counts over them are the same as over one.

account_days    account_id, event_at, known_at: events, quantity, core, minutes, errors, and the events of each kind
user_days       … and user_id: events, core, minutes; `n_users` where the source only counts users
feature_days    … and feature_id and kind: events, core; `n_features` where the source only counts features
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_EXACT = "decimal(18, 6)"
"""Sums of decimals are the same in whatever order rows come."""
_CAP = 999_999_999_999
"""The largest quantity or number of minutes that one row of a roll-up holds."""
_WHOLE = "bigint"

KINDS = {
    "logins": "login",
    "actions": "action",
    "help_views": "help_view",
    "exports": "export",
    "failed_jobs": "job_failed",
    "integration_events": "integration",
}
"""Column of `account_days` and the `usage.kind` it counts."""


@dataclass(frozen=True, kw_only=True)
class Rollup:
    """One of the tables that usage becomes."""

    name: str
    key: tuple[str, ...]
    values: Mapping[str, tuple[str, str]]
    """Column → SQL over events summed to days, and its type."""

    def columns(self) -> dict[str, str]:
        """Column → SQL type, in order."""
        key = {"event_at": "timestamp", "known_at": "timestamp"} | dict.fromkeys(("account_id", *self.key), "varchar")
        return key | {name: kind for name, (_, kind) in self.values.items()}

    def select(self, days: str) -> str:
        """SQL of the rolled-up rows of events summed to days."""
        key = ", ".join(("event_at", "known_at", "account_id", *self.key))
        values = ", ".join(f"({formula})::{kind} as {name}" for name, (formula, kind) in self.values.items())
        return f"select {key}, {values} from {days} group by {key}"


def _capped(total: str) -> str:
    # Not `least`, which would take the cap where there is nothing to sum.
    return f"case when {total} > {_CAP} then {_CAP} else {total} end"


_EVENTS = {"events": ("sum(times)", _WHOLE), "core": (_capped("sum(core)"), _EXACT)}
_MINUTES = {"minutes": (_capped("sum(minutes)"), _EXACT)}

ROLLUPS = (
    Rollup(
        name="account_days",
        key=(),
        values=_EVENTS
        | _MINUTES
        | {"quantity": (_capped("sum(quantity)"), _EXACT)}
        | {"errors": ("coalesce(sum(times) filter (is_error), 0)", _WHOLE)}
        | {name: (f"coalesce(sum(times) filter (kind = '{kind}'), 0)", _WHOLE) for name, kind in KINDS.items()},
    ),
    Rollup(name="user_days", key=("user_id",), values=_EVENTS | _MINUTES | {"n_users": ("max(n_users)", "double")}),
    Rollup(
        name="feature_days", key=("feature_id", "kind"), values=_EVENTS | {"n_features": ("max(n_features)", "double")}
    ),
)


def distinct_events(staged: str, *, has_core: bool, is_aggregate: bool) -> str:
    """SQL of the distinct events of clean rows with the day of each: it came in `rows` rows and counts `times`.

    `said` is all that a row says beside the columns of the contract.

    An event that comes again, to the microsecond and in all it says, was delivered twice and counts once. Where only
    the day is known, and in aggregates, equal rows are different facts.
    """
    once = "false" if is_aggregate else "event_at <> date_trunc('day', event_at)"
    apart = f"case when {once} then null else known_at end"
    # Where nobody said which use is core, all of it is.
    core = "case when is_core then quantity else 0 end" if has_core else "quantity"
    told = "account_id, user_id, feature_id, kind, is_core, is_error, quantity, minutes, n_users, n_features, event_at"
    return f"""
        select account_id, user_id, feature_id, kind, is_error, n_users, n_features, quantity, minutes, rows,
            date_trunc('day', event_at)::timestamp as event_at,
            date_trunc('day', known_at + interval 1 day - interval 1 microsecond)::timestamp as known_at,
            ({core})::{_EXACT} as core, case when {once} then 1 else rows end as times
        from (
            select {told}, said, min(known_at) as known_at, count(*) as rows
            from (
                select * replace (coalesce(quantity, 1)::{_EXACT} as quantity, minutes::{_EXACT} as minutes)
                from ({staged})
            )
            group by {told}, said, {apart}
        )"""


def by_day(events: str) -> str:
    """SQL that sums distinct events to days, so that each roll-up is read off a much smaller table."""
    totals = ", ".join(f"{_capped(f'sum({_repeated(name)})')}::{_EXACT} as {name}" for name in _SUMMED)
    return f"""
        select account_id, user_id, feature_id, kind, is_error, event_at, known_at, sum(rows)::{_WHOLE} as rows,
            sum(times)::{_WHOLE} as times, {totals}, max(n_users) as n_users, max(n_features) as n_features
        from ({events})
        group by account_id, user_id, feature_id, kind, is_error, event_at, known_at"""


_SUMMED = ("core", "minutes", "quantity")


def _repeated(name: str) -> str:
    # Nearly every event is there once: the wide product is left to the others.
    return f"case when times = 1 then {name} else {_capped(f'{name} * times')}::{_EXACT} end"
