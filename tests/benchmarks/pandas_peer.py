"""The same usage features in pandas, the way notebooks do it: filter the events of each instant, then group."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd


def pandas_features(home: Path, instants: list[datetime]) -> pd.DataFrame:
    """All measured features at all instants, from the raw events in memory."""
    files = sorted((home / "usage").glob("*.parquet"))
    events = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
    for column in ("account_id", "user_id", "feature_id", "kind"):
        events[column] = events[column].astype("category")
    events["day"] = events.event_at.dt.floor("D")
    events["core"] = events.quantity.where(events.is_core, 0.0)
    contracts = pd.read_parquet(home / "contracts.parquet").set_index("account_id")
    bought = pd.read_parquet(home / "entitlements.parquet")
    return pd.concat([_at(events, contracts, bought, pd.Timestamp(instant)) for instant in instants])


def _at(events: pd.DataFrame, contracts: pd.DataFrame, bought: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    seen = events[(events.event_at < as_of) & (events.known_at <= as_of)]
    age = (as_of - seen.day).dt.days
    rows = pd.DataFrame(index=contracts.index)

    def within(first: int, last: int) -> pd.DataFrame:
        return seen[(age >= first) & (age <= last)]

    def per_account(values: pd.Series) -> pd.Series:
        return values.reindex(rows.index)

    week, month, quarter, before = within(1, 7), within(1, 28), within(1, 91), within(29, 56)
    by_month = month.groupby("account_id", observed=True)
    core = per_account(by_month.core.sum()).fillna(0)
    core_91 = per_account(quarter.groupby("account_id", observed=True).core.sum()).fillna(0)
    rows["active_days_28d"] = per_account(by_month.day.nunique()).fillna(0)
    kinds = month.groupby(["account_id", "kind"], observed=True).size().unstack("kind")
    rows["failed_jobs_28d"] = per_account(kinds["job_failed"]).fillna(0)
    rows["bulk_exports_28d"] = per_account(kinds["export"]).fillna(0)
    rows["usage_trend_28v91"] = np.log((core + 1) / ((core_91 - core) * 28 / 63 + 1))
    earlier = pd.concat(
        [
            per_account(within(28 * n + 1, 28 * n + 28).groupby("account_id", observed=True).core.sum()).fillna(0)
            for n in range(1, 7)
        ],
        axis=1,
    )
    rows["usage_own_z_28d"] = (core - earlier.mean(axis=1)) / (earlier.std(axis=1, ddof=0) + 1)
    shares = [part.groupby("account_id", observed=True).is_error.mean() for part in (week, month)]
    rows["error_rate_7v28"] = per_account(shares[0]) - per_account(shares[1])
    by_account = seen.groupby("account_id", observed=True)
    rows["days_since_last_login"] = per_account((as_of - by_account.day.max()).dt.days)
    last_core = seen[seen.core > 0].groupby("account_id", observed=True).day.max()
    rows["days_since_core_use"] = per_account((as_of - last_core).dt.days)
    tenure = (as_of - contracts.start_at).dt.days
    since = rows.days_since_core_use
    rows["is_frozen_90d"] = np.where(since.isna(), tenure >= 90, since > 90).astype(float)
    users = per_account(by_month.user_id.nunique()).fillna(0)
    rows["active_users_7d"] = per_account(week.groupby("account_id", observed=True).user_id.nunique()).fillna(0)
    rows["active_users_28d"] = users
    were = before[["account_id", "user_id"]].drop_duplicates()
    stayed = were.user_id.isin(month.user_id.unique())
    rows["users_lost_share_28d"] = per_account((~stayed).groupby(were.account_id, observed=True).mean())
    some = users.where(users > 0)
    rows["core_actions_per_user_28d"] = core / some
    rows["wau_mau_ratio_28d"] = rows.active_users_7d / some
    rows["seat_utilisation_28d"] = users / contracts.seats
    rows["active_minutes_28d"] = per_account(by_month.minutes.sum()) / some
    links = month[month.kind == "integration"].groupby("account_id", observed=True).feature_id.nunique()
    rows["integrations_active_28d"] = per_account(links).fillna(0)
    used = quarter[["account_id", "feature_id"]].drop_duplicates().assign(used=True)
    core_used = month[month.core > 0][["account_id", "feature_id"]].drop_duplicates().assign(core_used=True)
    owned = bought.merge(used, how="left").merge(core_used, how="left")
    modules = owned.groupby(["account_id", "module_id"]).used.any()
    rows["modules_unused_91d"] = per_account((~modules).groupby("account_id").sum())
    rows["feature_breadth_ratio_28d"] = per_account(owned.core_used.notna().groupby(owned.account_id).mean())
    return rows.reset_index().assign(as_of=as_of)
