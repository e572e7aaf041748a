"""How sure a metric is: 95 % intervals over the parents whose accounts were judged.

Accounts of one parent leave together and the same account is judged at several instants, so the parent is the
unit of chance. Poisson bootstrap: each draw gives each parent a weight from Poisson(1), the same for all of its
rows; the interval runs from the 2.5th to the 97.5th percentile of the weighted metric. Source: Hanley and
MacGibbon (2006), "Creating non-parametric bootstrap samples using Poisson frequencies".

`auc`, `auc_pr` and `lift_10` rank the accounts of one `as_of` against each other; they are computed within each
`as_of` and averaged with the number of lost accounts as weight. `log_loss`, `brier` and `ece` take all rows
together. `rows` always holds one row per account and `as_of` with the columns

- `account_id` and `parent_id`, missing where the account stands alone;
- `as_of`;
- `churned`, 0 or 1;
- one or more columns of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from training import metrics

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Resampled = Callable[[Matrix], Vector]
"""From weights (n_draws, n_parents) to the metric in each draw (n_draws,), NaN where it is undefined."""
Kernel = Callable[["_Sample", Matrix], Vector]

METRICS = ("auc", "auc_pr", "log_loss", "brier", "ece", "lift_10")
RANKING = frozenset({"auc", "auc_pr", "lift_10"})
TOP_SHARE = 0.1
CELLS_AT_ONCE = 1_000_000  # weights in memory at a time: 8 MB stay near the processor's cache
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; without a number, the reason."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    def as_dict(self) -> dict[str, float | str | None]:
        """`{value, low, high}`, or `{value: None, reason}`; a missing interval adds its reason."""
        if self.value is None:
            return {"value": None, "reason": self.reason}
        interval: dict[str, float | str | None] = {"value": self.value, "low": self.low, "high": self.high}
        return interval if self.low is not None else interval | {"reason": self.reason}


def evaluate_rows(rows: pd.DataFrame, score_column: str, *, draws: int = 2000, seed: int = 0) -> dict[str, Estimate]:
    """Each of `METRICS` for one column of probabilities.

    Scores outside [0, 1] are ranked as well; their `log_loss`, `brier` and `ece` have a reason in place of a
    value. An `as_of` that cannot be ranked (see `metrics.why_undefined`) is left out of the averages. The
    interval of `ece` leans upwards, since drawing adds noise to each bin: judge it by `ece_noise_floor`.

    Returns
    -------
    dict of Estimate
        In the order of `METRICS`. The order of `rows` does not matter.
    """
    return _estimates(rows, (score_column,), METRICS, draws=draws, seed=seed)


def paired_difference(
    rows: pd.DataFrame, column_a: str, column_b: str, metric: str, *, draws: int = 2000, seed: int = 0
) -> Estimate:
    """`metric` of `column_a` minus that of `column_b`, on the same rows and in the same draws.

    Only instants at which both columns can be judged count, for both.

    Raises
    ------
    ValueError
        `metric` is not one of `METRICS`.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {METRICS}; found {metric!r}.")
    return _estimates(rows, (column_a, column_b), (metric,), draws=draws, seed=seed)[metric]


def ece_noise_floor(probability: ArrayLike, *, draws: int = 1000, seed: int = 0) -> float:
    """ECE that perfect probabilities stay below in 95 % of worlds: its quantile under y ~ Bernoulli(p).

    Parameters
    ----------
    probability : (n_rows,) of float in [0, 1]
    """
    chance = np.asarray(probability, dtype=float)
    if chance.size == 0 or not ((chance >= 0) & (chance <= 1)).all():
        raise ValueError("probability must hold numbers in [0, 1]; found none, or others.")
    rng = np.random.default_rng(seed)
    in_bin = np.eye(metrics.ECE_BINS)[metrics.equal_mass_bins(chance)]
    worlds = (rng.random((size, chance.size)) < chance for size in _chunks(draws, chance.size))
    errors = [np.abs((world - chance) @ in_bin).sum(axis=1) / chance.size for world in worlds]
    return float(np.quantile(np.concatenate(errors), 0.95))


def parents_of(rows: pd.DataFrame) -> NDArray[np.intp]:
    """The number of each row's parent, (n_rows,): the account itself where it stands alone."""
    # Parents are accounts too: an account that is the parent of others is drawn with them.
    parents = rows["parent_id"].astype("object").fillna(rows["account_id"]).astype(str)
    return np.asarray(pd.factorize(parents, sort=True)[0])  # sorted, so that the order of rows changes no draw


