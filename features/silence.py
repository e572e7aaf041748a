"""Companies without contracts: an account is lost on the last day it used the product before a long silence.

The silence begins (its onset) on the day of the last core use that is followed by `silence_days` of none; a use so
many days later or more does not undo it. At an instant an account is `already_silent` once its last use known then
lies `silence_days` back. Days are those of the roll-up of usage: a use happened at the midnight that begins its day.
"""

from __future__ import annotations

import math
from datetime import datetime

import ibis
import ibis.expr.types as ir

from features.settings import LabelSettings
from features.tables import Tables
from features.windows import beside, gathered_before

ALREADY_SILENT = "already_silent"

BARRED_BY_SILENCE = (
    "days_since_last_login",
    "days_since_core_use",
    "is_frozen_90d",
    "lifecycle_phase",
    "days_in_phase",
)
"""Features that measure the time since the last use: under this label a model would learn its definition from them.
They stay in the feature table, for lists and plays."""


def uses(tables: Tables) -> ir.Table:
    """Days with core use: account_id, event_at, known_at. Where nobody said which use is core, all of it is."""
    days = tables["account_days"]
    return days.filter(days.core > 0).select("account_id", "event_at", "known_at")


def silences(tables: Tables, label: LabelSettings, *, until: datetime | None = None) -> ir.Table:
    """One row per silence that was complete and known by `until`, by default the end of the data.

    Returns
    -------
    table of account_id, `decided_at` (the onset), `known_at` (when the silence was complete, and the last use known),
    `lost_at` (when it was complete) and `resumed_at` (the next use, null if there was none)
    """
    found = uses(tables)
    length = ibis.interval(days=label.silence_days)
    if until is None:
        end = found.event_at.max().as_scalar() + ibis.interval(days=1)
    else:
        end = ibis.timestamp(until)
        found = found.filter((found.event_at < end) & (found.known_at <= end))
    days = found.group_by("account_id", "event_at").agg(known_at=found.known_at.min())
    following = ibis.window(group_by="account_id", order_by="event_at")
    days = days.mutate(resumed_at=days.event_at.lead().over(following), lost_at=days.event_at + length)
    complete = days.filter(ibis.ifelse(days.resumed_at.isnull(), days.lost_at <= end, days.lost_at <= days.resumed_at))
    return complete.select(
        "account_id",
        "lost_at",
        "resumed_at",
        decided_at=complete.event_at,
        known_at=ibis.greatest(complete.known_at, complete.lost_at),
    )


def silent_phases(tables: Tables, instants: ir.Table, label: LabelSettings) -> ir.Table:
    """One row per instant and account with its phase: `potential` (never used so far), `already_silent` or `active`.

    Beside it `resumed_at`, the last use known then.
    """
    seen = gathered_before(uses(tables), instants, used_at=lambda day: day.event_at.max())
    last = seen.group_by("account_id", "as_of").agg(last_use_at=seen.used_at.max())
    everyone = tables["accounts"].select("account_id").distinct().cross_join(instants)
    rows = beside(everyone, last)
    silent = rows.last_use_at <= rows.as_of - ibis.interval(days=label.silence_days)
    phase = ibis.cases((rows.last_use_at.isnull(), "potential"), (silent, ALREADY_SILENT), else_="active")
    return rows.select("account_id", "as_of", phase=phase, resumed_at=rows.last_use_at)


def running_at(active: ir.Table, silences: ir.Table) -> ir.Table:
    """The rows of `active` (account_id, as_of) that lie within a silence, though nobody could know it then."""
    pairs = active.join(silences, "account_id")
    within = (pairs.decided_at < pairs.as_of) & (pairs.resumed_at.isnull() | (pairs.resumed_at >= pairs.as_of))
    return pairs.filter(within).select("account_id", "as_of").distinct()


def usage_delay_days(tables: Tables, *, quantile: float) -> int:
    """Days within which the given share of use was known, rounded up: a late use may break a silence."""
    rows = uses(tables)
    seconds = (rows.known_at.epoch_seconds() - rows.event_at.epoch_seconds() - 86_400).quantile(quantile)
    found = seconds.to_pyarrow().as_py()
    return 0 if found is None else max(0, math.ceil(found / 86_400))
