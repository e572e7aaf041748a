"""What the lists would have said in the past: each lost account by name, first listed when, at which rank.

At every past instant the recipe is fitted on what was known then, all active accounts are ranked, and the list is cut
by capacity, exactly as it is today.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from features.settings import Settings
from features.tables import Tables
from training.dataset import Dataset
from training.evaluation import rolling_predictions
from training.views import with_lists

MONTHS = 12
LOSS_COLUMNS = ("account_id", "name", "decided_at", "mrr", "first_listed", "days_before", "rank", "listed_times")


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """The past, as the lists would have shown it."""

    losses: pd.DataFrame
    """One row per loss: account_id, name, decided_at, mrr, first_listed, days_before, rank, listed_times."""
    lists: pd.DataFrame
    """One row per instant: as_of, scored, listed, hours."""

    @property
    def found(self) -> pd.DataFrame:
        """Losses that were on a list before the decision."""
        return self.losses[self.losses.first_listed.notna()]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every loss, every list, and the summary."""
        return {"losses": _plain(self.losses), "lists": _plain(self.lists), "summary": self.summary()}

    def summary(self) -> list[str]:
        """Three lines for a head of customer success."""
        lost, found = len(self.losses), self.found
        share = f"{len(found) / lost:.0%}" if lost else "none"
        notice = "–" if found.empty else f"{found.days_before.median():.0f} days"
        money = f"{found.mrr.sum():,.0f} of {self.losses.mrr.sum():,.0f} MRR"
        listed, hours = int(self.lists.listed.sum()), self.lists.hours.sum()
        per_loss = f"{hours / len(found):,.0f} hours per loss seen coming" if len(found) else "no loss seen coming"
        return [
            f"{len(found)} of {lost} lost accounts ({share}; {money}) stood on a list before they decided to leave.",
            f"Half of these were first listed at least {notice} before the decision.",
            f"{len(self.lists)} lists named {listed:,} accounts: {hours:,.0f} CSM hours, {per_loss}.",
        ]


def backtest(
    dataset: Dataset, tables: Tables, settings: Settings, *, progress: Callable[[str], None] | None = None
) -> Backtest:
    """Replay the last twelve monthly lists that could have been made."""
    candidates = [instant for instant in dataset.span.instants() if dataset.maturity.can_train_at(instant)]
    instants = candidates[-MONTHS:]
    scored, _ = rolling_predictions(dataset, instants, seed=settings.train.seed, progress=progress)
    ranked = with_lists(scored, settings.policy)
    losses = _losses(dataset, ranked, pd.Timestamp(instants[0]), pd.Timestamp(dataset.span.until))
    names = tables["accounts"].group_by("account_id").agg(name=tables["accounts"].name.max()).to_pandas()
    lists = ranked.groupby("as_of").agg(scored=("rank", "size"), listed=("is_listed", "sum")).reset_index()
    lists["hours"] = lists.listed * settings.policy.hours_per_contact
    return Backtest(losses=losses.merge(names, on="account_id", how="left"), lists=lists)


def _losses(dataset: Dataset, ranked: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Losses decided in (start, end) of accounts that were scored before, and where the lists had them."""
    decided = dataset.rows.dropna(subset=["decided_at"]).drop_duplicates(["account_id", "decided_at"])
    decided = decided.sort_values(["account_id", "decided_at"])
    decided["decided_before"] = decided.groupby("account_id").decided_at.shift()
    decided = decided[(decided.decided_at > start) & (decided.decided_at < end)]
    seen = ranked.drop(columns=["decided_at", "mrr"]).merge(
        decided[["account_id", "decided_at", "decided_before"]], on="account_id"
    )
    # A list of before an earlier loss of the same account saw that loss coming, not this one.
    since = seen.decided_before.isna() | (seen.as_of >= seen.decided_before)
    seen = seen[(seen.as_of < seen.decided_at) & since]
    hits = seen[seen.is_listed].sort_values("as_of")
    first = hits.groupby(["account_id", "decided_at"]).agg(
        first_listed=("as_of", "first"), rank=("rank", "first"), listed_times=("as_of", "size")
    )
    losses = decided[["account_id", "decided_at", "mrr"]].merge(first, on=["account_id", "decided_at"], how="left")
    losses["days_before"] = (losses.decided_at - losses.first_listed).dt.days
    losses["listed_times"] = losses.listed_times.fillna(0).astype(int)
    return losses.sort_values(["decided_at", "account_id"]).reset_index(drop=True)


def _plain(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values: dates as text, whole numbers without a point, what is missing as None."""
    plain = rows.astype(object).where(rows.notna(), None)
    return [{str(name): _value(value) for name, value in row.items()} for row in plain.to_dict("records")]


def _value(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    return int(value) if isinstance(value, float) and value.is_integer() else value