def drawn_sums(rows: pd.DataFrame, values: Mapping[str, ArrayLike], *, draws: int, seed: int) -> dict[str, Vector]:
    """Sums of columns over the rows, in each draw of parents: (draws,) each.

    Parameters
    ----------
    values : name → (n_rows,) of float
    """
    parent = parents_of(rows)
    sums = np.column_stack([np.bincount(parent, np.asarray(value, dtype=float)) for value in values.values()])
    rng = np.random.default_rng(seed)
    parts = [rng.poisson(1.0, (size, len(sums))) @ sums for size in _chunks(draws, len(sums))]
    return dict(zip(values, np.concatenate(parts).T, strict=True))


@dataclass(frozen=True)
class _Sample:
    """Rows that are judged together, by falling score, (n_rows,) each."""

    lost: Vector
    score: Vector
    parent: NDArray[np.intp]
    instant: NDArray[np.intp]

    def part(self, rows: NDArray[np.bool_]) -> _Sample:
        return _Sample(self.lost[rows], self.score[rows], self.parent[rows], self.instant[rows])

    def why_undefined(self, name: str) -> str | None:
        return metrics.why_undefined(self.lost, self.score, ranking=name in RANKING)

    @cached_property
    def cuts(self) -> NDArray[np.intp]:
        """Rows above each place where the score changes, from 0 to all, (n_ties + 1,)."""
        return np.concatenate([[0], np.flatnonzero(np.diff(self.score)) + 1, [self.score.size]])

    @cached_property
    def lost_cuts(self) -> NDArray[np.intp]:
        """Lost rows above each of `cuts`."""
        return np.concatenate([[0], np.cumsum(self.lost == 1)])[self.cuts]

    def down(self, weights: Matrix) -> tuple[Matrix, Matrix]:
        """Weight of all rows above each row, and of the lost rows above each lost one."""
        return _down(weights[:, self.parent]), _down(weights[:, self.parent[self.lost == 1]])


def _estimates(
    rows: pd.DataFrame, columns: tuple[str, ...], names: tuple[str, ...], *, draws: int, seed: int
) -> dict[str, Estimate]:
    samples = [_sample(rows, column) for column in columns]
    prepared = {name: _prepared(name, samples) for name in names}
    defined = {name: metric for name, metric in prepared.items() if not isinstance(metric, str)}
    drawn = _drawn(defined, samples[0].parent, draws=draws, seed=seed)
    found = {name: _estimate(values, samples[0]) for name, values in drawn.items()}
    reasons = {name: reason for name, reason in prepared.items() if isinstance(reason, str)}
    return {name: found.get(name) or Estimate(None, None, None, reasons[name]) for name in names}


def _sample(rows: pd.DataFrame, column: str) -> _Sample:
    parent = parents_of(rows)
    instant, _ = pd.factorize(rows["as_of"], sort=True)
    lost = rows["churned"].to_numpy(dtype=float, na_value=np.nan)
    score = rows[column].to_numpy(dtype=float, na_value=np.nan)
    order = np.argsort(-score, kind="stable")
    return _Sample(lost[order], score[order], parent[order], instant[order])


def _prepared(name: str, samples: Sequence[_Sample]) -> Resampled | str:
    """The metric as a function of weights, or the reason why there is none."""
    for sample in samples:
        if not np.isfinite(sample.score + sample.lost).all():
            return str(sample.why_undefined(name))  # else instants with gaps would be left out silently
    parts = list(zip(*(_parts(name, sample) for sample in samples), strict=True))
    reasons = [next(filter(None, (part.why_undefined(name) for part in pair)), None) for pair in parts]
    judged = [pair for pair, reason in zip(parts, reasons, strict=True) if reason is None]
    if not judged:
        return str(reasons[-1])
    averages = [_average(KERNELS[name], column) for column in zip(*judged, strict=True)]
    return lambda weights: np.subtract.reduce([average(weights) for average in averages])


def _parts(name: str, sample: _Sample) -> list[_Sample]:
    if name not in RANKING or sample.instant.size == 0:
        return [sample]
    return [sample.part(sample.instant == instant) for instant in np.unique(sample.instant)]


def _average(metric: Kernel, parts: Sequence[_Sample]) -> Resampled:
    """Mean of the metric over parts, weighted by their lost accounts."""

    def average(weights: Matrix) -> Vector:
        values = np.stack([metric(part, weights) for part in parts])
        lost = np.stack([weights[:, part.parent] @ part.lost for part in parts])
        defined = np.isfinite(values)
        return _ratio((lost * np.where(defined, values, 0.0)).sum(axis=0), (lost * defined).sum(axis=0))

    return average


