"""The figures of a model seen from other sides: by part, segment and instant, at the team's capacity, in money.

Every view takes the rows that were judged, with account_id, parent_id, as_of, churned, part, mrr, `probability`,
`raw_score` and what else it names, and gives plain values for JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.model_settings import PolicySettings, places
from training import metrics
from training.intervals import Estimate, drawn_sums, evaluate_rows

Figures = dict[str, Any]
Floats = npt.NDArray[np.float64]

MIN_LOST = 30
"""Lost accounts of a segment from which the gate judges it."""
RATIOS = {"precision": ("found", "listed"), "recall": ("found", "lost"), "mrr_recall": ("found_mrr", "lost_mrr")}
"""Figures at capacity: what is counted, and of how many."""


def plain(figures: Mapping[str, Estimate]) -> Figures:
    """Estimates for JSON."""
    return {name: estimate.as_dict() for name, estimate in figures.items()}


def judged(rows: pd.DataFrame, *, draws: int, seed: int) -> Figures:
    """Rows, lost accounts and every metric of the model on `rows`."""
    counts = {"rows": len(rows), "lost_accounts": _lost(rows)}
    return counts | (plain(evaluate_rows(rows, "probability", draws=draws, seed=seed)) if len(rows) else {})


def by_part(rows: pd.DataFrame, *, draws: int, seed: int) -> Figures:
    """Losses decided within the lead days (*now*) and later ones (*act*), each against the accounts that stayed."""
    kept = rows.churned == 0
    return {part: judged(rows[kept | (rows.part == part)], draws=draws, seed=seed) for part in ("now", "act")}


def by_segment(rows: pd.DataFrame, *, draws: int, seed: int) -> Figures:
    """Each segment, with its share lost and its mean probability beside the gap that chance alone would leave."""
    if rows.segment.isna().all():
        return {}
    found = {}
    for segment, part in rows.groupby(rows.segment.fillna("(none)")):
        mean, spread = part.probability.mean(), np.sqrt((part.probability * (1 - part.probability)).sum()) / len(part)
        calibration = {"lost_share": float(part.churned.mean()), "mean_probability": float(mean),
                       "noise": float(1.96 * spread)}  # fmt: skip
        found[str(segment)] = judged(part, draws=draws, seed=seed) | calibration
    return found


def by_instant(rows: pd.DataFrame) -> Figures:
    """The AUC, log loss and counts of each instant: how far the figures spread in time."""
    found = {}
    for instant, part in rows.groupby("as_of"):
        lost, chance = part.churned.to_numpy(), part.probability.to_numpy()
        figures = {"auc": metrics.roc_auc(lost, chance), "log_loss": metrics.log_loss(lost, chance)}
        found[f"{instant:%Y-%m-%d}"] = {"rows": len(part), "lost_accounts": _lost(part), **figures}
    return found


def at_capacity(rows: pd.DataFrame, policy: PolicySettings, *, draws: int, seed: int) -> Figures:
    """Precision, and lost accounts and MRR found, on lists of the length that the team can work through.

    Lists are ordered as they are published: by probability × MRR. Intervals by Poisson bootstrap over parents.
    """
    listed = with_lists(rows, policy).assign(worth=lambda each: each.mrr.fillna(0.0))
    lost = listed.churned == 1
    if not lost.any():
        return {name: {"value": None, "reason": "No account was lost."} for name in RATIOS}
    values = {
        "listed": listed.is_listed,
        "found": listed.is_listed & lost,
        "lost": lost,
        "found_mrr": listed.worth.where(listed.is_listed & lost, 0.0),
        "lost_mrr": listed.worth.where(lost, 0.0),
    }
    drawn = drawn_sums(listed, values, draws=draws, seed=seed)
    sums = {name: float(np.sum(value)) for name, value in values.items()}
    found: Figures = {"listed_per_instant": int(listed.groupby("as_of").is_listed.sum().median())}
    for name, (part, whole) in RATIOS.items():
        found[name] = _ratio(sums[part], sums[whole], drawn[part], drawn[whole])
    return found


def _ratio(part: float, whole: float, parts: Floats, wholes: Floats) -> Figures:
    if whole == 0:
        return {"value": None, "reason": "There is nothing to divide by."}
    low, high = np.quantile(parts[wholes > 0] / wholes[wholes > 0], [0.025, 0.975])
    return {"value": part / whole, "low": float(low), "high": float(high)}


def with_lists(rows: pd.DataFrame, policy: PolicySettings) -> pd.DataFrame:
    """`rows` with `rank` within each instant, as a list is ordered, and `is_listed`, cut by the team's capacity."""
    value = rows.probability * rows.mrr.fillna(1.0)
    order = rows.assign(value=value).sort_values(
        ["as_of", "value", "raw_score", "account_id"], ascending=[True, False, False, True]
    )
    rank = order.groupby("as_of").cumcount() + 1
    room = order.groupby("as_of").account_id.transform("size").map(lambda size: places(size, policy.capacity))
    return order.assign(rank=rank, is_listed=rank <= room)


def days_of_notice(rows: pd.DataFrame, policy: PolicySettings) -> Figures:
    """Days from the first list that named a lost account to its decision; 0 for those that no list named."""
    listed = with_lists(rows, policy)
    lost = listed[(listed.churned == 1) & listed.decided_at.notna()]
    if lost.empty:
        reason = "No account was lost."
        return {"median": None, "median_listed": None, "share_never_listed": None, "reason": reason}
    first = lost[lost.is_listed].groupby("account_id").as_of.min()
    decided = lost.groupby("account_id").decided_at.max()
    notice = (decided - first.reindex(decided.index)).dt.days.clip(lower=0).fillna(0)
    was_listed = decided.index.isin(first.index)
    return {
        "median": float(notice.median()),
        "median_listed": float(notice[was_listed].median()) if was_listed.any() else None,
        "share_never_listed": float((~was_listed).mean()),
    }


def in_money(rows: pd.DataFrame, policy: PolicySettings) -> Figures:
    """EMPB and the expected-profit curve of contacting the top of the list, per account.

    The value of an account is twelve times its MRR (1 where nobody tells it); offer, cost of a contact and share
    saved are those of `[policy]`, assumptions until outcomes have measured them.
    """
    worth = 12 * rows.mrr.fillna(0.0).to_numpy() if rows.mrr.notna().any() else np.ones(len(rows))
    terms = {"delta": policy.offer_share, "contact_cost": policy.contact_cost, "gamma": policy.saved_share}
    best = metrics.empb(rows.churned, rows.probability, clv=worth, **terms)
    if best is None:
        return {"empb": None, "reason": metrics.why_undefined(rows.churned, rows.probability)}
    share, profit = metrics.profit_curve(rows.churned, rows.probability, clv=worth, **terms)
    points = np.linspace(0, 1, 21)
    return {
        "empb": best,
        "best_share": float(share[np.argmax(profit)]),
        "curve": {"share": points.tolist(), "profit": np.interp(points, share, profit).tolist()},
        "assumed": terms,
    }


def _lost(rows: pd.DataFrame) -> int:
    return int(rows.loc[rows.churned == 1, "account_id"].nunique())
