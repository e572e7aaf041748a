"""Which accounts were customers at an instant, as far as was known then.

A contract version is active on `[start_at, e)`: e is `ended_at` where it is known; else `term_end_at` if notice was
given or `auto_renew` is false; else open, for a planned end that passes in silence is a renewal.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from features.corrections import closed_by_hand
from features.data_contract import CONTRACTS
from features.settings import LabelSettings
from features.silence import ALREADY_SILENT, silent_phases
from features.tables import Tables
from features.windows import TIMESTAMP, beside, first_of_months, known_outcome, newest_before

PHASES = ("active", "notice", "lost", "potential", ALREADY_SILENT)


def contract_versions(tables: Tables) -> ir.Table:
    """The contracts; without them one open contract per account, ended by `accounts.churned_at`.

    It begins with `accounts.started_at`, or where nobody wrote that down with the first use.
    """
    if tables.has("contracts"):
        contracts = tables["contracts"]
        return contracts.mutate(
            contract_id=ibis.coalesce(contracts.contract_id, contracts.start_at.cast("string")),
            auto_renew=contracts.auto_renew.fill_null(True),
            mrr=ibis.coalesce(contracts.mrr, contracts.arr / 12),
            arr=ibis.coalesce(contracts.arr, contracts.mrr * 12),
        )
    accounts = _started_accounts(tables)
    columns = {column.name: ibis.null(_ibis_type(column.kind)) for column in CONTRACTS.columns}
    columns |= {
        "account_id": accounts.account_id,
        "contract_id": accounts.account_id,
        "start_at": accounts.started_at,
        "ended_at": accounts.churned_at,
        "auto_renew": ibis.literal(True),
        "event_at": accounts.event_at,
        "known_at": accounts.known_at,
    }
    return accounts.select(**columns)


def _started_accounts(tables: Tables) -> ir.Table:
    """The accounts with a start; one without takes its first use, in as many versions as late rows moved it back."""
    accounts = tables["accounts"]
    days = tables["account_days"]
    so_far = ibis.window(group_by=days.account_id, order_by=days.known_at, range=(None, 0))
    first = days.mutate(first_use_at=days.event_at.min().over(so_far))
    first = first.group_by("account_id", "first_use_at").agg(use_known_at=first.known_at.min())
    unknown = accounts.filter(accounts.started_at.isnull()).join(first, "account_id")
    unknown = unknown.mutate(
        started_at=unknown.first_use_at,
        event_at=unknown.first_use_at,
        known_at=ibis.greatest(unknown.known_at, unknown.use_known_at),
    )
    return accounts.filter(accounts.started_at.notnull()).union(unknown.select(accounts.columns))


def _ibis_type(kind: str) -> str:
    return {"number": "double", "boolean": "boolean", "time": TIMESTAMP}.get(kind, "string")


def contracts_known(tables: Tables, instants: ir.Table) -> ir.Table:
    """Per instant, account and contract the version known then, its later outcomes blanked.

    Adds `end_at` (e of the module's rule; null while open), `is_live` and `has_notice`.
    """
    latest = newest_before(contract_versions(tables), instants, "contract_id")
    latest = latest.mutate(
        cancelled_at=known_outcome(latest.cancelled_at, latest.as_of),
        ended_at=known_outcome(latest.ended_at, latest.as_of),
    )
    latest = latest.mutate(end_at=end_of(latest))
    return latest.mutate(
        is_live=(latest.start_at < latest.as_of) & (latest.end_at.isnull() | (latest.end_at > latest.as_of)),
        has_notice=latest.cancelled_at.notnull(),
    )


def end_of(contracts: ir.Table) -> ir.TimestampValue:
    """e of a contract version: when it stops to be active, null while it is open."""
    ends_by_plan = contracts.cancelled_at.notnull() | ~contracts.auto_renew
    planned = ibis.ifelse(ends_by_plan, contracts.term_end_at, ibis.null(TIMESTAMP))
    return ibis.coalesce(contracts.ended_at, planned)


def phases_at(tables: Tables, instants: ir.Table, label: LabelSettings) -> ir.Table:
    """One row per instant and account: its phase under the company's label, and the value of its live contracts.

    Phases: those of `account_phases`; with kind silence `active` (has used, lately), `already_silent` and `potential`.
    """
    bought = _contract_phases(tables, instants, grace_days=label.grace_days)
    if label.kind == "silence":
        mrr = bought.select("account_id", "as_of", "mrr")
        rows = beside(silent_phases(tables, instants, label), mrr)
    else:
        rows = bought
    return closed_by_hand(rows, tables["corrections"]).select("account_id", "as_of", "phase", "mrr")


def account_phases(tables: Tables, instants: ir.Table, *, grace_days: int) -> ir.Table:
    """One row per instant and account: its phase by its contracts, and the value of those that are live.

    Phases: `active` (scored), `notice` (notice known, or ended at most `grace_days` ago: listed as leaving),
    `lost`, and `potential` (never a customer so far).
    """
    return _contract_phases(tables, instants, grace_days=grace_days).drop("resumed_at")


def _contract_phases(tables: Tables, instants: ir.Table, *, grace_days: int) -> ir.Table:
    """`account_phases`, and beside them `resumed_at`: when the last contract began."""
    contracts = contracts_known(tables, instants)
    has_begun = contracts.start_at < contracts.as_of
    known = contracts.group_by("account_id", "as_of").agg(
        live=contracts.is_live.sum(),
        # A contract signed but not begun also says that the account goes on.
        staying=((contracts.is_live | ~has_begun) & ~contracts.has_notice).sum(),
        begun=has_begun.sum(),
        resumed_at=contracts.start_at.max(where=has_begun),
        last_end_at=contracts.end_at.max(),
        mrr=contracts.mrr.cast("decimal(18, 4)").sum(where=contracts.is_live).cast("double"),
    )
    accounts = tables["accounts"].select("account_id").distinct()
    everyone = accounts.cross_join(instants)
    rows = beside(everyone, known)
    ended_lately = rows.last_end_at >= rows.as_of - ibis.interval(days=grace_days)
    phase = ibis.cases(
        (rows.begun.fill_null(0) == 0, "potential"),
        ((rows.staying > 0) & ((rows.live > 0) | ended_lately.fill_null(False)), "active"),
        ((rows.live > 0) | ended_lately.fill_null(False), "notice"),
        else_="lost",
    )
    return rows.select("account_id", "as_of", phase=phase, mrr=rows.mrr, resumed_at=rows.resumed_at)


@dataclass(frozen=True)
class Span:
    """The time that the data cover: from the first event to the midnight after the last."""

    start: datetime
    until: datetime

    def instants(self) -> list[datetime]:
        """The calendar of snapshots: the first of each month from the third month of data on."""
        third_month = self.start.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=62)
        return first_of_months(third_month.replace(day=1), self.until)


def data_span(tables: Tables, now: datetime) -> Span:
    """The span of usage, or where there is none of tickets, surveys or contracts; never beyond `now`."""
    for name in ("usage", "tickets", "surveys", "contracts", "accounts"):
        if not tables.has(name):
            continue
        events = tables[name]
        past = events.filter(events.event_at < ibis.timestamp(now))
        found = past.agg(first=past.event_at.min(), last=past.event_at.max()).to_pyarrow().to_pylist()[0]
        if found["first"] is not None:
            day_after = found["last"].replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            return Span(found["first"], min(day_after, now))
    return Span(now, now)
