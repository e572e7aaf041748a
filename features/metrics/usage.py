"""How much and how widely the product is used."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from statistics import fmean, pstdev

from features.metrics.checks import amount, quotient, share

TREND_DAYS = 91
FEWEST_WINDOWS, MOST_WINDOWS = 3, 6


def feature_adoption(users_of_feature: float, active_users: float) -> float | None:
    """Users of a feature / active users who may use it, in the same window."""
    return share(("users of the feature", users_of_feature), ("active users", active_users))


def seat_utilisation(active_users: float, seats: float) -> float | None:
    """Active users / seats; above 1 where more were active than paid for, which is kept and shown."""
    return quotient(("active users", active_users), ("seats", seats))


def active_share(active: float, live: float) -> float | None:
    """Accounts with a core action in the period / live accounts."""
    return share(("active accounts", active), ("live accounts", live))


def usage_trend(x28: float, x91: float, *, history_days: float = TREND_DAYS) -> float | None:
    """ln((x28 + 1) / ((x91 - x28)·28/63 + 1)): 0 where the pace is unchanged; None for a shorter history."""
    share(("the count of 28 days", x28), ("the count of 91 days", x91))
    if amount("history_days", history_days) < TREND_DAYS:
        return None
    return log((x28 + 1) / ((x91 - x28) * 28 / 63 + 1))


def own_z(x28: float, previous: Sequence[float]) -> float | None:
    """(x28 - mean) / (population sd + 1) over the up to six 28-day windows before; None for fewer than three."""
    amount("the count of 28 days", x28)
    if len(previous) > MOST_WINDOWS:
        raise ValueError(
            f"previous must hold at most {MOST_WINDOWS} windows; found {len(previous)}; leave out x28 and older ones."
        )
    for count in previous:
        amount("the count of an earlier window", count)
    if len(previous) < FEWEST_WINDOWS:
        return None
    return (x28 - fmean(previous)) / (pstdev(previous) + 1)
