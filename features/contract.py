"""What the account has bought, for how much, and when it can leave.

Source: `contracts` in the version known at `as_of`. Planned ends are features; real ends and later notices never are.
A planned end that passed in silence is rolled on by the contract's term.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.family import Family, Feature, Measure, exact, ratio
from features.snapshots import contracts_known
from features.tables import Tables

_BEFORE_DAYS = 91


def _contracts(tables: Tables, instants: ir.Table) -> ir.Table:
    known = contracts_known(tables, instants)
    renewal_at = _renewal_at(known)
    live = known.is_live
    return known.mutate(
        days_since_start=known.as_of.date().delta(known.start_at.date(), unit="day"),
        live_mrr=_where(live, exact(known.mrr)),
        live_arr=_where(live, exact(known.arr)),
        live_seats=_where(live, exact(known.seats)),
        renewal_in_days=_where(live, renewal_at.date().delta(known.as_of.date(), unit="day")),
        live_notice_days=known.notice_days,
        renews_itself=_where(live, known.auto_renew.cast("int8")),
    )


def _where(condition: ir.BooleanValue, value: ir.Value) -> ir.Value:
    return ibis.ifelse(condition, value, ibis.null(value.type()))


def _renewal_at(known: ir.Table) -> ir.TimestampValue:
    """The planned end; one that passed in silence moves on by whole terms until it lies at or after the instant."""
    end, term = known.term_end_at, known.term_months.cast("int64").nullif(0)
    months = (known.as_of.year() - end.year()) * 12 + known.as_of.month() - end.month()
    terms = ibis.greatest(0, (months / term).ceil()).cast("int64")
    rolled = end + (terms * term).as_interval("M")
    again = rolled + term.as_interval("M")
    passed = ibis.ifelse(rolled < known.as_of, again, rolled)
    return ibis.ifelse(end >= known.as_of, end, passed)


def _contracts_before(tables: Tables, instants: ir.Table) -> ir.Table:
    """The contracts as they were known 91 days before each instant."""
    shift = ibis.interval(days=_BEFORE_DAYS)
    before = contracts_known(tables, instants.select(as_of=instants.as_of - shift))
    return before.mutate(
        live_mrr=_where(before.is_live, exact(before.mrr)), live_seats=_where(before.is_live, exact(before.seats))
    ).mutate(as_of=before.as_of + shift)


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
        ),
        Feature(
            name="tenure_days",
            formula=lambda contract: contract.days_since_start.max(),
            label="days as a customer",
            meaning="Days from the first contract's start to `as_of`.",
            unit="days", missing="Z", sign=-1, group="context", actionable=False,
        ),
        Feature(
            name="days_to_renewal",
            formula=lambda contract: contract.renewal_in_days.min(),
            label="days to the renewal",
            meaning="Days from `as_of` to the next planned end of a live contract.",
            unit="days", missing="E", sign=0, group="commercial", actionable=False,
            needs=("contracts.term_end_at",),
        ),
        Feature(
            name="days_to_notice_deadline",
            formula=lambda contract: (contract.renewal_in_days - contract.live_notice_days).min(),
            label="days to the notice deadline",
            meaning="days_to_renewal less the notice period; below 0 once the deadline has passed.",
            unit="days", missing="E", sign=0, group="commercial", actionable=False,
            needs=("contracts.term_end_at", "contracts.notice_days"),
        ),
        Feature(
            name="is_auto_renew",
            formula=lambda contract: contract.renews_itself.min(),
            label="contract renews by itself",
            meaning="Every live contract renews without a word.",
            unit="0/1", missing="E", sign=-1, group="commercial", actionable=False,
            needs=("contracts.auto_renew",),
        ),
    ),
)  # fmt: skip


def _only_positive(value: ir.NumericValue) -> ir.NumericValue:
    """`value`, 0 where it is below; missing stays missing, which `greatest` would turn into 0."""
    return ibis.ifelse(value < 0, value * 0, value)


CONTRACT_BEFORE = Family(
    name="contract_before",
    source="accounts",
    owner="revenue operations",
    rows=_contracts_before,
    measures=(
        Measure("mrr_before", lambda contract: contract.live_mrr.sum(), missing="E"),
        Measure("seats_before", lambda contract: contract.live_seats.sum(), missing="E"),
    ),
    ratios=(
        Feature(
            name="mrr_delta_91d",
            formula=lambda row: ratio(row.mrr - row.mrr_before, row.mrr_before),
            label="change of recurring revenue in 91 days",
            meaning="(MRR at `as_of` - MRR 91 days before) / MRR 91 days before.",
            unit="share", window=91, missing="D", sign=-1, group="commercial", actionable=True,
            needs=("contracts.mrr",),
        ),
        Feature(
            name="seats_reduced_91d",
            formula=lambda row: ratio(_only_positive(row.seats_before - row.seats), row.seats_before),
            label="share of seats given up in 91 days",
            meaning="Seats removed in the 91 days before `as_of` / seats held then.",
            unit="share", window=91, missing="D", sign=1, group="commercial", actionable=True,
            needs=("contracts.seats",),
        ),
    ),
)  # fmt: skip

FAMILIES = (CONTRACT, CONTRACT_BEFORE)
