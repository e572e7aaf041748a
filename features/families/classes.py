"""ABC by revenue and XYZ by evenness of use: the classes of an account among all others of the company.

Revenue is what was invoiced in the 364 days before an instant where `invoices` are mapped, else what the contracts
paid per month over these days. Only accounts with a live contract are ranked.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.lifecycle import PERIODS
from features.families.replay import STEP_DAYS
from features.families.revenue import mrr_spells
from features.family import Family, Feature, Measure, exact, flag
from features.snapshots import contracts_known
from features.tables import Tables
from features.windows import newest_before

ABC, XYZ = ("A", "B", "C"), ("X", "Y", "Z")
YEAR_DAYS = 364
_BEFORE_DAYS = 182
_A_BELOW, _B_BELOW = 0.80, 0.95
_X_TO, _Y_TO = 0.10, 0.25
_LEAST_PERIODS = 6


def abc_level(share_before: ir.FloatingValue) -> ir.IntegerValue:
    """The class of an account by the share of revenue of all that rank before it: 0 for A, 1 for B, 2 for C."""
    return ibis.cases((share_before < _A_BELOW, 0), (share_before < _B_BELOW, 1), (share_before.notnull(), 2))


def xyz_level(variation: ir.FloatingValue) -> ir.IntegerValue:
    """The class of a coefficient of variation: 0 for X, 1 for Y, 2 for Z."""
    return ibis.cases((variation <= _X_TO, 0), (variation <= _Y_TO, 1), (variation.notnull(), 2))


def variation(n: ir.NumericValue, total: ir.NumericValue, squares: ir.NumericValue) -> ir.FloatingValue:
    """Population standard deviation / mean of n numbers by their sum and the sum of their squares."""
    n, total, squares = (value.cast("double") for value in (n, total, squares))
    mean = total / n.nullif(0.0)
    variance = squares / n.nullif(0.0) - mean * mean
    # Where all are equal, rounding may leave the variance a little below 0.
    return ibis.ifelse(variance > 0, variance, variance * 0).sqrt() / mean.nullif(0.0)


def ranked(revenue: ir.Table) -> ir.Table:
    """`revenue` (account_id, as_of, revenue as a decimal) with `level`; ties rank by account_id."""
    paying = revenue.filter(revenue.revenue > 0)
    whole = ibis.window(group_by="as_of")
    order = [paying.revenue.desc(), paying.account_id]
    until = ibis.window(group_by="as_of", order_by=order, preceding=None, following=0)
    before = paying.revenue.sum().over(until) - paying.revenue
    share = before.cast("double") / paying.revenue.sum().over(whole).cast("double")
    return paying.mutate(level=abc_level(share))


def _revenue(tables: Tables, instants: ir.Table) -> ir.Table:
    earned = _invoiced(tables, instants) if tables.has("invoices") else _contracted(tables, instants)
    known = contracts_known(tables, instants)
    live = known.filter(known.is_live).select("account_id", "as_of").distinct()
    return earned.semi_join(live.view(), ["account_id", "as_of"])


def _invoiced(tables: Tables, instants: ir.Table) -> ir.Table:
    seen = newest_before(tables["invoices"], instants, "invoice_id", within_days=YEAR_DAYS)
    return seen.group_by("account_id", "as_of").agg(revenue=exact(seen.amount).sum())


def _contracted(tables: Tables, instants: ir.Table) -> ir.Table:
    spells = mrr_spells(tables, instants)
    year_ago = spells.as_of - ibis.interval(days=YEAR_DAYS)
    spells = spells.mutate(since=ibis.greatest(spells.from_at, year_ago)).filter(spells.to_at > year_ago)
    days = spells.to_at.date().delta(spells.since.date(), unit="day")
    return spells.group_by("account_id", "as_of").agg(revenue=(spells.mrr * days.cast("int32")).sum())


def _period_users(*counts: int) -> str:
    """Text of an example's usage: so many users in each period of 28 days, the last first."""
    uses = [f"-{28 * period + 1} u{user}" for period, count in enumerate(counts) for user in range(count)]
    return ";".join(["event_at user_id", *uses])


