"""What a reader must know of a model: the card that travels with it, and the table of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.settings import Settings
from training.audit import Audit
from training.dataset import Dataset
from training.evaluation import Evaluation
from training.intervals import Estimate


def card(dataset: Dataset, evaluation: Evaluation, audit: Audit, settings: Settings, *, calibrated_on: str) -> str:
    """What the model predicts, from what, how well, and what it must not be used for, as Markdown."""
    label = settings.label
    lines = [
        "# Churn model",
        "",
        f"Probability that an account {label.loss} within {label.horizon_days} days of the scored instant.",
        "",
        f"- Learned from {len(dataset.maturity.mature):,} snapshots of accounts, {dataset.maturity.lost} of them lost; "
        f"data {dataset.identity[:16]}.",
        f"- Calibrated on {calibrated_on}.",
        f"- Leakage: {audit.verdict}.",
        f"- Judged at {len(evaluation.instants)} later instants, {evaluation.instants[0]:%Y-%m-%d} to "
        f"{evaluation.instants[-1]:%Y-%m-%d}, each time on a model that knew only what was known then. The figures are "
        "those of these refits; the registered model is fitted once more on all mature rows.",
        *(f"- {line}" for line in told_views(evaluation.views)),
        *(f"- Warning: {warning}." for warning in evaluation.warnings),
        "",
        *figures_table(evaluation),
        "",
        f"Features: {', '.join(dataset.features)}.",
        "",
        "Not for: deciding terms, prices or service of an account, or judging a person.",
    ]
    return "\n".join(lines) + "\n"


def told_views(views: Mapping[str, Any]) -> list[str]:
    """The figures from other sides, a sentence each; what could not be computed is left out."""
    lines = []
    found, optimism = views["capacity"], views["optimism"]
    notice = views.get("days_of_notice", {"median": None})
    if found["precision"]["value"] is not None:
        money = "" if found["mrr_recall"]["value"] is None else f", and {_share(found['mrr_recall'])} of their MRR"
        lines.append(
            f"At capacity, {found['listed_per_instant']} accounts a list: {_share(found['precision'])} of those listed "
            f"left, {_share(found['recall'])} of those who left were listed{money}."
        )
    if notice["median"] is not None:
        listed = f"{1 - notice['share_never_listed']:.0%} of the lost accounts were on a list before they decided"
        half = notice["median_listed"]
        lines.append(f"{listed}{'' if half is None else f', half of these at least {half:.0f} days before'}.")
    sides = {**views.get("parts", {}), "new": views.get("new_accounts", {})}
    parts = {name: part.get("auc", {}) for name, part in sides.items()}
    told = {"now": "losses decided within the lead days", "act": "later ones", "new": "accounts never learned from"}
    shown = [f"{told[name]} {auc['value']:.3f}" for name, auc in parts.items() if auc.get("value") is not None]
    blind = views.get("without_contract_timing", {}).get("auc", {})
    shown += [f"without contract dates {blind['value']:.3f}"] if blind.get("value") is not None else []
    if shown:
        lines.append(f"AUC apart: {', '.join(shown)}.")
    if optimism["optimism"] is not None:
        lines.append(
            f"Optimism: a random split would have claimed an AUC of {optimism['random_split_auc']:.3f}, "
            f"{optimism['optimism']:+.3f} against {optimism['later_in_time_auc']:.3f} later in time."
        )
    return lines


def _share(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.0%} ({figure['low']:.0%}–{figure['high']:.0%})"


def figures_table(evaluation: Evaluation) -> list[str]:
    """The figures of the model and its baselines as the aligned lines of a Markdown table."""
    columns: Mapping[str, Mapping[str, Estimate]] = {"model": evaluation.figures, **evaluation.baselines}
    rows = [["", *columns]]
    rows += [[name, *(shown(figures[name]) for figures in columns.values())] for name in evaluation.figures]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def shown(estimate: Estimate) -> str:
    """A figure with its 95 % interval, or a dash where it has no value."""
    if estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"
