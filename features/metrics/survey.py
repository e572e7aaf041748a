"""What people answer: NPS in points, CSAT in percent, effort on its own scale.

NPS - F. F. Reichheld, The one number you need to grow, Harvard Business Review 81 (2003). Scores of different scales
are never pooled; a score off its scale is an error, not a low score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Literal, NamedTuple

from features.metrics.checks import amount, share, within
from features.metrics.churn import Z_95

Category = Literal["detractor", "passive", "promoter"]
Scale = tuple[float, float]
"""Least and greatest score."""
POLARITIES = ("ease", "effort")
"""Whether a high score is good (ease) or bad (effort)."""
_EASE_CUTS: dict[Scale, tuple[float, float]] = {(1, 7): (5, 3), (1, 5): (4, 2)}
"""Scale → least score that is easy, greatest that is hard."""


class Interval(NamedTuple):
    """Both ends, or why there are none."""

    low: float | None
    high: float | None
    reason: str = ""


def nps_category(score: float) -> Category:
    """0-6 detractor, 7-8 passive, 9-10 promoter; only whole scores of 0 to 10."""
    within("an NPS score", score, 0, 10)
    if score != int(score):
        raise ValueError(f"an NPS score must be a whole number; found {score}; store what was answered.")
    if score <= 6:
        return "detractor"
    return "passive" if score <= 8 else "promoter"


def nps(promoters: float, passives: float, detractors: float) -> float | None:
    """100 · (promoters - detractors) / all answers, points from -100 to 100."""
    n = _answers(promoters, passives, detractors)
    return 100 * (promoters - detractors) / n if n else None


def nps_ci(promoters: float, passives: float, detractors: float, z: float = Z_95) -> Interval:
    """NPS ± 100·z·sqrt((p + d - (p - d)²) / n), cut at ±100; of a portfolio or segment, never of one account."""
    n = _answers(promoters, passives, detractors)
    if not n:
        return Interval(None, None, "nobody answered")
    p, d = promoters / n, detractors / n
    variance = p + d - (p - d) ** 2
    if variance <= 0:
        return Interval(None, None, "all answers are of one category")
    half = 100 * amount("z", z) * sqrt(variance / n)
    value = 100 * (p - d)
    return Interval(max(-100.0, value - half), min(100.0, value + half))


def _answers(promoters: float, passives: float, detractors: float) -> float:
    named = {"promoters": promoters, "passives": passives, "detractors": detractors}
    return sum(amount(name, count) for name, count in named.items())


def response_rate(valid: float, delivered: float) -> float | None:
    """Valid answers / invitations delivered; coverage of a score, never its denominator."""
    return share(("valid answers", valid), ("delivered invitations", delivered))


def csat_top1(scores: Sequence[float]) -> float | None:
    """Percent of answers that are 5, on the scale 1 to 5."""
    return _percent(scores, (1, 5), lambda score: score == 5)


def csat_top2(scores: Sequence[float]) -> float | None:
    """Percent of answers that are 4 or 5, on the scale 1 to 5."""
    return _percent(scores, (1, 5), lambda score: score >= 4)


def csat_mean(scores: Sequence[float], *, scale: Scale = (1, 5)) -> float | None:
    """Mean of the scores, in points of their scale."""
    return _mean(scores, scale)


def csat_rescaled(scores: Sequence[float], low: float, high: float) -> float | None:
    """100 · (mean - min) / (max - min), percent: 0 is the worst answer, so scales can be compared."""
    mean = _mean(scores, (low, high))
    return None if mean is None else 100 * (mean - low) / (high - low)


def csat_percent_of_max(scores: Sequence[float], *, scale: Scale = (1, 5)) -> float | None:
    """100 · sum / (n · max), percent; its floor on the scale 1 to 5 is 20, so it is no share of the satisfied."""
    mean = _mean(scores, scale)
    return None if mean is None else 100 * mean / scale[1]


def ces_mean(scores: Sequence[float], scale: Scale | None, polarity: str | None) -> float | None:
    """Mean effort score in points of its scale; readable only with scale and polarity, so both must be told."""
    return _mean(scores, _effort_scale(scale, polarity))


def ces_top(scores: Sequence[float], scale: Scale | None, polarity: str | None) -> float | None:
    """Percent of answers that say it was easy: 5 to 7 of 1 to 7, 4 to 5 of 1 to 5; effort scales are mirrored."""
    low, high = _effort_scale(scale, polarity)
    least, _ = _cuts((low, high))
    return _percent(scores, (low, high), lambda score: _eased(score, low, high, polarity) >= least)


def ces_bottom(scores: Sequence[float], scale: Scale | None, polarity: str | None) -> float | None:
    """Percent of answers that say it was hard: 1 to 3 of 1 to 7, 1 to 2 of 1 to 5; effort scales are mirrored."""
    low, high = _effort_scale(scale, polarity)
    _, greatest = _cuts((low, high))
    return _percent(scores, (low, high), lambda score: _eased(score, low, high, polarity) <= greatest)


def ease01(x: float, low: float, high: float, polarity: str | None) -> float:
    """A score or mean from 0 (hard) to 1 (easy)."""
    _effort_scale((low, high), polarity)
    return (_eased(within("an effort score", x, low, high), low, high, polarity) - low) / (high - low)


def _eased(score: float, low: float, high: float, polarity: str | None) -> float:
    return low + high - score if polarity == "effort" else score


def _effort_scale(scale: Scale | None, polarity: str | None) -> Scale:
    if scale is None:
        raise ValueError("an effort score must have its scale; found none; give its least and greatest score.")
    if polarity not in POLARITIES:
        raise ValueError(f"an effort score must have a polarity of {POLARITIES}; found {polarity}; say what is good.")
    return scale


def _cuts(scale: Scale) -> tuple[float, float]:
    if scale not in _EASE_CUTS:
        raise ValueError(
            f"an effort scale must be one of {list(_EASE_CUTS)} to be cut; found {scale}; use ces_mean or ease01."
        )
    return _EASE_CUTS[scale]


def _checked(scores: Sequence[float], scale: Scale) -> Sequence[float]:
    if not scale[0] < scale[1]:
        raise ValueError(f"a scale must end above where it begins; found {scale}; give its least and greatest score.")
    for score in scores:
        within("a score", score, *scale)
    return scores


def _mean(scores: Sequence[float], scale: Scale) -> float | None:
    return sum(_checked(scores, scale)) / len(scores) if len(scores) else None


def _percent(scores: Sequence[float], scale: Scale, counts: Callable[[float], bool]) -> float | None:
    found = sum(counts(score) for score in _checked(scores, scale))
    return 100 * found / len(scores) if len(scores) else None
