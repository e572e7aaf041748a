"""The training run: dataset, honest figures, final fit, artefact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from features.catalogue import FEATURES, catalogue_hash
from features.certificate import Certificate, certify
from features.settings import Settings
from features.tables import Tables
from training.dataset import Dataset, build_dataset
from training.evaluation import Evaluation, evaluate
from training.fit import fit
from training.intervals import Estimate
from training.model import ChurnModel, golden_rows

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run produced; nothing of it is stored yet."""

    model: ChurnModel
    evaluation: Evaluation
    dataset: Dataset


def train(tables: Tables, settings: Settings, *, now: datetime, progress: Progress) -> Trained:
    """Judge the recipe on later months, then fit it on everything whose label is final.

    Raises
    ------
    TooFewChurns
        There is too little to learn from.
    ConfigurationError
        A feature sees what happened or was learned after its instant.
    """
    dataset = build_dataset(tables, settings, now=now)
    accounts = dataset.rows.account_id.nunique()
    progress(f"{len(dataset.rows):,} rows of {accounts:,} accounts, {len(dataset.features)} features")
    progress("planting rows that no feature may see")
    certificate = certify(tables, settings, as_of=dataset.span.instants()[-1])
    certificate.refuse_leaks()
    progress(certificate.verdict)
    options = settings.train
    evaluation = evaluate(dataset, folds=options.folds, seed=options.seed, draws=options.draws, progress=progress)
    progress("final fit on all mature rows")
    rows = dataset.rows[dataset.rows.state == "labelled"].assign(churned=lambda frame: frame.churned.astype(int))
    fitted = fit(rows, dataset.features, seed=options.seed, earlier=evaluation.predictions, rounds=evaluation.rounds)
    model = ChurnModel(
        booster=fitted.booster,
        features=dataset.features,
        calibrator=fitted.calibrator,
        base_rate=float(rows.churned.mean()),
        no_signal=evaluation.why_no_signal() is not None,
        horizon_days=settings.label.horizon_days,
        catalogue=catalogue_hash(item for item in FEATURES if item.name in dataset.features),
        typical=_medians(rows, dataset.features),
        golden=golden_rows(rows, fitted.booster, dataset.features),
        evaluation=evaluation.as_dict(),
        certificate=certificate.as_dict(),
        card=card(dataset, evaluation, certificate, settings, calibrated_on=fitted.calibrated_on),
    )
    return Trained(model=model, evaluation=evaluation, dataset=dataset)


def _medians(rows: pd.DataFrame, features: tuple[str, ...]) -> dict[str, float | None]:
    medians = rows.loc[:, list(features)].median()
    return {str(name): None if pd.isna(value) else float(value) for name, value in medians.items()}


def card(
    dataset: Dataset, evaluation: Evaluation, certificate: Certificate, settings: Settings, *, calibrated_on: str
) -> str:
    """The model card: what it predicts, from what, how well, and what it must not be used for."""
    label = settings.label
    lines = [
        "# Churn model",
        "",
        f"Probability that an account {label.loss} within {label.horizon_days} days of the scored instant.",
        "",
        f"- Learned from {len(dataset.maturity.mature):,} snapshots of accounts, {dataset.maturity.lost} of them lost; "
        f"data {dataset.identity[:16]}.",
        f"- Calibrated on {calibrated_on}.",
        f"- Leakage, tried with rows planted around {certificate.as_of:%Y-%m-%d}: {certificate.verdict}.",
        f"- Judged at {len(evaluation.instants)} later instants, {evaluation.instants[0]:%Y-%m-%d} to "
        f"{evaluation.instants[-1]:%Y-%m-%d}, each time on a model that knew only what was known then. The figures are "
        "those of these refits; the registered model is fitted once more on all mature rows.",
        *(f"- Warning: {warning}." for warning in evaluation.warnings),
        "",
        *figures_table(evaluation),
        "",
        f"Features: {', '.join(dataset.features)}.",
        "",
        "Not for: deciding terms, prices or service of an account, or judging a person.",
    ]
    return "\n".join(lines) + "\n"


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
