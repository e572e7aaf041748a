"""How well scores rank accounts, and how well probabilities match what happened.

Every metric takes `(y_true, y_score, *, sample_weight=None)`, each of shape (n_rows,):

- `y_true` holds 1 for a lost account, 0 for a kept one;
- `y_score` is higher where churn is likelier. `roc_auc`, `average_precision`, `lift_at` and `empb` use its
  order only; `log_loss`, `brier` and `ece` need probabilities in [0, 1];
- `sample_weight` counts as repetition: weight 2 is the row twice, weight 0 is no row.

Where a number would mean nothing (fewer than ten rows, one class, values missing, no order or no probability
to judge) the metric is None and `why_undefined` says why. Anything malformed is a ValueError.
"""

from __future__ import annotations

import numpy as np
import sklearn.metrics
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]

ECE_BINS = 15
MIN_ROWS = 10
ROUNDING = 1e-9  # 0.07 * 100 is 7.000000000000001 and still means seven accounts


def roc_auc(y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float | None:
    """Chance that a lost account scores above a kept one; ties count half."""
    labels, scores, weights = _inputs(y_true, y_score, sample_weight)
    if _why_no_ranking(labels, scores, weights):
        return None
    return float(sklearn.metrics.roc_auc_score(labels, scores, sample_weight=weights))


def average_precision(y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float | None:
    """Precision at each cut, averaged over the lost accounts it adds; ties are cut together.

    The churn rate is as good as chance.
    """
    labels, scores, weights = _inputs(y_true, y_score, sample_weight)
    if _why_no_ranking(labels, scores, weights):
        return None
    return float(sklearn.metrics.average_precision_score(labels, scores, sample_weight=weights))


def lift_at(
    y_true: ArrayLike, y_score: ArrayLike, *, share: float = 0.1, sample_weight: ArrayLike | None = None
) -> float | None:
    """How many times more lost accounts the top `share` holds than a random pick.

    Parameters
    ----------
    y_score : (n_rows,) of float
        Ties share their place: the expected value over their order.
    share : float in (0, 1]
        Part of the accounts to contact, rounded up to whole accounts and at least one.

    Returns
    -------
    float in [0, 1 / share], or None
        A ratio without unit; 1.0 is as good as chance.

    Examples
    --------
    >>> lift_at([1, 0, 1, 0, 0, 0, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.3, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1], share=0.2)
    2.5
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1]; found {share}. For the top 10 % write 0.1.")
    labels, scores, weights = _inputs(y_true, y_score, sample_weight)
    if _why_no_ranking(labels, scores, weights):
        return None
    listed, found = gains(labels, scores, weights)
    contacted = contacts(listed[-1], share)
    return float(np.interp(contacted, listed, found) / contacted / (found[-1] / listed[-1]))


def log_loss(y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float | None:
    """Mean surprise, in nats, at what happened.

    Probabilities of 0 and 1 are moved inwards by the precision of a float.
    """
    labels, scores, weights = _inputs(y_true, y_score, sample_weight)
    if _why_no_probability(labels, scores, weights):
        return None
    return float(sklearn.metrics.log_loss(labels, scores, sample_weight=weights))


def brier(y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float | None:
    """Mean squared distance between probability and outcome."""
    labels, scores, weights = _inputs(y_true, y_score, sample_weight)
    if _why_no_probability(labels, scores, weights):
        return None
    return float(sklearn.metrics.brier_score_loss(labels, scores, sample_weight=weights))


def ece(y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float | None:
    """Mean gap between probability and churn rate over the bins of `equal_mass_bins`.

    It never reaches 0 on real data, even for perfect probabilities: compare it with its noise floor.
    """
    labels, scores, weights = _inputs(y_true, y_score, sample_weight)
    if _why_no_probability(labels, scores, weights):
        return None
    gaps = np.bincount(equal_mass_bins(scores, sample_weight=weights), weights * (labels - scores))
    return float(np.abs(gaps).sum() / weights.sum())


def equal_mass_bins(
    y_score: ArrayLike, *, bins: int = ECE_BINS, sample_weight: ArrayLike | None = None
) -> NDArray[np.intp]:
    """Bin of each row when the rows are cut by rising score into `bins` of equal weight.

    Equal scores stay together, in the bin that holds the middle of their weight, so bins can differ in
    weight or be empty where many rows tie. Rows of weight 0 move no other row.

    Parameters
    ----------
    y_score : (n_rows,) of float

    Returns
    -------
    (n_rows,) of int in [0, bins)

    Examples
    --------
    >>> equal_mass_bins([0.1, 0.2, 0.2, 0.2, 0.2, 0.9], bins=3).tolist()
    [0, 1, 1, 1, 1, 2]
    """
    scores = np.asarray(y_score, dtype=float)
    weights = np.ones_like(scores) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    _, tie = np.unique(scores, return_inverse=True)
    mass = np.bincount(tie, weights)
    upper = np.cumsum(mass)
    middle = np.floor(bins * (2 * upper - mass) / (2 * weights.sum())).astype(np.intp)
    per_row: NDArray[np.intp] = np.minimum(middle, bins - 1)[tie]
    return per_row


def gains(y_true: ArrayLike, y_score: ArrayLike, sample_weight: ArrayLike) -> tuple[Vector, Vector]:
    """Rows listed and lost accounts found, down to the end of each tie, by falling score.

    A straight line between two points is the expected value over the order of the tied rows.

    Parameters
    ----------
    y_true : (n_rows,) of {0, 1}, or of anything else to add up down the list
    y_score : (n_rows,) of float
    sample_weight : (n_rows,) of float >= 0

    Returns
    -------
    listed, found : (n_ties + 1,) of float
        Both start at 0 and do not fall for labels in {0, 1}.
    """
    weights = np.asarray(sample_weight, dtype=float)
    _, tie = np.unique(-np.asarray(y_score, dtype=float), return_inverse=True)
    listed = np.cumsum(np.bincount(tie, weights))
    found = np.cumsum(np.bincount(tie, weights * np.asarray(y_true, dtype=float)))
    return np.concatenate([[0.0], listed]), np.concatenate([[0.0], found])


def contacts(n_rows: float | Vector, share: float) -> Vector:
    """Accounts in the top `share` of `n_rows`: rounded up, at least one."""
    return np.maximum(1.0, np.ceil(np.asarray(n_rows, dtype=float) * share - ROUNDING))


def profit_curve(
    y_true: ArrayLike, y_score: ArrayLike, *, clv: ArrayLike, delta: float, contact_cost: float, gamma: float
) -> tuple[Vector, Vector]:
    """Expected profit per account of contacting the top of the list, at each possible cut.

    A lost account that is contacted stays with chance `gamma` and then takes the offer; a kept one takes
    the offer as well.

    Parameters
    ----------
    clv : (n_rows,) of float, or float
        Value of the account in money.
    delta : float in [0, 1]
        Offer as a share of `clv`.
    contact_cost : float
        Money per contact.
    gamma : float in [0, 1]

    Returns
    -------
    share, profit : (n_ties + 1,) of float
        Share contacted, from 0, and profit in money per account of the whole list.
    """
    lost = np.asarray(y_true, dtype=float)
    offer = delta * np.asarray(clv, dtype=float)
    margin = lost * gamma * (np.asarray(clv, dtype=float) - offer) - (1 - lost) * offer - contact_cost
    listed, profit = gains(margin, y_score, np.ones_like(lost))
    return listed / lost.size, profit / lost.size


def empb(
    y_true: ArrayLike, y_score: ArrayLike, *, clv: ArrayLike, delta: float, contact_cost: float, gamma: float
) -> float | None:
    """Profit per account at the best cut of `profit_curve`; 0 if contacting nobody is best.

    Parameters are those of `profit_curve`. None where `why_undefined` has a reason.
    """
    if why_undefined(y_true, y_score):
        return None
    _, profit = profit_curve(y_true, y_score, clv=clv, delta=delta, contact_cost=contact_cost, gamma=gamma)
    return float(profit.max())


def why_undefined(
    y_true: ArrayLike, y_score: ArrayLike, *, sample_weight: ArrayLike | None = None, ranking: bool = True
) -> str | None:
    """Why a metric of these rows would mean nothing, as a sentence, or None if it means something.

    Parameters
    ----------
    y_true : (n_rows,) of {0, 1}, or NaN where unknown
    ranking : bool
        True for the metrics of order, which need scores that differ; False for the metrics of probabilities,
        which may all be equal.

    Examples
    --------
    >>> why_undefined([0, 1, 0], [0.1, 0.4, 0.2])
    'A metric needs at least 10 rows; found 3.'
    """
    why = _why_no_ranking if ranking else _why_no_probability
    return why(*_inputs(y_true, y_score, sample_weight))


def _inputs(y_true: ArrayLike, y_score: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Vector, Vector, Vector]:
    labels, scores = np.asarray(y_true, dtype=float), np.asarray(y_score, dtype=float)
    weights = np.ones_like(scores) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    if scores.ndim != 1 or not labels.shape == scores.shape == weights.shape:
        raise ValueError(
            "y_true, y_score and sample_weight must be of one length; "
            f"found shapes {labels.shape}, {scores.shape} and {weights.shape}."
        )
    if others := sorted(set(labels[~np.isnan(labels)]) - {0.0, 1.0}):
        raise ValueError(f"y_true must hold 0 and 1 only; found {[float(other) for other in others[:3]]}.")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("sample_weight must be finite and not negative; found others. Leave rows out by 0.")
    counted = weights > 0
    return labels[counted], scores[counted], weights[counted]


def _why_no_metric(labels: Vector, scores: Vector, weights: Vector) -> str | None:
    if missing := np.count_nonzero(~np.isfinite(scores) | np.isnan(labels)):
        return f"A metric needs a label and a finite score in every row; {missing} of {labels.size} lack one."
    if weights.sum() < MIN_ROWS:
        return f"A metric needs at least {MIN_ROWS} rows; found {weights.sum():g}."
    if labels.min() == labels.max():
        fate = "lost" if labels[0] else "kept"
        return f"A metric needs lost and kept accounts; all {weights.sum():g} are {fate}."
    return None


def _why_no_ranking(labels: Vector, scores: Vector, weights: Vector) -> str | None:
    reason = _why_no_metric(labels, scores, weights)
    if reason is None and scores.min() == scores.max():
        return f"A ranking needs scores that differ; all {weights.sum():g} rows score {scores[0]:g}."
    return reason


def _why_no_probability(labels: Vector, scores: Vector, weights: Vector) -> str | None:
    reason = _why_no_metric(labels, scores, weights)
    if reason is None and (scores.min() < 0 or scores.max() > 1):
        return f"Probabilities must be in [0, 1]; found {scores.min():g} to {scores.max():g}."
    return reason
