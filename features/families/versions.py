"""Rows without an id of their own that came more than once: a later delivery replaces the earlier ones.

Two rows of one key that became known at the same moment are two facts (two people who answer alike on one day), for a
source that sends a row again does so later. So a second delivery changes nothing, and one that says more is believed.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir


def last_delivery(seen: ir.Table, *key: str) -> ir.Table:
    """Of rows beside instants, those of each `key` that became known last: one or several per account and instant."""
    latest = ibis.window(group_by=["account_id", *key, "as_of"], order_by=seen.known_at.desc())
    return seen.mutate(delivery=ibis.rank().over(latest)).filter(ibis._.delivery == 0).drop("delivery")


def seconds_between(earlier: ir.TimestampValue, later: ir.TimestampValue) -> ir.IntegerValue:
    """Whole seconds from `earlier` to `later`, fractions of both cut off."""
    # Cut first: engines differ in whether an epoch keeps its fraction.
    start, end = (moment.truncate("s").epoch_seconds().cast("int64") for moment in (earlier, later))
    return end - start
