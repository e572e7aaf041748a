"""Getting started, and the classes of an account's worth and steadiness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Literal

from features.metrics.checks import amount, quotient, share
from features.metrics.durations import survival_median

ABC_SHARES = (0.80, 0.95)
"""Cumulative share of revenue before the account under which it is A, and under which it is B."""
XYZ_VARIATION = (0.10, 0.25)
"""Coefficient of variation up to which use is X, and up to which it is Y."""
XYZ_PERIODS = 6


def trial_conversion(converted: float, trials_ended: float) -> float | None:
    """Trials that became customers / trials that have ended; running ones are not counted."""
    return share(("trials converted", converted), ("trials ended", trials_ended))


def activation_rate(activated: float, cohort: float) -> float | None:
    """Accounts that meet the rule of activation / accounts older than its window."""
    return share(("accounts activated", activated), ("accounts of the cohort", cohort))


def onboarding_completion_rate(completed: float, mature_cohort: float) -> float | None:
    """Onboardings completed / accounts old enough to have completed."""
    return share(("onboardings completed", completed), ("accounts old enough", mature_cohort))


def avg_onboarding_days(durations: Sequence[float]) -> float | None:
    """Mean days of those who completed; show `time_to_value` of all beside it, which counts the open ones."""
    return fmean(amount("a duration", days) for days in durations) if len(durations) else None


def time_to_value(days: Sequence[float], reached: Sequence[bool]) -> float | None:
    """Median days from the start to the first value; who has not reached it counts as at least so many days."""
    return survival_median(days, reached)


def onboarding_tickets(tickets: float, days: float, accounts: float) -> tuple[float | None, float | None]:
    """Tickets a day, and tickets a day and account; only the second compares cohorts of different size."""
    account_days = amount("accounts", accounts) * amount("days", days)
    named = ("tickets", tickets)
    return quotient(named, ("days", days)), quotient(named, ("account days", account_days))


def abc_classes(revenue: Mapping[str, float]) -> dict[str, Literal["A", "B", "C"] | None]:
    """Class of each account by the share of revenue of all larger ones: A below .80, B below .95, else C.

    Equal revenues go by account id. None for all where there is no revenue.
    """
    total = sum(amount(name, value) for name, value in revenue.items())
    classes: dict[str, Literal["A", "B", "C"] | None] = {}
    before = 0.0
    for name in sorted(revenue, key=lambda name: (-revenue[name], name)):
        classes[name] = _abc(before / total) if total else None
        before += revenue[name]
    return classes


def _abc(share_before: float) -> Literal["A", "B", "C"]:
    if share_before < ABC_SHARES[0]:
        return "A"
    return "B" if share_before < ABC_SHARES[1] else "C"


def xyz_class(active_users: Sequence[float], *, fewest: int = XYZ_PERIODS) -> Literal["X", "Y", "Z"] | None:
    """Steadiness by the variation (population sd / mean) of active users over periods of 28 days.

    X up to .10, Y up to .25, else Z; None for fewer than `fewest` periods or no use at all.
    """
    if len(active_users) < max(fewest, 1):
        return None
    mean = fmean(amount("active users", users) for users in active_users)
    if not mean:
        return None
    variation = pstdev(active_users) / mean
    if variation <= XYZ_VARIATION[0]:
        return "X"
    return "Y" if variation <= XYZ_VARIATION[1] else "Z"
