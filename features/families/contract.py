"""What the account has bought, for how much, and when it can leave.

Source: `contracts` in the version known at `as_of`. Planned ends are features; real ends and later notices never are.
A planned end that passed in silence is rolled on by the contract's term.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, Measure, exact, ratio
from features.snapshots import contracts_known
from features.tables import Tables


def _contracts(tables: Tables, instants: ir.Table) -> ir.Table:
    known = contracts_known(tables, instants)
    live, renews_at = known.is_live, renewal_at(known)
    return known.mutate(
        days_since_start=known.as_of.date().delta(known.start_at.date(), unit="day"),
        live_mrr=_where(live, exact(known.mrr)),
        live_arr=_where(live, exact(known.arr)),
        live_list_arr=_where(live, exact(known.list_arr)),
        live_listed_arr=_where(live & known.list_arr.notnull(), exact(known.arr)),
        live_seats=_where(live, exact(known.seats)),
        live_price_change=_where(live, known.next_price_change),
        renewal_in_days=_where(live, renews_at.date().delta(known.as_of.date(), unit="day")),
        live_notice_days=known.notice_days,
        renews_itself=_where(live, known.auto_renew.cast("int8")),
    )


def _where(condition: ir.BooleanValue, value: ir.Value) -> ir.Value:
    return ibis.ifelse(condition, value, ibis.null(value.type()))


def renewal_at(known: ir.Table) -> ir.TimestampValue:
    """The planned end; one that passed in silence moves on by whole terms until it lies at or after the instant."""
    end, term = known.term_end_at, whole_months(known.term_months)
    rolled = end + (terms_passed(end, term, known.as_of) * term).as_interval("M")
    return ibis.ifelse(end >= known.as_of, end, rolled)


def whole_months(term: ir.NumericValue) -> ir.IntegerValue:
    """A term in months, missing where it has none."""
    return term.cast("int64").nullif(0)


def terms_passed(end: ir.TimestampValue, term: ir.IntegerValue, at: ir.TimestampValue) -> ir.IntegerValue:
    """The least n for which `end` and n terms more lie at or after `at`: so many planned ends lie before it."""
    months = (at.year() - end.year()) * 12 + at.month() - end.month()
    terms = ibis.greatest(0, (months / term).ceil()).cast("int64")
    rolled = end + (terms * term).as_interval("M")
    return terms + (rolled < at).cast("int64")


# The source is accounts where contracts are not mapped: then only the time as a customer is told.
CONTRACT = Family(
    name="contract",
    source="accounts",
    owner="revenue operations",
    rows=_contracts,
    measures=(
        Measure("mrr", lambda contract: contract.live_mrr.sum(), missing="E"),
        Measure("seats", lambda contract: contract.live_seats.sum(), missing="E"),
    ),
    features=(
        Feature(
            name="arr",
            formula=lambda contract: contract.live_arr.sum(),
            label="annual recurring revenue",
            meaning="Annual recurring revenue of the contracts live at `as_of`.",
            unit="money", missing="E", sign=0, group="context", actionable=False,
            needs=("contracts.mrr",),
            examples=(
                example(1803, "twelve months of 100 and 50.25; what has ended counts no more",
                        contracts="contract_id start_at ended_at mrr; c1 -700 . 100; c2 -90 . 50.25; c3 -700 -1 900"),
                example(1200, "it ends at the instant, which is not known before",
                        contracts="start_at ended_at arr; -700 0 1200"),
                example(None, "its price is unknown", contracts="start_at mrr; -700 ."),
            ),
        ),
        Feature(
            name="tenure_days",
            formula=lambda contract: contract.days_since_start.max(),
            label="days as a customer",
            meaning="Days from the first contract's start to `as_of`.",
            unit="days", missing="Z", sign=-1, group="context", actionable=False,
            examples=(
                example(730, "the first contract counts, even if it has ended",
                        contracts="contract_id start_at ended_at mrr; c1 -730 -400 100; c2 -30 . 100"),
                example(1, "begun yesterday", contracts="start_at mrr; -1 100"),
            ),
        ),
        Feature(
            name="days_to_renewal",
            formula=lambda contract: contract.renewal_in_days.min(),
            label="days to the renewal",
            meaning="Days from `as_of` to the next planned end of a live contract.",
            unit="days", missing="E", sign=0, group="commercial", actionable=False,
            needs=("contracts.term_end_at",),
            examples=(
                example(30, "28 February and a month more lie on 28 March, 31 January and two on 31 March",
                        contracts="start_at term_end_at term_months mrr; -60 -29 1 100"),
                example(0, "it ends at the instant", contracts="start_at term_end_at mrr; -365 0 100"),
                example(None, "a planned end has passed and its term is unknown",
                        contracts="start_at term_end_at mrr; -730 -365 100"),
            ),
        ),
        Feature(
            name="days_to_notice_deadline",
            formula=lambda contract: (contract.renewal_in_days - contract.live_notice_days).min(),
            label="days to the notice deadline",
            meaning="days_to_renewal less the notice period; below 0 once the deadline has passed.",
            unit="days", missing="E", sign=0, group="commercial", actionable=False,
            needs=("contracts.term_end_at", "contracts.notice_days"),
            examples=(
                example(20, "30 days before the end in 50",
                        contracts="start_at term_end_at notice_days mrr; -300 50 30 100"),
                example(-5, "passed five days ago", contracts="start_at term_end_at notice_days mrr; -300 25 30 100"),
            ),
        ),
        Feature(
            name="is_auto_renew",
            formula=lambda contract: contract.renews_itself.min(),
            label="contract renews by itself",
            meaning="Every live contract renews without a word.",
            unit="0/1", missing="E", sign=-1, group="commercial", actionable=False,
            needs=("contracts.auto_renew",),
            examples=(
                example(1, "", contracts="start_at auto_renew mrr; -300 true 100"),
                example(0, "one of two does not",
                        contracts="contract_id start_at term_end_at auto_renew mrr; c1 -300 . true 1; c2 -9 9 no 1"),
            ),
        ),
        Feature(
            name="renewal_price_change_pct",
            formula=lambda contract: contract.live_price_change.max(),
            label="announced change of the price at the renewal",
            meaning="Announced next price change of the live contracts, the largest of several; percent as written.",
            unit="%", missing="E", sign=1, group="commercial", actionable=True,
            needs=("contracts.next_price_change",),
            examples=(
                example(7.5, "a version that became known in time",
                        contracts="start_at next_price_change mrr known_at; -300 . 100 -300; -300 7.5 100 0"),
                example(None, "announced only after the instant",
                        contracts="start_at next_price_change mrr known_at; -300 . 100 -300; -300 7.5 100 0@00:01"),
            ),
        ),
        Feature(
            name="discount_pct",
            formula=lambda contract: 1 - ratio(contract.live_listed_arr.sum(), contract.live_list_arr.sum()),
            label="discount against the list price",
            meaning="1 - ARR / list ARR of the live contracts that have a list price; below 0 above the list.",
            unit="share", missing="E", sign=0, group="commercial", actionable=True,
            needs=("contracts.list_arr",),
            examples=(
                example(0.2, "1,200 of 1,500; a contract without a list price is left out",
                        contracts="contract_id start_at arr list_arr; c1 -300 1200 1500; c2 -300 800 ."),
                example(None, "a list price of 0", contracts="start_at arr list_arr; -300 1200 0"),
            ),
        ),
    ),
)  # fmt: skip


FAMILIES = (CONTRACT,)
