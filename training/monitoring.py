"""What changed since the champion learned: its inputs, its scores and, once outcomes are final, whether they hold.

Sources: population stability index as in Siddiqi, "Credit Risk Scorecards" (2006), with Jeffreys-smoothed shares; its
limit is the chi-squared quantile of Yurdakul, "Statistical properties of population stability index" (2018).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import chi2

from features.catalogue import feature
from features.errors import CannotWrite
from features.families import classes, peers
from features.settings import Settings
from training import metrics
from training.calibration_line import calibration_line
from training.dataset import Dataset
from training.intervals import parents_of
from training.model import ChurnModel

Floats = npt.NDArray[np.float64]

MONITOR_FILE = "monitor.json"
BINS = 10
MIN_PSI = 0.2
SURE = 0.999
TOP = 10
"""A feature among so many of the greatest gain can raise the alarm; the others are shown."""
MIN_LABELLED = 2000
FALSE_ALARMS = 0.025
"""Chance of each of the two tests of calibration to warn for nothing."""
YEAR = pd.DateOffset(years=1)

BY_NATURE = frozenset({"context", "onboarding"})
"""Reason groups that move by themselves: companies grow, accounts grow older."""
RELATIVE = frozenset(
    item.name for room in (classes, peers) for family in room.FAMILIES for item in family.all_features()
)
"""Features that compare an account with others: they move where the others do."""
LONGEST_WINDOW = pd.Timedelta(days=364)
COUNTDOWNS = frozenset({"days_to_renewal", "days_to_notice_deadline", "renewal_stage_days"})


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One input, or the score, then and now."""

    name: str
    psi: float
    limit: float
    gain_rank: int | None
    """1 for the feature of the greatest gain; None for the score and for features that the model never asks."""
    is_alarm: bool


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether the champion's probabilities came true on rows it did not learn from."""

    verdict: str
    """holds, off, or not judged."""
    said: str


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """What `tenure monitor` found."""

    version: str
    reference: str
    """Instant of the rows compared with."""
    current: str
    shifts: tuple[Shift, ...]
    score: Shift
    calibration: Calibration

    @property
    def alarms(self) -> tuple[str, ...]:
        """The features that the model leans on and that moved by more than chance, worst first."""
        return tuple(shift.name for shift in self.shifts if shift.is_alarm)

    @property
    def warnings(self) -> list[str]:
        """What calls for a look at the model."""
        found = [f"drift_warning: {shift.name} (PSI {shift.psi:.2f} above {shift.limit:.2f})"
                 for shift in (*self.shifts, self.score) if shift.is_alarm]  # fmt: skip
        return [*found, *([f"calibration: {self.calibration.said}"] if self.calibration.verdict == "off" else [])]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "warnings": self.warnings}

    def text(self, rows: int = 15) -> str:
        """The warnings, then the greatest shifts."""
        heading = f"Version {self.version}: rows of {self.current} beside those of {self.reference}"
        lines = [f"  {_line_of(shift)}" for shift in (self.score, *self.shifts[:rows])]
        calibration = f"Calibration: {self.calibration.verdict}; {self.calibration.said}."
        warned = [f"! {warning}" for warning in self.warnings] or ["No warning."]
        return "\n".join([heading, *lines, calibration, *warned])


def _line_of(shift: Shift) -> str:
    rank = "" if shift.gain_rank is None else f", gain rank {shift.gain_rank}"
    return f"{shift.name:<34} PSI {shift.psi:6.3f}, limit {shift.limit:.3f}{rank}{'  ALARM' if shift.is_alarm else ''}"


def monitor(dataset: Dataset, model: ChurnModel, *, version: str) -> Monitor:
    """Compare the latest snapshot with the same season a year before, else with the last one the model learned from."""
    current = max(dataset.rows.as_of)
    reference = reference_instant(dataset, model)
    then, now = dataset.at(reference), dataset.at(current)
    score = _shift("probability", model.probabilities(then), model.probabilities(now), gain_rank=None)
    return Monitor(
        version=version,
        reference=f"{reference:%Y-%m-%d}",
        current=f"{current:%Y-%m-%d}",
        shifts=input_shifts(then, now, gains(model)),
        score=score,
        calibration=calibration_of(*_come_true(dataset, model)),
    )


def reference_instant(dataset: Dataset, model: ChurnModel) -> datetime:
    """The snapshot that the latest one is compared with.

    It is of the same season a year before, where the model learned from that and its longest windows were full; else
    the last one that the model learned from.
    """
    learned = pd.Timestamp(model.evaluation["learned_until"])
    instants = sorted(dataset.rows.as_of.unique())
    seen = [instant for instant in instants if instant <= learned] or instants[:1]
    season = instants[-1] - YEAR
    is_full = season - pd.Timestamp(dataset.span.start) >= LONGEST_WINDOW
    return pd.Timestamp(season if season in seen and is_full else seen[-1]).to_pydatetime()


def gains(model: ChurnModel) -> dict[str, float]:
    """How much each feature of the model lowers the training loss."""
    found = model.booster.feature_importance(importance_type="gain")
    return dict(zip(model.features, map(float, found), strict=True))


