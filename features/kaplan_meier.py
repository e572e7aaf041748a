"""Kaplan-Meier medians in the engine: what is still open is not counted as done.

Source: E. L. Kaplan and P. Meier, Nonparametric estimation from incomplete observations, JASA 53 (1958).
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

TOLERANCE = 1e-12
"""Slack on S(t) <= 1/2, for a product of exact halves may end a rounding error above."""


def km_median(spans: ir.Table, name: str, *, by: Sequence[str] = ("account_id", "as_of")) -> ir.Table:
    """The least t with S(t) <= 1/2 of each group; no row where S never falls so far.

    Parameters
    ----------
    spans : table with `by`, `duration` (any unit, 0 or more) and `observed` (1 ended then, 0 still open: censored)
    name : the column of the median, a double in the unit of `duration`

    Returns
    -------
    table of `by` and `name`
    """
    spans = spans.filter(spans.duration.notnull())
    times = spans.group_by([*by, "duration"]).agg(
        ended=spans.observed.cast("int64").sum(), leaving=spans.count().cast("int64")
    )
    # At risk at t is everyone whose span is at least t: those censored at t itself included.
    longer = ibis.window(group_by=list(by), order_by=times.duration.desc(), preceding=None, following=0)
    at_risk = times.mutate(at_risk=times.leaving.sum().over(longer))
    events = at_risk.filter(at_risk.ended > 0)
    kept = (events.at_risk - events.ended).cast("double") / events.at_risk.cast("double")
    # A product as a sum of logarithms; where nobody is left the logarithm would be minus infinity.
    events = events.mutate(log_kept=ibis.ifelse(kept > 0, kept.nullif(0.0).ln(), -1e9))
    until = ibis.window(group_by=list(by), order_by=events.duration, preceding=None, following=0)
    curve = events.mutate(survival=events.log_kept.sum().over(until).exp())
    reached = curve.filter(curve.survival <= 0.5 + TOLERANCE)
    return reached.group_by(list(by)).agg(**{name: reached.duration.min().cast("double")})