def _drawn(judged: Mapping[str, Resampled], parent: NDArray[np.intp], *, draws: int, seed: int) -> dict[str, Vector]:
    """Each metric at weights 1 and then in each draw, (1 + draws,)."""
    if not judged:
        return {}
    rng = np.random.default_rng(seed)
    n_parents = int(parent.max()) + 1
    values = {name: [metric(np.ones((1, n_parents)))] for name, metric in judged.items()}
    for size in _chunks(draws, parent.size):
        weights = rng.poisson(1.0, (size, n_parents)).astype(float)
        for name, metric in judged.items():
            values[name].append(metric(weights))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def _chunks(draws: int, n_rows: int) -> list[int]:
    size = max(1, CELLS_AT_ONCE // n_rows)
    return [min(size, draws - first) for first in range(0, draws, size)]


def _estimate(values: Vector, sample: _Sample) -> Estimate:
    parents = np.unique(sample.parent[sample.lost == 1]).size
    if parents < 2:
        reason = f"An interval needs lost accounts of at least two parents; found {parents}."
        return Estimate(float(values[0]), None, None, reason)
    low, high = np.nanpercentile(values[1:], PERCENTILES)
    return Estimate(float(values[0]), float(low), float(high))


def _ratio(numerator: Vector, denominator: Vector) -> Vector:
    defined = denominator > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1.0), np.nan)


def _down(weights: Matrix) -> Matrix:
    down = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=down[:, 1:])
    return down


def _auc(sample: _Sample, weights: Matrix) -> Vector:
    rows, lost = sample.down(weights)
    hits = np.flatnonzero(np.diff(sample.lost_cuts))  # a tie without a lost account adds nothing
    lost_above, lost_to = lost[:, sample.lost_cuts[hits]], lost[:, sample.lost_cuts[hits + 1]]
    rows_above, rows_to = rows[:, sample.cuts[hits]], rows[:, sample.cuts[hits + 1]]
    kept = rows[:, -1] - lost[:, -1]
    kept_below = kept[:, np.newaxis] - (rows_above - lost_above + rows_to - lost_to) / 2
    return _ratio(((lost_to - lost_above) * kept_below).sum(axis=1), lost[:, -1] * kept)


def _average_precision(sample: _Sample, weights: Matrix) -> Vector:
    rows, lost = sample.down(weights)
    hits = np.flatnonzero(np.diff(sample.lost_cuts))
    lost_above, lost_to = lost[:, sample.lost_cuts[hits]], lost[:, sample.lost_cuts[hits + 1]]
    rows_to = np.where(lost_to > 0, rows[:, sample.cuts[hits + 1]], 1.0)
    return _ratio(((lost_to - lost_above) * lost_to / rows_to).sum(axis=1), lost[:, -1])


def _lift(sample: _Sample, weights: Matrix) -> Vector:
    rows, lost = sample.down(weights)
    contacted = metrics.contacts(rows[:, -1], TOP_SHARE)
    listed, draw = rows[:, sample.cuts], np.arange(contacted.size)
    cut = np.minimum((listed < contacted[:, np.newaxis]).sum(axis=1), sample.cuts.size - 1)
    above, to = listed[draw, cut - 1], listed[draw, cut]
    lost_above, lost_to = lost[draw, sample.lost_cuts[cut - 1]], lost[draw, sample.lost_cuts[cut]]
    found = lost_above + (lost_to - lost_above) * _ratio(contacted - above, to - above)
    return _ratio(found * rows[:, -1], contacted * lost[:, -1])


def _log_loss(sample: _Sample, weights: Matrix) -> Vector:
    tiny = np.finfo(float).eps  # the guard of metrics.log_loss
    chance = np.clip(np.where(sample.lost == 1, sample.score, 1 - sample.score), tiny, 1 - tiny)
    return _mean(-np.log(chance), sample, weights)


def _brier(sample: _Sample, weights: Matrix) -> Vector:
    return _mean((sample.score - sample.lost) ** 2, sample, weights)


def _mean(losses: Vector, sample: _Sample, weights: Matrix) -> Vector:
    n_parents = weights.shape[1]
    per_parent = np.bincount(sample.parent, losses, minlength=n_parents)
    return _ratio(weights @ per_parent, weights @ np.bincount(sample.parent, minlength=n_parents).astype(float))


def _ece(sample: _Sample, weights: Matrix) -> Vector:
    of_rows = weights[:, sample.parent]
    listed = _down(of_rows)[:, sample.cuts]
    middles = metrics.ECE_BINS * (listed[:, :-1] + listed[:, 1:]) / 2
    borders = listed[:, -1:] * np.arange(metrics.ECE_BINS + 1)
    # From the top a middle on the border belongs above it, as in metrics.equal_mass_bins from the bottom.
    ends = [np.searchsorted(at, border, side="right") for at, border in zip(middles, borders, strict=True)]
    bins = sample.cuts[np.stack(ends)]
    gaps = np.diff(np.take_along_axis(_down(of_rows * (sample.lost - sample.score)), bins, axis=1), axis=1)
    return _ratio(np.abs(gaps).sum(axis=1), listed[:, -1])


KERNELS: Mapping[str, Kernel] = {
    "auc": _auc,
    "auc_pr": _average_precision,
    "log_loss": _log_loss,
    "brier": _brier,
    "ece": _ece,
    "lift_10": _lift,
}
