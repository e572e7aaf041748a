"""How quickly invoices are paid."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from features.metrics.durations import survival_median

Invoice = tuple[datetime, datetime | None]
"""When it was issued and when paid, None while it is open."""
TREND_BACK_DAYS = 182
DAY = timedelta(days=1)


def days_to_pay(invoices: Sequence[Invoice], s: datetime, w: float) -> float | None:
    """Median days from issue to payment over invoices issued in [s - w, s).

    What is not paid before `s` counts as open for at least its age: the mean of what was paid would make fresh
    unpaid invoices look quick.
    """
    issued = [(at, paid) for at, paid in invoices if s - w * DAY <= at < s]
    is_paid = [paid is not None and paid < s for _, paid in issued]
    spans = [((paid if over and paid else s) - at) / DAY for (at, paid), over in zip(issued, is_paid, strict=True)]
    return survival_median(spans, is_paid)


def days_to_pay_trend(invoices: Sequence[Invoice], s: datetime, w: float) -> float | None:
    """`days_to_pay` at `s` minus the same computed as of 182 days before, in days; above 0 where it slows."""
    now, before = days_to_pay(invoices, s, w), days_to_pay(invoices, s - TREND_BACK_DAYS * DAY, w)
    return None if now is None or before is None else now - before
