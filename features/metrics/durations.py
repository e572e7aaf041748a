"""Medians of durations of which some are still open.

Source: E. L. Kaplan and P. Meier, Nonparametric estimation from incomplete observations, JASA 53 (1958).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from features.kaplan_meier import TOLERANCE
from features.metrics.checks import amount, same_length


def survival_median(durations: Sequence[float], ended: Sequence[bool]) -> float | None:
    """The least t with S(t) <= 1/2, in the unit of `durations`; None where S never falls so far.

    A duration whose `ended` is False is only known as "at least": it counts as at risk up to and at its own end.
    """
    same_length("durations and their ends", len(durations), len(ended))
    for duration in durations:
        amount("a duration", duration)
    ends = Counter(duration for duration, over in zip(durations, ended, strict=True) if over)
    ordered, surviving = sorted(durations), 1.0
    for at in sorted(ends):
        at_risk = len(ordered) - bisect_left(ordered, at)
        surviving *= (at_risk - ends[at]) / at_risk
        if surviving <= 0.5 + TOLERANCE:
            return at
    return None
