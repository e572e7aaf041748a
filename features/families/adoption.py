"""How much of what was bought is used.

Sources: `usage` by product feature and day, `entitlements`: the product features that the account has bought, as
known at the instant.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, Measure, ratio
from features.tables import Tables
from features.windows import bit_or, in_force, in_window, known_before, marked_before, numbered, versions

_LONG = 91
_BOUGHT = "feature_id module_id event_at; plan core -400; chat talk -400; call talk -400; mail talk 3"
"""Three features in two modules; the fourth is bought later."""


def _integrations(tables: Tables, instants: ir.Table) -> ir.Table:
    days = tables["feature_days"]
    days = days.filter(days.kind == "integration")
    named = days.mutate(feature_id=ibis.coalesce(days.feature_id, "integration"))
    return known_before(named, instants, within_days=28)


def _bought(tables: Tables, instants: ir.Table) -> ir.Table:
    """One row per module bought: its features, those used, and those that have been out for at most 91 days."""
    moments = numbered(instants)
    seen = marked_before(tables["feature_days"], moments, used=_LONG, core_used=28)
    use = seen.group_by("account_id", "feature_id", "block").agg(
        used=bit_or(seen.used), core_used=bit_or((seen.core > 0).ifelse(seen.core_used, 0))
    )
    # Beside their use before they are laid beside every instant: that makes many rows of each.
    bought = versions(tables["entitlements"], "feature_id").cross_join(moments.select("block").distinct())
    told = bought.left_join(use, ["account_id", "feature_id", "block"]).select(*bought.columns, "used", "core_used")
    rows = in_force(told, moments, "block")
    is_new = in_window(rows.released_at, rows.as_of, days=_LONG).fill_null(False).cast("int8")
    rows = rows.mutate(
        module=ibis.coalesce(rows.module_id, rows.feature_id),
        is_new=is_new,
        used=_is_marked(rows.used, rows.bit),
        core_used=_is_marked(rows.core_used, rows.bit),
    )
    # By module first: counting what is distinct in so many rows is the slow way.
    return rows.group_by("account_id", "as_of", "module").agg(
        bought=rows.count(),
        core_used=rows.core_used.sum(),
        is_used=rows.used.max(),
        new=rows.is_new.sum(),
        new_used=(rows.is_new * rows.used).sum(),
    )


def _is_marked(marks: ir.IntegerValue, bit: ir.IntegerValue) -> ir.IntegerValue:
    """1 where the instant with this bit is among the marked ones, else 0."""
    return ((marks & bit) > 0).fill_null(False).cast("int8")


PRODUCT = Family(
    name="product_features",
    source="usage",
    owner="product analytics",
    rows=_integrations,
    features=(
        Feature(
            name="integrations_active_28d",
            formula=lambda day: day.feature_id.nunique(),
            label="integrations with traffic in the last 28 days",
            meaning="Distinct integrations (`feature_id` of the kind integration) with an event in 28 days.",
            unit="integrations", window=28, missing="Z", sign=-1, group="adoption", actionable=True,
            needs=("usage.day", "usage.kind"),
            examples=(
                example(2, "crm twice, one too old", usage="""event_at kind feature_id; -1 integration crm;
                    -2 integration crm; -28 integration erp; -29 integration hr; -3 action plan"""),
                example(0, "no integration", usage="event_at kind feature_id; -1 action plan"),
            ),
        ),
    ),
)  # fmt: skip

BOUGHT = Family(
    name="bought_features",
    source="entitlements",
    owner="product analytics",
    rows=_bought,
    measures=(
        Measure("features_bought", lambda module: module.bought.sum()),
        Measure("modules_bought", lambda module: module.module.count()),
        Measure("modules_used_91d", lambda module: module.is_used.sum()),
        Measure("core_features_used_28d", lambda module: module.core_used.sum()),
        Measure("features_new_91d", lambda module: module.new.sum()),
        Measure("features_new_used_91d", lambda module: module.new_used.sum()),
    ),
    ratios=(
        Feature(
            name="modules_unused_91d",
            formula=lambda row: row.modules_bought - row.modules_used_91d,
            label="modules bought and unused for 91 days",
            meaning="Modules bought (features where none are named) without any use in the 91 days before `as_of`.",
            unit="modules", window=_LONG, missing="Z", sign=1, group="adoption", actionable=True,
            needs=("usage.day", "usage.feature_id"),
            examples=(
                example(1, "talk is unused", entitlements=_BOUGHT, usage="event_at feature_id; -91 plan; -92 chat"),
                example(0, "one feature used is its module used", entitlements=_BOUGHT,
                        usage="event_at feature_id; -5 plan; -6 call"),
            ),
        ),
        Feature(
            name="feature_breadth_ratio_28d",
            formula=lambda row: ratio(row.core_features_used_28d, row.features_bought),
            label="share of the features bought that are in core use",
            meaning="Bought features with core use in 28 days / features bought.",
            unit="share", window=28, missing="D", sign=-1, group="adoption", actionable=True,
            needs=("usage.day", "usage.feature_id"),
            examples=(
                example(1 / 3, "chat is not core, call too old, x not bought", entitlements=_BOUGHT,
                        usage="event_at feature_id is_core; -28 plan yes; -1 chat no; -29 call yes; -1 x yes"),
                example(None, "nothing bought", usage="event_at feature_id; -1 plan"),
            ),
        ),
        Feature(
            name="new_feature_adopted_91d",
            formula=lambda row: ratio(row.features_new_used_91d, row.features_new_91d),
            label="share of the features of the last 91 days that were tried",
            meaning="Bought features released in the 91 days before `as_of` and used since / all released then.",
            unit="share", window=_LONG, missing="D", sign=-1, group="adoption", actionable=True,
            needs=("usage.day", "usage.feature_id", "entitlements.released_at"),
            examples=(
                example(0.5, "one of two; old ones do not count",
                        entitlements="feature_id released_at event_at; a -91 -91; b -10 -10; c -92 -92; d 5 -400",
                        usage="event_at feature_id; -9 b; -9 c; -9 d"),
                example(None, "nothing new", entitlements="feature_id released_at; a -300"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (PRODUCT, BOUGHT)
