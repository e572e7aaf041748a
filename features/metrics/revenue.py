"""Recurring revenue kept, lost and expected. Money in one currency; rates are fractions of the opening revenue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from features.metrics.checks import amount, finite, quotient, same_length, share, within


def revenue_churn_gross(start: float, expansion: float, contraction: float, churned: float) -> float | None:
    """(contraction + churned) / start."""
    amount("expansion", expansion)
    lost = amount("contraction", contraction) + amount("churned", churned)
    return share(("contraction and churned revenue", lost), ("start", start))


def revenue_churn_net(start: float, expansion: float, contraction: float, churned: float) -> float | None:
    """(contraction + churned - expansion) / start; below 0 where expansion outweighs the losses."""
    revenue_churn_gross(start, expansion, contraction, churned)
    return (contraction + churned - expansion) / start if start else None


def grr(start: float, expansion: float, contraction: float, churned: float) -> float | None:
    """Gross revenue retention: (start - contraction - churned) / start, at most 1."""
    revenue_churn_gross(start, expansion, contraction, churned)
    return (start - contraction - churned) / start if start else None


def nrr(start: float, expansion: float, contraction: float, churned: float) -> float | None:
    """Net revenue retention: (start + expansion - contraction - churned) / start, above 1 where accounts grow."""
    revenue_churn_gross(start, expansion, contraction, churned)
    return (start + expansion - contraction - churned) / start if start else None


def grr_accounts(start_by_id: Mapping[str, float], end_by_id: Mapping[str, float]) -> float | None:
    """Per opening account min(end, start), over the opening revenue: no account's growth hides another's loss."""
    kept = sum(min(amount(name, end_by_id.get(name, 0)), start) for name, start in start_by_id.items())
    return share(("revenue kept", kept), ("opening revenue", _total(start_by_id)))


def nrr_accounts(start_by_id: Mapping[str, float], end_by_id: Mapping[str, float]) -> float | None:
    """Closing over opening revenue of the opening accounts alone; who joined later is not counted."""
    kept = sum(amount(name, end_by_id.get(name, 0)) for name in start_by_id)
    return quotient(("closing revenue", kept), ("opening revenue", _total(start_by_id)))


def _total(by_id: Mapping[str, float]) -> float:
    return sum(amount(name, value) for name, value in by_id.items())


def renewal_rate_value(renewed: Sequence[float], expiring: Sequence[float]) -> float | None:
    """Per contract due min(renewed, expiring) revenue, over the expiring revenue; an upsell hides no loss."""
    same_length("renewed and expiring contracts", len(renewed), len(expiring))
    kept = sum(
        min(amount("renewed", after), amount("expiring", before))
        for after, before in zip(renewed, expiring, strict=True)
    )
    return share(("renewed revenue", kept), ("expiring revenue", sum(expiring)))


def arpa(mrr: float, accounts: float) -> float | None:
    """Recurring revenue / active accounts of the same date; money a month."""
    return quotient(("mrr", mrr), ("active accounts", accounts))


def lifespan(churn: float) -> float | None:
    """1 / churn: expected periods that an account stays, in the period of `churn`."""
    within("churn", churn, 0, 1)
    return 1 / churn if churn else None


def ltv(arpa: float, margin: float, churn: float) -> float | None:
    """arpa · margin / churn, money; `arpa` and `churn` must be of one period, `margin` is a fraction."""
    within("margin", margin, 0, 1)
    within("churn", churn, 0, 1)
    return amount("arpa", arpa) * margin / churn if churn else None


def clv_purchase(avg_value: float, per_year: float, years: float) -> float:
    """Value of a purchase · purchases a year · years: revenue, neither margin taken nor discounted."""
    return amount("avg_value", avg_value) * amount("per_year", per_year) * amount("years", years)


def clv_survival(margin: float, survival: Sequence[float], rate: float) -> float:
    """The sum over t of margin · S(t) / (1 + rate)^t: discounted margin of the periods that are lived to see.

    `survival` begins with S(0) = 1; `rate` is the discount of one period.
    """
    if not survival or survival[0] != 1:
        raise ValueError(f"survival must begin with S(0) = 1; found {list(survival[:1])}; start at the present period.")
    amount("rate", rate)
    lived = (within("survival", alive, 0, 1) / (1 + rate) ** t for t, alive in enumerate(survival))
    return finite("margin", margin) * sum(lived)


def expected_saved_value(
    p0: float | None,
    gamma: float | None,
    M: float | None,
    k: float | None,
    a: float | None = 1.0,
    f: float | None = 0.0,
) -> float | None:
    """p0·gamma·(M - k) - (1 - p0)·a·k - f: what a play is worth in money; None where any part is unknown.

    Parameters
    ----------
    p0 : risk without the play
    gamma : share of churners whom this play saves
    M : gross margin of the renewed term, times survival
    k : money that only those who stay are paid
    a : share of the stayers who take it up
    f : cost of the work, hours times rate
    """
    if p0 is None or gamma is None or M is None or k is None or a is None or f is None:
        return None
    for name, value in {"p0": p0, "gamma": gamma, "a": a}.items():
        within(name, value, 0, 1)
    saved = p0 * gamma * (finite("M", M) - amount("k", k))
    return saved - (1 - p0) * a * k - amount("f", f)
