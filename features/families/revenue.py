"""How recurring revenue and seats move.

Source: `contracts`. Movements are differences between the versions of a contract: a version holds from when it became
known (the first from its start) until the next one does.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, Measure, exact, ratio
from features.snapshots import contract_versions, contracts_known, end_of
from features.tables import Tables
from features.windows import known_before, known_outcome

_BEFORE_DAYS = 91
_CONTRACTION_DAYS = 182


def _contracts_before(tables: Tables, instants: ir.Table) -> ir.Table:
    """The contracts as they were known 91 days before each instant."""
    shift = ibis.interval(days=_BEFORE_DAYS)
    before = contracts_known(tables, instants.select(as_of=instants.as_of - shift))
    live = before.filter(before.is_live)
    return live.mutate(live_mrr=exact(live.mrr), live_seats=exact(live.seats)).mutate(as_of=live.as_of + shift)


def mrr_spells(tables: Tables, instants: ir.Table) -> ir.Table:
    """What each contract was paid and when, as known at the instant and cut there.

    Returns
    -------
    table of account_id, as_of, `from_at`, `to_at` and `mrr`, a decimal paid per month over `[from_at, to_at)`
    """
    seen = known_before(contract_versions(tables), instants)
    seen = seen.mutate(
        cancelled_at=known_outcome(seen.cancelled_at, seen.as_of), ended_at=known_outcome(seen.ended_at, seen.as_of)
    )
    contract = ["account_id", "contract_id", "as_of"]
    order = ibis.window(group_by=contract, order_by=[seen.known_at, seen.start_at])
    numbered = seen.mutate(number=ibis.row_number().over(order), own_end_at=end_of(seen))
    held_from = ibis.ifelse(
        numbered.number == 0, numbered.start_at, ibis.greatest(numbered.known_at, numbered.start_at)
    )
    spells = numbered.mutate(from_at=held_from)
    in_turn = ibis.window(group_by=contract, order_by=spells.number)
    spells = spells.mutate(next_at=spells.from_at.lead().over(in_turn))
    # The newest version says when the contract ended; what older ones said of it holds no more.
    final_end = ibis.ifelse(spells.next_at.isnull(), spells.own_end_at, ibis.null(spells.own_end_at.type()))
    spells = spells.mutate(end_at=final_end.max().over(ibis.window(group_by=contract)))
    to_at = ibis.least(
        ibis.coalesce(spells.next_at, spells.as_of), ibis.coalesce(spells.end_at, spells.as_of), spells.as_of
    )
    spells = spells.mutate(to_at=to_at)
    paid = spells.filter((spells.from_at < spells.to_at) & spells.mrr.notnull())
    return paid.select("account_id", "as_of", "from_at", "to_at", mrr=exact(paid.mrr))


def _levels(tables: Tables, instants: ir.Table) -> ir.Table:
    """Recurring revenue after each day on which it moved, and by how much it fell that day.

    A gap between two contracts is no fall: the account went on, and its revenue is what the next contract pays.
    """
    spells = mrr_spells(tables, instants)
    ended = spells.filter(spells.to_at < spells.as_of)
    moves = ibis.union(
        spells.select("account_id", "as_of", day=spells.from_at.date(), move=spells.mrr),
        ended.select("account_id", "as_of", day=ended.to_at.date(), move=-ended.mrr),
    )
    days = moves.group_by("account_id", "as_of", "day").agg(move=moves.move.sum())
    in_time = ibis.window(group_by=["account_id", "as_of"], order_by=days.day, preceding=None, following=0)
    levels = days.mutate(level=days.move.sum().over(in_time))
    paying = levels.filter(levels.level > 0)
    one_by_one = ibis.window(group_by=["account_id", "as_of"], order_by=paying.day)
    change = paying.level - paying.level.lag().over(one_by_one)
    falls = paying.mutate(
        age_days=paying.as_of.date().delta(paying.day, unit="day"), fall=ibis.ifelse(change < 0, -change, change * 0)
    )
    earlier = falls.age_days > _CONTRACTION_DAYS
    whole = ibis.window(group_by=["account_id", "as_of"])
    return falls.mutate(is_base=(falls.age_days == falls.age_days.min(where=earlier).over(whole)))


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
            examples=(
                example(0.5, "100, then 150 from a version that became known 91 days before the instant or later",
                        contracts="start_at mrr known_at; -300 100 -300; -300 150 -90"),
                example(0, "known at that very instant",
                        contracts="start_at mrr known_at; -300 100 -300; -300 150 -91"),
                example(None, "no customer yet", contracts="start_at mrr; -91 100"),
            ),
        ),
        Feature(
            name="seats_reduced_91d",
            formula=lambda row: ratio(_only_positive(row.seats_before - row.seats), row.seats_before),
            label="share of seats given up in 91 days",
            meaning="Seats removed in the 91 days before `as_of` / seats held then.",
            unit="share", window=91, missing="D", sign=1, group="commercial", actionable=True,
            needs=("contracts.seats",),
            examples=(
                example(0.6, "of ten seats four are left",
                        contracts="start_at mrr seats known_at; -300 100 10 -300; -300 100 4 -20"),
                example(0, "more seats than before",
                        contracts="start_at mrr seats known_at; -300 100 4 -300; -300 100 10 -20"),
                example(None, "it held no seat", contracts="start_at mrr seats; -300 100 0"),
            ),
        ),
    ),
)  # fmt: skip


def _only_positive(value: ir.NumericValue) -> ir.NumericValue:
    """`value`, 0 where it is below; missing stays missing, which `greatest` would turn into 0."""
    return ibis.ifelse(value < 0, value * 0, value)


CONTRACTION = Family(
    name="contraction",
    source="contracts",
    owner="revenue operations",
    rows=_levels,
    measures=(
        Measure("contraction_182d", lambda day: day.fall.sum(), window=_CONTRACTION_DAYS),
        Measure("mrr_182d_before", lambda day: day.level.max(where=day.is_base), missing="E"),
    ),
    ratios=(
        Feature(
            name="contraction_share_182d",
            formula=lambda row: ratio(row.contraction_182d, row.mrr_182d_before),
            label="share of recurring revenue given up in 182 days",
            meaning="Sum of all falls of MRR in the 182 days before `as_of` / MRR then; growth in between undoes none.",
            unit="share", window=_CONTRACTION_DAYS, missing="D", sign=1, group="commercial", actionable=True,
            needs=("contracts.mrr",),
            examples=(
                example(0.5, "100 to 60, back to 80 and down to 70: falls of 40 and 10",
                        contracts="start_at mrr known_at; -300 100 -300; -300 60 -182; -300 80 -90; -300 70 -1"),
                example(0, "it fell the day before the window",
                        contracts="start_at mrr known_at; -400 100 -400; -400 60 -183"),
                example(0.25, "a contract of 50 beside one of 150 ended",
                        contracts="contract_id start_at ended_at mrr; c1 -300 . 150; c2 -300 -9 50"),
                example(0, "replaced a week after its end by one of the same price",
                        contracts="contract_id start_at ended_at mrr; c1 -300 -50 100; c2 -43 . 100"),
                example(None, "no customer yet", contracts="start_at mrr; -182 100"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (CONTRACT_BEFORE, CONTRACTION)
