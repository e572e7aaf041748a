"""Losses of accounts: rates per named period, their intervals, and renewals. Never a share of revenue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import sqrt

from features.metrics.checks import amount, same_length, share, within

Z_95 = 1.959964
"""Of a two-sided 95 % interval."""
Period = tuple[datetime, datetime | None]
"""Start of a contract and its end, None while it is open."""


def churn_rate(start: float, lost: float) -> float | None:
    """Lost among those active at the start / active at the start; a fraction per period, which its user names."""
    return share(("lost", lost), ("start", start))


def churn_rate_accounts(
    accounts: Mapping[str, Sequence[Period]], t0: datetime, t1: datetime, *, grace_days: int
) -> float | None:
    """Accounts active at `t0` that end in (t0, t1] without a restart within the grace / accounts active at `t0`.

    Provisional until t1 + grace: a restart may still come. Who joins after `t0` counts neither above nor below.
    """
    grace = timedelta(days=grace_days)
    active = [
        end
        for periods in accounts.values()
        for start, end in _bridged(periods, grace)
        if start <= t0 and (end is None or end > t0)
    ]
    lost = sum(end is not None and end <= t1 for end in active)
    return lost / len(active) if active else None


def _bridged(periods: Sequence[Period], grace: timedelta) -> list[Period]:
    """The periods as one where the gap between them is at most the grace."""
    joined: list[Period] = []
    for start, end in sorted(periods, key=lambda period: period[0]):
        if joined:
            before, until = joined[-1]
            if until is None or start <= until + grace:
                joined[-1] = (before, None if end is None or until is None else max(until, end))
                continue
        joined.append((start, end))
    return joined


def churn_by_reason(lost: Mapping[str, float], start: float) -> dict[str, float] | None:
    """Each reason's losses / the same start; together they are the churn rate."""
    share(("all losses", sum(amount(reason, count) for reason, count in lost.items())), ("start", start))
    return {reason: count / start for reason, count in lost.items()} if start else None


def cohort_churn(
    days_to_end: Sequence[float | None], n_days: float, ages: Sequence[float], *, grace_days: float = 30
) -> float | None:
    """Of a cohort's members old enough to judge (age >= n + grace), the share that ended within `n_days`."""
    same_length("days to the end and ages", len(days_to_end), len(ages))
    mature = [end for end, age in zip(days_to_end, ages, strict=True) if amount("an age", age) >= n_days + grace_days]
    ended = sum(end is not None and amount("days to the end", end) <= n_days for end in mature)
    return ended / len(mature) if mature else None


def annualise_churn(rate: float, periods: float) -> float:
    """1 - (1 - rate)^periods: the loss of a year of so many periods, fraction per year."""
    within("rate", rate, 0, 1)
    return 1 - float((1 - rate) ** amount("periods", periods))


def deannualise_churn(rate: float, months: float) -> float | None:
    """1 - (1 - rate)^(1/months): the loss a month that makes `rate` in `months`, fraction per month."""
    within("rate", rate, 0, 1)
    return 1 - float((1 - rate) ** (1 / months)) if amount("months", months) else None


def wilson_ci(k: float, n: float, z: float = Z_95) -> tuple[float, float] | None:
    """Wilson's interval of the share k / n, as fractions in [0, 1].

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    p = share(("k", k), ("n", n))
    if p is None:
        return None
    amount("z", z)
    centre, scale = p + z * z / (2 * n), 1 + z * z / n
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At k = 0 and k = n one end is 0 or 1 but for a rounding error.
    return (0.0 if k == 0 else (centre - half) / scale, 1.0 if k == n else (centre + half) / scale)


def crr(start: float, end: float, new: float) -> float | None:
    """(end - new) / start: opening accounts that were kept; `new` are joiners still present at the end."""
    share(("new", new), ("end", end))
    return share(("accounts kept", end - new), ("start", start))


def renewal_rate(renewed: float, refused: float) -> float | None:
    """Renewed / (renewed + refused) over contracts whose planned end fell in the period; pending ones stand apart."""
    return share(("renewed", renewed), ("contracts due", amount("renewed", renewed) + amount("refused", refused)))