def input_shifts(then: pd.DataFrame, now: pd.DataFrame, gain: Mapping[str, float]) -> tuple[Shift, ...]:
    """The shift of every feature of the model, greatest first; rows are one per account."""
    order = sorted((name for name in gain if gain[name] > 0), key=lambda name: (-gain[name], name))
    ranks = {name: place for place, name in enumerate(order, start=1)}
    shifts = [
        _shift(name, then[name].to_numpy(float), now[name].to_numpy(float), gain_rank=ranks.get(name))
        for name in gain if name in then.columns
    ]  # fmt: skip
    return tuple(sorted(shifts, key=lambda shift: (-shift.psi, shift.name)))


def _shift(name: str, then: Floats, now: Floats, *, gain_rank: int | None) -> Shift:
    found, bins = psi(then, now)
    limit = max(MIN_PSI, float(chi2.ppf(SURE, bins - 1)) * (1 / len(then) + 1 / len(now))) if bins > 1 else MIN_PSI
    may_alarm = name == "probability" or (gain_rank is not None and gain_rank <= TOP and not drifts_by_nature(name))
    return Shift(name=name, psi=found, limit=limit, gain_rank=gain_rank, is_alarm=may_alarm and found > limit)


def drifts_by_nature(name: str) -> bool:
    """Whether the feature moves though nothing is wrong, so that its shift is shown and calls for nothing."""
    return name in COUNTDOWNS or name in RELATIVE or feature(name).group in BY_NATURE


def psi(then: Floats, now: Floats, bins: int = BINS) -> tuple[float, int]:
    """Population stability index over quantile bins of `then`, missing values a bin of their own; and the bins used.

    Shares are smoothed: (k + 1/2) / (n + bins / 2).
    """
    known = then[~np.isnan(then)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if known.size else known
    sides = [
        np.where(np.isnan(side), len(edges) + 1, np.searchsorted(edges, side, side="right")) for side in (then, now)
    ]
    used, places = np.unique(np.concatenate(sides), return_inverse=True)
    shares = [
        (np.bincount(part, minlength=len(used)) + 0.5) / (len(part) + len(used) / 2)
        for part in np.split(places, [len(then)])
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()), len(used)


def _come_true(dataset: Dataset, model: ChurnModel) -> tuple[pd.DataFrame, Floats]:
    rows = dataset.labelled
    rows = rows[rows.as_of > pd.Timestamp(model.evaluation["learned_until"])]
    return rows, model.probabilities(rows) if len(rows) else np.empty(0)


def calibration_of(rows: pd.DataFrame, chance: Floats, *, draws: int = 1000, seed: int = 0) -> Calibration:
    """Judge probabilities by what happened.

    Parameters
    ----------
    rows : with account_id, parent_id and churned; an account judged at several instants counts as one fate
    chance : (n_rows,), what was said
    """
    if len(rows) < MIN_LABELLED or rows.churned.nunique() < 2:
        said = f"{len(rows):,} rows are final since the model was made, of {MIN_LABELLED:,} that a verdict needs"
        return Calibration(verdict="not judged", said=said)
    lost, parents = rows.churned.to_numpy(float), parents_of(rows)
    line = calibration_line(lost, chance, groups=parents)
    gap, floor = metrics.ece(lost, chance), _ece_floor(chance, parents, draws=draws, seed=seed)
    if line is None or gap is None:
        return Calibration(
            verdict="not judged", said=str(metrics.why_undefined(lost, chance) or "all scores are alike")
        )
    is_off = gap > floor or line.distance > chi2.ppf(1 - FALSE_ALARMS, 2)
    (low, high), (flat, steep) = line.interval(0), line.interval(1)
    said = (
        f"ECE {gap:.4f}, chance leaves up to {floor:.4f}; intercept {line.intercept:+.2f} ({low:+.2f} to {high:+.2f}), "
        f"slope {line.slope:.2f} ({flat:.2f} to {steep:.2f}), {len(rows):,} rows"
    )
    return Calibration(verdict="off" if is_off else "holds", said=said)


def _ece_floor(chance: Floats, parents: npt.NDArray[np.intp], *, draws: int, seed: int) -> float:
    """The ECE that right probabilities stay below: fates are drawn by parent, so that an account's rows agree."""
    rng = np.random.default_rng(seed)
    in_bin = metrics.equal_mass_bins(chance)
    errors = []
    for _ in range(draws):
        lost = rng.random(parents.max() + 1)[parents] < chance
        errors.append(np.abs(np.bincount(in_bin, lost - chance)).sum() / len(chance))
    return float(np.quantile(errors, 1 - FALSE_ALARMS))


def keep(found: Monitor, settings: Settings) -> Path:
    """Write what was found beside the state, where the service shows it."""
    place = settings.state_dir / MONITOR_FILE
    try:
        staged = place.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps(found.as_dict(), indent=1), encoding="utf-8")
        os.replace(staged, place)
    except OSError as error:
        raise CannotWrite(f"{place} must be a file that can be written; {error.strerror}. Free space.") from error
    return place
