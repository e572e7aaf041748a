"""Whether the configured windows leave enough to learn from and to judge by, and which windows would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pandas as pd

from features.labels import labelled, reporting_delay_days
from features.settings import LabelSettings
from features.snapshots import Span
from features.tables import Tables

MIN_TEST_LOST = 5
"""Lost accounts in the window of an instant below which it says nothing about a model."""

_ALTERNATIVES = ((90, 30, 30), (60, 30, 30), (60, 14, 14), (60, 0, 0), (30, 14, 14), (30, 0, 0))
"""Horizon, grace and lead days, largest first."""


@dataclass(frozen=True, kw_only=True)
class Maturity:
    """What the labels of a company allow under one set of windows."""

    label: LabelSettings
    delay_days: int
    rows: pd.DataFrame
    """Every account and instant with phase, mrr, state, churned and its other outcomes, see `labelled`."""
    min_lost: int

    @property
    def final_after(self) -> timedelta:
        """How long after an instant its labels are final: horizon, grace (or silence) and reporting delay."""
        return timedelta(days=self.label.horizon_days + self.label.settling_days + self.delay_days)

    @property
    def mature(self) -> pd.DataFrame:
        """The rows with a final label."""
        return self.rows[self.rows.state == "labelled"]

    @property
    def lost(self) -> int:
        """Distinct accounts lost in any mature window."""
        return int(self.mature.loc[self.mature.churned == 1, "account_id"].nunique())

    def lost_by_instant(self) -> pd.Series:
        """Lost accounts in the window of each mature instant."""
        return self.mature.groupby("as_of").churned.sum().astype(int)

    def shares(self) -> dict[str, float | None]:
        """Of the mature rows the share that contracted, of the lost ones the share whose own decision it was."""
        rows = self.mature
        by_name = {
            "contracted_share": rows.contracted,
            "reason_told_share": rows.loc[rows.churned == 1, "voluntary"].notna(),
            "voluntary_share": rows.voluntary,
        }
        means = {name: values.dropna().astype("float64").mean() for name, values in by_name.items()}
        return {name: None if pd.isna(mean) else round(float(mean), 4) for name, mean in means.items()}

    def known_at(self, instant: datetime) -> pd.DataFrame:
        """The labels that were final at `instant`, as they were known then; training at `instant` may use no others."""
        at = pd.Timestamp(instant)
        past = self.mature[self.mature.as_of <= at - self.final_after]
        known = (past.churned == 1) & (past.decision_known_at <= at)
        # A loss that was found to be none only later was one for who learned then.
        mistaken = (past.believed_at <= at) & (past.refuted_at > at)
        return past.assign(churned=(known | mistaken).astype("int8"))

    def can_train_at(self, instant: datetime) -> bool:
        """Whether enough losses were known at `instant` to learn from."""
        past = self.known_at(instant)
        return int(past.loc[past.churned == 1, "account_id"].nunique()) >= self.min_lost

    def folds(self) -> list[datetime]:
        """The instants at which a model trained on what was known then can be judged on what came after."""
        tested = self.lost_by_instant()
        return [
            at.to_pydatetime() for at in tested.index[tested >= MIN_TEST_LOST] if self.can_train_at(at.to_pydatetime())
        ]


def maturity(
    tables: Tables, span: Span, label: LabelSettings, *, min_lost: int, instants: Sequence[datetime] | None = None
) -> Maturity:
    """Labels at every instant of the calendar, and what they allow."""
    delay = reporting_delay_days(tables, label)
    moments = span.instants() if instants is None else instants
    rows = labelled(tables, moments, label, until=span.until, delay_days=delay) if moments else None
    frame = pd.DataFrame(columns=_COLUMNS) if rows is None else rows.order_by(["as_of", "account_id"]).to_pandas()
    return Maturity(label=label, delay_days=delay, rows=frame, min_lost=min_lost)


_COLUMNS = [
    "account_id", "as_of", "phase", "mrr", "state", "churned", "part", "decided_at", "decision_known_at", "lost_at",
    "voluntary", "believed_at", "refuted_at", "contracted", "contraction_mrr",
]  # fmt: skip


def windows_that_work(tables: Tables, span: Span, label: LabelSettings, *, min_lost: int) -> list[LabelSettings]:
    """The largest windows under which at least one fold can be trained and judged; empty where none does."""
    for horizon, grace, lead in _ALTERNATIVES:
        candidate = replace(label, horizon_days=horizon, grace_days=grace, lead_days=min(lead, horizon - 1))
        if maturity(tables, span, candidate, min_lost=min_lost).folds():
            return [candidate]
    return []


def advice(found: Sequence[LabelSettings], label: LabelSettings) -> str:
    """What to write into `[label]` so that training works, in one sentence."""
    settling = "silence" if label.kind == "silence" else "grace"
    if not found:
        return (
            f"No windows from 90 to 30 days would give one (now {label.horizon_days} and a {settling} of "
            f"{label.settling_days}): more history of lost accounts is needed."
        )
    best = found[0]
    return (
        f"Windows that would work: [label] horizon_days = {best.horizon_days}, {settling}_days = "
        f"{best.settling_days}, lead_days = {best.lead_days}."
    )
