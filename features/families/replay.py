"""What is known at an instant of the same account 0, 1, … steps of 28 days before, as the rules of life ask for it.

Every table has account_id, as_of and `back`, the number of steps; `at` is the instant of the step. A row counts at a
step if it happened before `at` and is known at `as_of`; an outcome at or after `at` is blank.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.family import exact
from features.snapshots import contract_versions, end_of
from features.tables import Tables
from features.windows import age_days, known_before, known_outcome

STEP_DAYS = 28
STEPS = 14
"""Steps at which phases are told; one more says what was true 28 days before the first."""
GRACE_DAYS = 30
"""A gap between contracts of so many days is none."""
WON_BACK_DAYS = 90
_USE_DAYS = STEP_DAYS * (STEPS + 1)
_SILENCE_DAYS = _USE_DAYS + 56
"""How far back a last core use is looked for: 91 days before the first step at least."""
_NEVER = "9000-01-01"

LOST, NOTICE, POTENTIAL, WON_BACK = range(4)


def cut(events: ir.Table, instants: ir.Table) -> ir.Table:
    """Each row beside every instant that knows it and every step at which it had happened."""
    known = known_before(events, instants)
    steps = known.mutate(back=ibis.range(STEPS + 1).unnest().cast("int64"))
    steps = steps.mutate(at=steps.as_of - (steps.back * STEP_DAYS).as_interval("D"))
    return steps.filter(steps.event_at < steps.at)


def _newest(steps: ir.Table, *key: str) -> ir.Table:
    order = [steps.known_at.desc(), steps.event_at.desc()]
    newest = ibis.window(group_by=["account_id", *key, "as_of", "back"], order_by=order)
    return steps.mutate(version=ibis.row_number().over(newest)).filter(ibis._.version == 0)


def bought(tables: Tables, instants: ir.Table) -> ir.Table:
    """`contract` (code of a phase that the contracts alone decide, else null), tenure in days and seats."""
    latest = _newest(cut(contract_versions(tables), instants), "contract_id")
    latest = latest.mutate(
        cancelled_at=known_outcome(latest.cancelled_at, latest.at), ended_at=known_outcome(latest.ended_at, latest.at)
    )
    latest = latest.mutate(end_at=end_of(latest))
    live = (latest.start_at < latest.at) & (latest.end_at.isnull() | (latest.end_at > latest.at))
    earlier = ibis.window(
        group_by=["account_id", "as_of", "back"], order_by=latest.start_at, preceding=(None, 1), following=None
    )
    ended_before = ibis.coalesce(latest.end_at, ibis.timestamp(_NEVER)).max().over(earlier)
    latest = latest.mutate(
        is_live=live,
        is_return=latest.start_at > ended_before + ibis.interval(days=GRACE_DAYS),
        # A contract signed but not begun also says that the account goes on.
        is_staying=(live | (latest.start_at >= latest.at)) & latest.cancelled_at.isnull(),
        has_begun=latest.start_at < latest.at,
    )
    found = latest.group_by("account_id", "as_of", "back", "at").agg(
        live=latest.is_live.sum(),
        staying=latest.is_staying.sum(),
        begun=latest.has_begun.sum(),
        last_end_at=latest.end_at.max(),
        first_start_at=latest.start_at.min(),
        returned_at=latest.start_at.max(where=latest.is_return & latest.has_begun),
        seats=exact(latest.seats).sum(where=latest.is_live),
    )
    tenure = age_days(found.first_start_at, found.at)
    return found.select(
        "account_id", "as_of", "back", "seats",
        is_customer=ibis.literal(1, "int8"), contract=_told_by_contract(found), tenure=tenure.cast("int64"),
    )  # fmt: skip


def _told_by_contract(found: ir.Table) -> ir.IntegerValue:
    is_live = found.live > 0
    holds = is_live | (found.last_end_at >= found.at - ibis.interval(days=GRACE_DAYS)).fill_null(False)
    is_back = (age_days(found.returned_at, found.at) < WON_BACK_DAYS).fill_null(False)
    return ibis.cases(
        (found.begun == 0, POTENTIAL),
        (~holds, LOST),
        (found.staying == 0, NOTICE),
        (is_back, WON_BACK),
        else_=ibis.null("int8"),
    ).cast("int64")


def use(tables: Tables, instants: ir.Table) -> ir.Table:
    """`core_age`, days from the step's last core use to `as_of`, and days with use in the 14 before the step."""
    days = known_before(tables["account_days"], instants, within_days=_SILENCE_DAYS)
    days = days.mutate(age=days.age_days.cast("int64"))
    # Late rows of a day stand apart from the others; counting groups is faster than counting what is distinct.
    days = days.group_by("account_id", "as_of", "age").agg(core=days.core.sum())
    days = days.mutate(back=(days.age - 1) // STEP_DAYS)
    late = (days.age - 1) % STEP_DAYS < 14
    return days.group_by("account_id", "as_of", "back").agg(
        core_age=days.age.min(where=days.core > 0), active_days_14=late.cast("int64").sum()
    )


def users(tables: Tables, instants: ir.Table) -> ir.Table:
    """`users` in the 28 days before each step: distinct, or where the source only counts them the largest count."""
    days = known_before(tables["user_days"], instants, within_days=_USE_DAYS)
    days = days.mutate(back=(days.age_days.cast("int64") - 1) // STEP_DAYS)
    each = days.group_by("account_id", "as_of", "back", "user_id").agg(n_users=days.n_users.max())
    return each.group_by("account_id", "as_of", "back").agg(
        users=ibis.coalesce(each.user_id.count().nullif(0).cast("double"), each.n_users.max())
    )


def open_steps(tables: Tables, instants: ir.Table) -> ir.Table:
    """`open_steps`: required steps of the onboarding not done; where nobody says which are required, all are."""
    latest = _newest(cut(tables["milestones"].rename(milestone="step"), instants), "milestone")
    is_open = latest.required.fill_null(True) & known_outcome(latest.completed_at, latest.at).isnull()
    latest = latest.mutate(is_open=is_open.cast("int64"))
    return latest.group_by("account_id", "as_of", "back").agg(open_steps=latest.is_open.sum())


def breadth(tables: Tables, instants: ir.Table) -> ir.Table:
    """`breadth`: bought features with core use in the 28 days before each step / bought features."""
    owned = cut(tables["entitlements"], instants)
    owned = owned.select("account_id", "as_of", "back", "feature_id").distinct()
    days = known_before(tables["feature_days"], instants, within_days=_USE_DAYS)
    days = days.filter(days.core > 0)
    days = days.mutate(back=(days.age_days.cast("int64") - 1) // STEP_DAYS)
    used = days.filter(days.feature_id.notnull()).select("account_id", "as_of", "back", "feature_id").distinct()
    used = used.mutate(is_used=ibis.literal(1, "int64")).view()
    counted = days.group_by("account_id", "as_of", "back").agg(n_features=days.n_features.max()).view()
    both = owned.left_join(used, ["account_id", "as_of", "back", "feature_id"])
    both = both.select("account_id", "as_of", "back", "feature_id", "is_used")
    found = both.group_by("account_id", "as_of", "back").agg(owned=both.count(), used=both.is_used.sum())
    joined = found.left_join(counted, ["account_id", "as_of", "back"])
    used_features = ibis.coalesce(joined.used.cast("double"), joined.n_features, 0.0)
    told = tables.has("usage", "feature_id") or tables.has("usage", "n_features")
    share = used_features / joined.owned.cast("double")
    return joined.select("account_id", "as_of", "back", breadth=share if told else ibis.null("double"))
