"""Who decided to leave, when, and when we learned it; the label of every account at every instant.

The decision date of a loss is the day notice was given; without notice it is the end, unless a new contract begins
within the grace. A notice whose contract is replaced without a gap is a change of contract and no loss; a withdrawn
notice was a decision all the same. Without contracts the onset of a silence takes its place (`features/silence.py`).

Beside it stand what else happened in the window: contraction, whether the loss was the customer's own decision. All of
it is outcome, never a feature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from features.corrections import corrected
from features.settings import LabelSettings
from features.silence import ALREADY_SILENT, running_at, silences, usage_delay_days
from features.snapshots import account_phases, contract_versions, end_of, phases_at
from features.tables import Tables
from features.windows import TIMESTAMP, beside, in_outcome_window, instants_table

DELAY_QUANTILE = 0.95

VOLUNTARY = ("cancelled", "not_renewed", "competitor", "price", "product", "service")
INVOLUNTARY = ("non_payment", "dispute", "fraud", "business_closed")
"""Values of `contracts.end_reason`; of any other, or none, nobody can tell whose decision the end was."""


def decisions(tables: Tables, label: LabelSettings, *, until: datetime | None = None) -> ir.Table:
    """One row per loss, those put right by hand among them.

    Returns
    -------
    table of account_id, `decided_at` (D), `known_at` (never before D), `lost_at` (the end, if known), `voluntary`
    (1, 0, null) and `refuted_at` (when the loss was found to be none; null where it still is one)
    """
    return corrected(_told_losses(tables, label, until=until), tables["corrections"])


def _told_losses(tables: Tables, label: LabelSettings, *, until: datetime | None = None) -> ir.Table:
    """The losses that the sources tell; silences as far as they were complete by `until`."""
    if label.kind == "silence":
        return silences(tables, label, until=until).drop("resumed_at").mutate(voluntary=ibis.null("int8"))
    return _contract_losses(tables, label)


def _contract_losses(tables: Tables, label: LabelSettings) -> ir.Table:
    versions = contract_versions(tables).view()
    final = _final(versions)
    losses = [_losses(final, label)]
    if label.anchor == "decision":
        losses.append(_withdrawn(versions, final))
    rows = ibis.union(*losses) if len(losses) > 1 else losses[0]
    recorded = tables.has("contracts", "known_at") or (
        not tables.has("contracts") and tables.has("accounts", "known_at")
    )
    learned = ibis.greatest(rows.known_at, rows.decided_at) if recorded else rows.decided_at
    return (
        rows.mutate(known_at=learned)
        .group_by("account_id", "decided_at")
        .agg(known_at=ibis._.known_at.min(), lost_at=ibis._.lost_at.min(), voluntary=ibis._.voluntary.min())
    )


def _final(versions: ir.Table) -> ir.Table:
    """The last known version of each contract, and when its notice and its end were first known."""
    contract = ["account_id", "contract_id"]
    newest = ibis.window(group_by=contract, order_by=[versions.known_at.desc(), versions.start_at.desc()])
    whole = ibis.window(group_by=contract)
    ranked = versions.mutate(
        version=ibis.row_number().over(newest),
        notice_known_at=versions.known_at.min(where=versions.cancelled_at.notnull()).over(whole),
        end_known_at=versions.known_at.min(where=versions.ended_at.notnull()).over(whole),
    )
    latest = ranked.filter(ranked.version == 0)
    return latest.mutate(end_at=end_of(latest))


def _losses(final: ir.Table, label: LabelSettings) -> ir.Table:
    """Ends after which the account held no other contract."""
    by_notice = final.cancelled_at.notnull() & (label.anchor == "decision")
    ends = final.mutate(
        by_notice=by_notice,
        end_at=ibis.ifelse(by_notice, ibis.coalesce(final.end_at, final.cancelled_at), final.end_at),
    )
    ends = ends.filter(ends.end_at.notnull())
    grace = ibis.ifelse(ends.by_notice, ends.end_at, ends.end_at + ibis.interval(days=label.grace_days))
    left = ends.mutate(bridged_until=grace)
    left = _without_cover(left, final)
    # Where several contracts were given up one after the other, the last notice is the decision to leave.
    decided = ibis.ifelse(left.by_notice, ibis.coalesce(_last_notice(left), left.cancelled_at), left.end_at)
    return left.select(
        "account_id",
        decided_at=decided,
        known_at=ibis.ifelse(left.by_notice, left.notice_known_at, ibis.coalesce(left.end_known_at, left.end_at)),
        lost_at=left.end_at,
        voluntary=_voluntary(left.end_reason),
    )


def _voluntary(reason: ir.StringValue) -> ir.IntegerValue:
    named = reason.strip().lower()
    own, forced = (ibis.literal(value, "int8") for value in (1, 0))
    return ibis.cases((named.isin(VOLUNTARY), own), (named.isin(INVOLUNTARY), forced), else_=ibis.null("int8"))


def _without_cover(left: ir.Table, final: ir.Table) -> ir.Table:
    """The rows whose account has no other contract that begins in time and goes on beyond the end."""
    other = final.view()
    return left.anti_join(
        other,
        [
            left.account_id == other.account_id,
            left.contract_id != other.contract_id,
            other.start_at <= left.bridged_until,
            other.end_at.isnull() | (other.end_at > left.end_at),
        ],
    )


def _last_notice(left: ir.Table) -> ir.TimestampValue:
    return left.cancelled_at.max().over(ibis.window(group_by=["account_id", "end_at"]))


def _withdrawn(versions: ir.Table, final: ir.Table) -> ir.Table:
    """Notices of a contract whose last version knows of none."""
    kept = final.filter(final.cancelled_at.isnull()).select("account_id", "contract_id")
    noticed = versions.filter(versions.cancelled_at.notnull()).semi_join(kept, ["account_id", "contract_id"])
    noticed = noticed.mutate(
        end_at=ibis.coalesce(noticed.term_end_at, noticed.cancelled_at),
        bridged_until=ibis.coalesce(noticed.term_end_at, noticed.cancelled_at),
    )
    alone = _without_cover(noticed, final)
    return alone.select(
        "account_id",
        decided_at=alone.cancelled_at,
        known_at=alone.known_at,
        lost_at=ibis.null(TIMESTAMP),
        voluntary=ibis.null("int8"),
    )


def reporting_delay_days(tables: Tables, label: LabelSettings) -> int:
    """r: the 95th percentile of the days from a decision to our knowing it, rounded up; with silence, of use to it."""
    if label.kind == "silence":
        return usage_delay_days(tables, quantile=DELAY_QUANTILE)
    rows = _contract_losses(tables, label)
    delay = (rows.known_at.epoch_seconds() - rows.decided_at.epoch_seconds()).quantile(DELAY_QUANTILE)
    seconds = delay.to_pyarrow().as_py()
    return 0 if seconds is None else math.ceil(seconds / 86_400)


def labelled(
    tables: Tables, instants: Sequence[datetime], label: LabelSettings, *, until: datetime, delay_days: int
) -> ir.Table:
    """Every account and instant with its phase and, where it was active, its label.

    Parameters
    ----------
    until
        End of what we know; a row is mature if its window, the grace (or silence) and `delay_days` are over by then.

    Returns
    -------
    table of account_id, as_of, phase, mrr, `state` (labelled, immature, leaving, already_silent, excluded), `churned`
    (1, 0, null), `part` (now, act, null), `decided_at`, `decision_known_at`, `lost_at`, `voluntary` (1, 0, null),
    `contracted` (1, 0, null), `contraction_mrr`; and `believed_at`, `refuted_at`: from when to when a loss was
    believed in that was none
    """
    moments = instants_table(tables.backend, instants)
    phases = phases_at(tables, moments, label)
    losses = decisions(tables, label, until=until)
    rows = _with_next_decision(phases, losses, label)
    rows = _with_states(rows, losses, tables, label, until=until, delay_days=delay_days)
    counts = (rows.state == "labelled") & rows.decided_at.notnull()
    now = rows.decided_at <= rows.as_of + ibis.interval(days=label.lead_days)
    rows = rows.mutate(
        churned=ibis.ifelse(rows.state == "labelled", counts.cast("int8"), ibis.null("int8")),
        part=ibis.ifelse(counts, ibis.ifelse(now, "now", "act"), ibis.null("string")),
        voluntary=ibis.ifelse(counts, rows.voluntary, ibis.null("int8")),
    )
    return _with_contraction(rows, tables, moments, label)


def _with_states(
    rows: ir.Table, losses: ir.Table, tables: Tables, label: LabelSettings, *, until: datetime, delay_days: int
) -> ir.Table:
    final_after = timedelta(days=label.horizon_days + label.settling_days + delay_days)
    mature = rows.as_of <= ibis.timestamp(until - final_after)
    states = [
        (rows.phase == "notice", "leaving"),
        (rows.phase == ALREADY_SILENT, ALREADY_SILENT),
        (rows.phase != "active", "excluded"),
        (~mature, "immature"),
    ]
    if label.kind == "silence":
        holding = silences(tables, label, until=until)
        holding = holding.semi_join(losses.filter(losses.refuted_at.isnull()), ["account_id", "decided_at"])
        running = running_at(rows.filter(rows.phase == "active").select("account_id", "as_of"), holding)
        rows = beside(rows, running.mutate(is_running=True))
        states.append((rows.is_running.fill_null(False), ALREADY_SILENT))
    return rows.mutate(state=ibis.cases(*states, else_="labelled"))


def _with_next_decision(phases: ir.Table, losses: ir.Table, label: LabelSettings) -> ir.Table:
    """The first decision in the window of each row; one of before that was not yet known counts too."""
    active = phases.filter(phases.phase == "active").select("account_id", "as_of")
    pairs = active.join(losses, "account_id")
    ahead = in_outcome_window(pairs.decided_at, pairs.as_of, days=label.horizon_days)
    unknown = pairs.decided_at == pairs.as_of
    if label.kind != "silence":
        unknown |= (pairs.decided_at < pairs.as_of) & (pairs.known_at > pairs.as_of)
    coming = pairs.filter(ahead | unknown)
    holds = coming.refuted_at.isnull()
    coming = coming.mutate(
        holds=holds,
        is_first=holds
        & (coming.decided_at == coming.decided_at.min(where=holds).over(group_by=["account_id", "as_of"])),
    )
    first = coming.group_by("account_id", "as_of").agg(
        decided_at=coming.decided_at.min(where=coming.holds),
        decision_known_at=coming.known_at.min(where=coming.holds),
        lost_at=coming.lost_at.min(where=coming.holds),
        voluntary=coming.voluntary.min(where=coming.is_first),
        believed_at=coming.known_at.min(where=~coming.holds),
        refuted_at=coming.refuted_at.max(where=~coming.holds),
    )
    return beside(phases, first)


def _with_contraction(rows: ir.Table, tables: Tables, instants: ir.Table, label: LabelSettings) -> ir.Table:
    """`rows` with `contracted` and `contraction_mrr`, the fall of recurring revenue by the end of the window.

    Both as they were known at their time; a rise within the window makes good for a fall. Who left has not contracted.
    """
    if not tables.has("contracts"):
        return rows.mutate(contracted=ibis.null("int8"), contraction_mrr=ibis.null("double"))
    ahead = ibis.interval(days=label.horizon_days)
    ends = account_phases(tables, instants.select(as_of=instants.as_of + ahead), grace_days=label.grace_days)
    rows = beside(rows, ends.select("account_id", as_of=ends.as_of - ahead, mrr_after=ends.mrr))
    fall = rows.mrr - rows.mrr_after
    # Less a hair, so that 10 of 100 is a tenth in binary too.
    is_large = (fall > 0) & (fall >= rows.mrr * (label.contraction_share - 1e-9))
    contracted = ibis.cases((rows.churned == 1, False), (rows.churned == 0, is_large), else_=ibis.null("boolean"))
    rows = rows.mutate(contracted=contracted.cast("int8"))
    lost = ibis.ifelse(rows.contracted == 1, rows.mrr - rows.mrr_after, 0.0)
    return rows.mutate(contraction_mrr=ibis.ifelse(rows.contracted.notnull(), lost, ibis.null("double"))).drop(
        "mrr_after"
    )
