"""How much, how steadily and how recently an account uses the product.

Source: `usage`, by the day. From monthly aggregates these features cannot be told and are missing.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, Measure, flag, log_change, ratio
from features.tables import Tables
from features.windows import age_days, gathered_before, known_before

FROZEN_DAYS = 90
"""Days without core use after which an account counts as frozen."""

_EARLIER_WINDOWS = range(1, 7)
_LONGEST = 28 * 7


def _recent_days(tables: Tables, instants: ir.Table) -> ir.Table:
    return known_before(tables["account_days"], instants, within_days=_LONGEST)


def _last_days(tables: Tables, instants: ir.Table) -> ir.Table:
    seen = gathered_before(
        tables["account_days"],
        instants,
        used_at=lambda day: day.event_at.max(),
        core_at=lambda day: day.event_at.max(where=day.core > 0),
    )
    return seen.mutate(used=age_days(seen.used_at, seen.as_of), core_used=age_days(seen.core_at, seen.as_of))


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


def _frozen(row: ir.Table) -> ir.BooleanValue:
    """Whether core use rests, counted from the start where there was none."""
    never = row.days_since_core_use.isnull()
    return ibis.ifelse(never, row.tenure_days >= FROZEN_DAYS, row.days_since_core_use > FROZEN_DAYS)


USAGE = Family(
    name="usage",
    source="usage",
    owner="product analytics",
    rows=_recent_days,
    measures=(
        Measure("core_28d", lambda day: day.core.sum(), window=28),
        Measure("core_91d", lambda day: day.core.sum(), window=91),
        Measure("minutes_28d", lambda day: day.minutes.sum(), window=28),
        Measure("events_7d", lambda day: day.events.sum(), window=7),
        Measure("events_28d", lambda day: day.events.sum(), window=28),
        Measure("errors_7d", lambda day: day.errors.sum(), window=7),
        Measure("errors_28d", lambda day: day.errors.sum(), window=28),
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
                example(2, "two uses on one day are one day; day 29 is out", usage="event_at; -1; -1@9:00; -28; -29"),
                example(0, "nobody used it"),
            ),
        ),
        Feature(
            name="failed_jobs_28d",
            formula=lambda day: day.failed_jobs.sum(),
            label="failed runs in the last 28 days",
            meaning="Events of the kind job_failed in the 28 days before `as_of`.",
            unit="runs", window=28, missing="Z", sign=1, group="reliability", actionable=True,
            needs=("usage.day", "usage.kind"),
            examples=(
                example(2, "one is too old", usage="event_at kind; -3 job_failed; -3 job_failed; -29 job_failed"),
                example(0, "an action is no failed run", usage="event_at kind; -3 action"),
            ),
        ),
        Feature(
            name="bulk_exports_28d",
            formula=lambda day: day.exports.sum(),
            label="full exports of data in the last 28 days",
            meaning="Events of the kind export in the 28 days before `as_of`; who packs up may be leaving.",
            unit="exports", window=28, missing="Z", sign=1, group="engagement", actionable=True,
            needs=("usage.day", "usage.kind"),
            examples=(
                example(1, "the one of the instant itself is not seen", usage="event_at kind; -28 export; 0 export"),
                example(0, "no export", usage="event_at kind; -28 login"),
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
            examples=(
                example(-0.6808770, "ln(41 / 81)", usage="event_at quantity is_core; -1 40 true; -60 180 true"),
                example(0, "100 and 225 are one pace", usage="event_at quantity is_core; -1 100 true; -91 225 true"),
                example(None, "a customer for 90 days", contracts="start_at mrr; -90 1", usage="event_at; -1"),
            ),
        ),
        Feature(
            name="usage_own_z_28d",
            formula=_own_z,
            label="core use against the account's own six months before",
            meaning="(x28 - mean of the six earlier 28-day windows) / (their population sd + 1); 3 windows needed.",
            unit="sd", window=112, missing="H", sign=-1, group="usage", actionable=True, needs=("usage.day",),
            examples=(
                example(-5.3655465, "60 after 100, 110, 90, 105, 95, 100", usage="""event_at quantity is_core;
                    -1 60 true; -29 100 true; -57 110 true; -85 90 true; -113 105 true; -141 95 true; -169 100 true"""),
                example(None, "two windows before", contracts="start_at mrr; -111 1", usage="event_at; -1"),
            ),
        ),
        Feature(
            name="error_rate_7v28",
            formula=lambda row: ratio(row.errors_7d, row.events_7d) - ratio(row.errors_28d, row.events_28d),
            label="share of errors in the last week against the last 28 days",
            meaning="Errors / events of 7 days minus errors / events of 28 days.",
            unit="share", window=28, missing="D", sign=1, group="reliability", actionable=True,
            needs=("usage.day", "usage.is_error"),
            examples=(
                example(0.25, "1 of 2 and 1 of 4", usage="event_at is_error; -1 yes; -7 no; -8 no; -28 no; -29 yes"),
                example(None, "no use in the week", usage="event_at is_error; -8 yes"),
            ),
        ),
    ),
)  # fmt: skip

RECENCY = Family(
    name="recency",
    source="usage",
    owner="product analytics",
    rows=_last_days,
    features=(
        Feature(
            name="days_since_last_login",
            formula=lambda day: day.used.min(),
            label="days since the last use",
            meaning="Days from the last event to `as_of`; 1 for yesterday.",
            unit="days", missing="E", sign=1, group="usage", actionable=True, needs=("usage.day",),
            examples=(
                example(3, "the one of the instant is not seen", usage="event_at; -3@23:59; -40; 0"),
                example(None, "never"),
            ),
        ),
        Feature(
            name="days_since_core_use",
            formula=lambda day: day.core_used.min(),
            label="days since the last core use",
            meaning="Days from the last core event to `as_of`; 1 for yesterday.",
            unit="days", missing="E", sign=1, group="usage", actionable=True, needs=("usage.day",),
            examples=(
                example(9, "later use is not core", usage="event_at is_core; -3 no; -9 yes"),
                example(None, "no core use", usage="event_at is_core; -3 no"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="is_frozen_90d",
            formula=lambda row: flag(_frozen(row)),
            label="no core use for 90 days",
            meaning="No core event in the 90 days before `as_of`, nor a start within them.",
            unit="0/1", window=90, missing="F", sign=1, group="usage", actionable=True, needs=("usage.day",),
            examples=(
                example(1, "core use ended 91 days ago", usage="event_at is_core; -91@23:00 yes; -3 no"),
                example(0, "90 days ago is in the window", usage="event_at is_core; -90 yes"),
                example(0, "a new account that has not begun", contracts="start_at mrr; -89 1"),
                example(1, "an older one that never began", contracts="start_at mrr; -90 1"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (USAGE, RECENCY)
