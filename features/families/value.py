"""When an account reaches value, and whether it uses what it was sold.

Sources: `usage`, with the starts and signatures of `contracts`. Value is reached on the first core use, which may lie
before the start of the contract; an account is activated once its required onboarding steps are done as well.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, Measure, flag, ratio
from features.snapshots import contracts_known
from features.tables import Tables
from features.windows import age_days, beside, gathered_before, known_before, newest_before


def starts(tables: Tables, instants: ir.Table) -> ir.Table:
    """`start_at` of each account's first contract and `signed_at`, its first signature, as known at the instant."""
    known = contracts_known(tables, instants)
    begun = known.filter(known.start_at < known.as_of)
    return begun.group_by("account_id", "as_of").agg(start_at=begun.start_at.min(), signed_at=begun.signed_at.min())


def time_to_value(tables: Tables, instants: ir.Table) -> ir.Table:
    """Per account: `start_at`, `is_reached` (1 or 0) and `value_days` from the start to value, or so far without."""
    days = tables["account_days"]
    core = gathered_before(days.filter(days.core > 0), instants, reached_at=lambda day: day.event_at.min())
    first = core.group_by("account_id", "as_of").agg(reached_at=core.reached_at.min())
    rows = beside(starts(tables, instants), first)
    since = age_days(rows.start_at, ibis.coalesce(rows.reached_at, rows.as_of))
    # Greatest of a number and 0 by hand: engines differ in what they make of missing values.
    return rows.mutate(
        is_reached=rows.reached_at.notnull().cast("int8"), value_days=ibis.ifelse(since < 0, since * 0, since)
    )


def _first_uses(tables: Tables, instants: ir.Table) -> ir.Table:
    """Days from the first signature to the first use since, or to the instant where there is none."""
    signed = starts(tables, instants)
    signed = signed.filter(signed.signed_at.notnull())
    days = known_before(tables["account_days"], instants)
    joined = days.join(signed.view(), ["account_id", "as_of"])
    since = joined.filter(joined.event_at.date() >= joined.signed_at.date())
    first = since.group_by("account_id", "as_of").agg(used_at=since.event_at.min())
    rows = beside(signed, first)
    return rows.mutate(took=age_days(rows.signed_at, ibis.coalesce(rows.used_at, rows.as_of)))


def _sold(tables: Tables, instants: ir.Table) -> ir.Table:
    """The features of the module that stands for the sold use case, and whether each was used in 28 days."""
    sold = newest_before(tables["accounts"], instants)
    sold = sold.select("account_id", "as_of", module=sold.sold_use_case.strip().lower())
    owned = known_before(tables["entitlements"], instants)
    both = owned.join(sold.view(), ["account_id", "as_of"])
    owned = both.filter(both.module_id.strip().lower() == both.module)
    owned = owned.select("account_id", "as_of", "feature_id").distinct()
    days = known_before(tables["feature_days"], instants, within_days=28)
    used = days.select("account_id", "as_of", "feature_id").distinct().mutate(is_used=ibis.literal(1)).view()
    found = owned.left_join(used, ["account_id", "as_of", "feature_id"])
    return found.select("account_id", "as_of", is_used=found.is_used.fill_null(0))


VALUE = Family(
    name="value",
    source="usage",
    owner="customer success operations",
    rows=time_to_value,
    measures=(Measure("value_reached", lambda row: row.is_reached.max()),),
    features=(
        Feature(
            name="days_without_value",
            formula=lambda row: row.value_days.max(where=row.is_reached == 0),
            label="days without a first core use",
            meaning="Days from the start to `as_of` while value, the first core use, is not reached; else 0.",
            unit="days", missing="Z", sign=1, group="onboarding", actionable=True, needs=("usage.day",),
            examples=(
                example(40, "only use that is not core", contracts="start_at mrr; -40 100",
                        usage="event_at is_core; -3 false"),
                example(0, "reached in the trial",
                        contracts="start_at mrr; -40 100", usage="event_at is_core; -50 true"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="is_activated",
            formula=lambda row: flag((row.value_reached > 0) & (ibis.coalesce(row.steps_open, 0) == 0)),
            label="activated",
            meaning="Value, the first core use, is reached and every required onboarding step is done; without "
            "milestones value alone.",
            unit="0/1", missing="F", sign=-1, group="onboarding", actionable=True,
            examples=(
                example(1, "used, and the one required step is done", usage="event_at is_core; -3 true",
                        milestones="step required completed_at; a yes -9; b no ."),
                example(0, "done only at the instant", usage="event_at is_core; -3 true",
                        milestones="step required completed_at; a yes 0"),
                example(0, "never used", usage="event_at is_core; -3 false"),
            ),
        ),
        Feature(
            name="activation_progress",
            formula=lambda row: ratio(
                ibis.coalesce(row.steps_required - row.steps_open, 0) + row.value_reached,
                ibis.coalesce(row.steps_required, 0) + 1,
            ),
            label="share of the way to activation",
            meaning="Required onboarding steps done, and one more for the first core use / as many as there are.",
            unit="share", missing="D", sign=-1, group="onboarding", actionable=True,
            examples=(
                example(2 / 3, "used and one of two steps done", usage="event_at is_core; -3 true",
                        milestones="step completed_at; a -9; b ."),
                example(0, "no step is on file and nothing was used"),
            ),
        ),
    ),
)  # fmt: skip

FIRST_USE = Family(
    name="first_use",
    source="contracts",
    owner="customer success operations",
    rows=_first_uses,
    features=(
        Feature(
            name="signed_to_first_use_days",
            formula=lambda row: row.took.max(),
            label="days from the signature to the first use",
            meaning="Days from the first signature to the first use from that day on, or to `as_of` without one.",
            unit="days", missing="E", sign=1, group="onboarding", actionable=True,
            needs=("contracts.signed_at", "usage.day"),
            examples=(
                example(12, "a trial before does not count", contracts="start_at signed_at mrr; -50 -60 100",
                        usage="event_at is_core; -70 true; -48 false"),
                example(60, "running", contracts="start_at signed_at mrr; -50 -60 100", usage="event_at; 0"),
                example(None, "the signature is not on file", contracts="start_at signed_at mrr; -50 . 100"),
            ),
        ),
    ),
)  # fmt: skip

SOLD = Family(
    name="sold",
    source="entitlements",
    owner="customer success operations",
    rows=_sold,
    features=(
        Feature(
            name="is_sold_use_case_unused",
            formula=lambda owned: 1 - owned.is_used.max(),
            label="what it was sold is not used",
            meaning="No use in 28 days of any feature of the module named as the sold use case.",
            unit="0/1", missing="E", sign=1, group="adoption", actionable=True,
            needs=("accounts.sold_use_case", "entitlements.module_id", "usage.feature_id", "usage.day"),
            examples=(
                example(1, "used the day before the window, and another module within",
                        accounts="account_id sold_use_case; me Reports",
                        entitlements="feature_id module_id; pdf reports; xls reports; sync api",
                        usage="event_at feature_id; -29 pdf; -2 sync"),
                example(0, "one of two features is used", accounts="account_id sold_use_case; me reports",
                        entitlements="feature_id module_id; pdf reports; xls reports",
                        usage="event_at feature_id; -28 xls"),
                example(None, "its module was never bought", accounts="account_id sold_use_case; me reports",
                        entitlements="feature_id module_id; sync api"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (VALUE, FIRST_USE, SOLD)