def _abc(tables: Tables, instants: ir.Table) -> ir.Table:
    """The class at the instant and the one half a year before, as it was known then."""
    now = ranked(_revenue(tables, instants))
    shift = ibis.interval(days=_BEFORE_DAYS)
    before = ranked(_revenue(tables, instants.select(as_of=instants.as_of - shift)))
    nothing = ibis.null("int64")
    return ibis.union(
        now.select("account_id", "as_of", level=now.level.cast("int64"), level_before=nothing),
        before.select("account_id", as_of=before.as_of + shift, level=nothing, level_before=before.level.cast("int64")),
    )


def _xyz(row: ir.Table) -> ir.IntegerValue:
    periods = ibis.least(PERIODS, (row.tenure_days / STEP_DAYS).floor())
    level = xyz_level(variation(periods, row.period_users_sum, row.period_users_squares))
    return ibis.ifelse(periods >= _LEAST_PERIODS, level, ibis.null(level.type()))


CLASSES = Family(
    name="abc",
    source="contracts",
    owner="revenue operations",
    rows=_abc,
    measures=(Measure("abc_level_before", lambda row: row.level_before.max(), missing="E"),),
    features=(
        Feature(
            name="abc_class",
            formula=lambda row: row.level.max(),
            label="ABC class by revenue",
            meaning="Class among the live accounts by revenue of 364 days, largest first: A while those before hold "
            "less than 0.80 of it, B less than 0.95, else C. Invoiced where invoices are mapped, else by contracts.",
            unit="class", missing="E", sign=0, group="context", actionable=False, levels=ABC,
            needs=("contracts.mrr",),
            examples=(
                # Larger than all other examples together, or smaller than any.
                example(0, "no account is larger", invoices="invoice_id amount issued_at; i 12000000000 -30"),
                example(2, "others hold all", contracts="start_at mrr; -730 0.001",
                        invoices="invoice_id amount issued_at; i 0.01 -364; j 9000000000 -365"),
                example(None, "no revenue", contracts="start_at mrr; -730 0",
                        invoices="invoice_id amount issued_at; i 12 -365"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="abc_class_drop_182d",
            formula=lambda row: flag(row.abc_class > row.abc_level_before),
            label="fell an ABC class in 182 days",
            meaning="abc_class is below what it was 182 days before, as known then.",
            unit="0/1", window=_BEFORE_DAYS, missing="E", sign=1, group="context", actionable=False,
            needs=("contracts.mrr",),
            examples=(
                example(1, "a large invoice 400 days ago, since then next to nothing",
                        contracts="start_at mrr; -730 0.001",
                        invoices="invoice_id amount issued_at; i 90000000000 -400; j 0.01 -10"),
                example(0, "larger than any other now",
                        invoices="invoice_id amount issued_at; i 12000000000 -200; j 5000000000 -10"),
                example(None, "no customer then", contracts="start_at mrr; -182 100",
                        invoices="invoice_id amount issued_at; i 100 -100"),
            ),
        ),
        Feature(
            name="xyz_class",
            formula=_xyz,
            label="XYZ class by evenness of use",
            meaning="Coefficient of variation of active users over up to 13 periods of 28 days since the start, 6 at "
            "least: X up to 0.10, Y up to 0.25, else Z.",
            unit="class", missing="E", sign=0, group="context", actionable=False, levels=XYZ,
            needs=("usage.day", "usage.users"),
            examples=(
                example(1, "10, 12, 8, 14, 10, 12: deviation 1.915, mean 11; a seventh period began before the start",
                        contracts="start_at mrr; -195 100", usage=_period_users(10, 12, 8, 14, 10, 12, 1)),
                example(0, "always four", contracts="start_at mrr; -168 100", usage=_period_users(4, 4, 4, 4, 4, 4)),
                example(None, "five periods are too few", contracts="start_at mrr; -167 100",
                        usage=_period_users(4, 4, 4, 4, 4, 4)),
                example(None, "nobody ever used it", contracts="start_at mrr; -400 100"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (CLASSES,)
