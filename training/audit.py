"""The leakage certificate of a model: what was tried to show that it knows nothing of the future, and what came out.

It travels inside the artefact. `tenure verify` makes it again from the stored data and compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from features.build import feature_table, statements_hash
from features.catalogue import FEATURES, catalogue_hash
from features.certificate import Certificate
from features.settings import Settings
from features.tables import Tables
from training.dataset import Dataset
from training.evaluation import Evaluation
from training.leakage import Finding, Permuted, faded, inspected, permuted
from training.learners import Learner, Trees

EARLIER_DAYS = 7


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Every check of one model."""

    planted: Certificate | None
    """Rows that no feature may see; None for a table of features that was made elsewhere."""
    findings: tuple[Finding, ...]
    accepted: Mapping[str, str]
    """Feature → why it may be beyond a limit."""
    permuted: Permuted
    embargo: Mapping[str, Any]
    """The last day on which a label learned from was final, and the first instant judged."""
    hashes: Mapping[str, str]
    optimism: Mapping[str, Any]
    trained_at: datetime
    """The day on which the data were looked at."""

    @property
    def refused(self) -> tuple[Finding, ...]:
        """Findings that nobody accepted."""
        return tuple(finding for finding in self.findings if finding.feature not in self.accepted)

    @property
    def faults(self) -> list[str]:
        """Why the model may not be promoted, in words; none where it may."""
        faults = [str(finding) for finding in self.refused]
        if self.planted is not None and self.planted.moved:
            faults.append(self.planted.verdict)
        if not self.permuted.is_clean:
            faults.append(
                f"on labels that mean nothing the procedure reaches an AUC of {self.permuted.mean_auc:.3f}, "
                f"99 % of random scores at most {self.permuted.high:.3f}"
            )
        if not self.embargo["holds"]:
            faults.append(f"a label final on {self.embargo['last_final']} was learned from too early")
        return faults

    @property
    def verdict(self) -> str:
        """In one sentence, no stronger than what was shown."""
        if faults := self.faults:
            return "; ".join(faults)
        shown = "no feature is beyond a limit" if self.planted is None else self.planted.verdict
        used = sorted(set(self.accepted) & {finding.feature for finding in self.findings})
        return shown + (f"; accepted by hand: {', '.join(used)}" if used else "")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **({} if self.planted is None else self.planted.as_dict()),
            "verdict": self.verdict,
            "is_valid": not self.faults,
            "findings": [asdict(finding) for finding in self.findings],
            "accepted": dict(self.accepted),
            "permuted_labels": self.permuted.as_dict(),
            "embargo": dict(self.embargo),
            "optimism": dict(self.optimism),
            "hashes": dict(self.hashes),
            "trained_at": f"{self.trained_at:%Y-%m-%d}",
        }


def audited(
    dataset: Dataset,
    evaluation: Evaluation,
    planted: Certificate,
    tables: Tables,
    settings: Settings,
    *,
    learner: Learner | None = None,
) -> Audit:
    """Every check on the company's own tables."""
    rows = _judged(dataset, evaluation.instants)
    needs = {item.name: item.needs for item in FEATURES}
    findings = inspected(rows, dataset.features, needs=needs)
    earlier = _earlier(tables, settings, evaluation.instants)
    findings += faded(rows, earlier, dataset.features, days=EARLIER_DAYS)
    hashes = {
        "data": dataset.identity,
        "catalogue": catalogue_hash(item for item in FEATURES if item.name in dataset.features),
        "statements": statements_hash(tables, settings.label),
    }
    return Audit(
        planted=planted,
        findings=tuple(findings),
        accepted=settings.leakage.accept,
        permuted=permuted_labels(dataset, evaluation, settings, learner=learner or Trees()),
        embargo=_embargo(dataset, evaluation.instants),
        hashes=hashes,
        optimism=evaluation.views["optimism"],
        trained_at=dataset.span.until,
    )


def permuted_labels(dataset: Dataset, evaluation: Evaluation, settings: Settings, *, learner: Learner) -> Permuted:
    """The procedure of the latest fold, its number of trees fixed, on labels that mean nothing."""
    instant, names = evaluation.instants[-1], list(dataset.features)
    past = dataset.known_at(instant)
    later = _judged(dataset, (instant,))
    rows = pd.concat([past.assign(is_later=False), later.assign(is_later=True)], ignore_index=True)

    def procedure(mixed: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        learned, judged = mixed[~mixed.is_later], mixed[mixed.is_later]
        matrix, churned = learned[names].to_numpy(np.float64), learned.churned.to_numpy(np.int8)
        if len(set(churned)) < 2:
            return judged.churned.to_numpy(float), np.zeros(len(judged))
        model = learner.learn(matrix, churned, dataset.features, seed=settings.train.seed, rounds=evaluation.rounds)
        return judged.churned.to_numpy(float), model.raw_scores(judged[names].to_numpy(np.float64))

    return permuted(rows, procedure, times=settings.leakage.permutations, seed=settings.train.seed)


def _judged(dataset: Dataset, instants: Sequence[datetime]) -> pd.DataFrame:
    rows = dataset.rows[dataset.rows.as_of.isin(list(instants)) & (dataset.rows.state == "labelled")]
    return rows.assign(churned=rows.churned.astype(int))


def _earlier(tables: Tables, settings: Settings, instants: Sequence[datetime]) -> pd.DataFrame:
    """The features of a week before each instant, under the instant's own date."""
    week = timedelta(days=EARLIER_DAYS)
    rows = feature_table(tables, [instant - week for instant in instants], settings.label).to_pandas()
    return pd.DataFrame(rows.assign(as_of=rows.as_of + week))


def _embargo(dataset: Dataset, instants: Sequence[datetime]) -> dict[str, Any]:
    """max(train s + horizon + grace + delay) <= min(test s), fold by fold."""
    final = [(dataset.known_at(instant).as_of.max() + dataset.maturity.final_after, instant) for instant in instants]
    last, first = final[-1]
    return {
        "holds": all(end <= instant for end, instant in final),
        "last_final": f"{last:%Y-%m-%d}",
        "judged_at": f"{first:%Y-%m-%d}",
        "days": dataset.embargo_days,
    }
