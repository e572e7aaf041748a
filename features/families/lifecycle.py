"""In which phase of its life an account is, and how evenly it uses the product.

A pure function of what is known at `as_of`: the rules are replayed at `as_of` and 13 times 28 days before, each time
cut there but with the rows known at `as_of`, so that nothing stored is read back. Sources: `contracts`, `usage`,
`milestones` and `entitlements`. Where breadth or utilisation cannot be told, no account is `developed`.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.replay import STEP_DAYS, STEPS, bought, breadth, open_steps, use, users
from features.family import Family, Feature, Measure, exact
from features.tables import Tables

PHASES = (
    "lost", "notice", "potential", "won_back", "onboarding", "frozen", "dormant", "developing", "developed",
)  # fmt: skip
"""By code. `lost`, `notice` and `potential` occur before `as_of` only: their accounts are not scored."""
CODE = {name: code for code, name in enumerate(PHASES)}

NEW_DAYS = 90
"""So long an account is won back or onboarding."""
DORMANT_DAYS, FROZEN_DAYS = 28, 90
"""Days without core use."""
RECOVERED_DAYS = 3
"""Days with use in 14 that end a silence."""
_DEVELOPED_BREADTH, _DEVELOPED_UTILISATION = 0.6, 0.5
_KEPT_BREADTH, _KEPT_UTILISATION = 0.5, 0.4
"""A developed account stays so down to these."""


def _facts(tables: Tables, instants: ir.Table) -> ir.Table:
    """Per account, instant and step back what the rules ask for; see `phases`."""
    parts = [bought(tables, instants), use(tables, instants), users(tables, instants)]
    parts += [open_steps(tables, instants), breadth(tables, instants)]
    kinds = {name: kind for part in parts for name, kind in part.schema().items()}
    key = ("account_id", "as_of", "back")
    aligned = [
        part.select(*key, **{name: _column(part, name, kind) for name, kind in kinds.items() if name not in key})
        for part in parts
    ]
    values = {name: ibis._[name].max() for name in kinds if name not in key}
    facts = ibis.union(*aligned).group_by(*key).agg(**values)
    until = ibis.window(group_by=["account_id", "as_of"], order_by=facts.back.desc(), preceding=None, following=0)
    facts = facts.mutate(
        idle_days=ibis.coalesce(facts.core_age.min().over(until) - STEP_DAYS * facts.back, facts.tenure),
        utilisation=_users(facts, tables) / facts.seats.cast("double").nullif(0.0),
    )
    return facts.filter(facts.back <= STEPS)


def _column(part: ir.Table, name: str, kind: ibis.expr.datatypes.DataType) -> ir.Value:
    return part[name] if name in part.columns else ibis.null(kind)


def _users(facts: ir.Table, tables: Tables) -> ir.FloatingValue:
    told = tables.has("usage", "user_id") or tables.has("usage", "n_users")
    return facts.users.fill_null(0.0) if told else facts.users


def phases(facts: ir.Table) -> ir.Table:
    """`facts` with `phase`, the code of the phase at each step.

    Parameters
    ----------
    facts : one row per account_id, as_of and `back`, the number of steps before `as_of`, with
        contract (code of lost, notice, potential or won_back; null while the account is simply live, or unknown),
        is_customer (1 where any contract is known), tenure, idle_days, active_days_14, open_steps, breadth
        and utilisation
    """
    steps = _judged(facts).filter(ibis._.back < STEPS)
    # A phase that is held until its exit is the last word of those that switch it on and off.
    contract, recovered = steps.contract.notnull(), steps.is_recovered
    falls_silent = (~steps.is_new & (steps.idle_days >= DORMANT_DAYS)).fill_null(False)
    long_silent = (steps.idle_days >= FROZEN_DAYS).fill_null(False)
    silence = ibis.cases(
        (contract, 0), (recovered, falls_silent.cast("int8")), (falls_silent, 1), else_=ibis.null("int8")
    )
    steps = steps.mutate(is_silent=_held(silence, steps), falls_silent=falls_silent, long_silent=long_silent)
    freezing = ibis.cases(
        (steps.contract.notnull(), 0),
        (steps.is_recovered, (steps.falls_silent & steps.long_silent).cast("int8")),
        (steps.is_silent & steps.long_silent, 1),
        else_=ibis.null("int8"),
    )
    growth = ibis.cases(
        (steps.contract.notnull() | steps.is_silent, 0),
        (steps.is_good & steps.was_good & ~steps.is_new, 1),
        (~steps.is_kept, 0),
        else_=ibis.null("int8"),
    )
    steps = steps.mutate(is_frozen=_held(freezing, steps), is_developed=_held(growth, steps))
    phase = ibis.cases(
        (steps.contract.notnull(), steps.contract),
        (steps.is_frozen, CODE["frozen"]),
        (steps.is_silent, CODE["dormant"]),
        (steps.is_developed, CODE["developed"]),
        (steps.is_new, CODE["onboarding"]),
        else_=CODE["developing"],
    )
    return steps.mutate(phase=phase.cast("int64"))


def _judged(facts: ir.Table) -> ir.Table:
    """What each rule says at each step on its own; unknown breadth or utilisation fails every test."""
    known = facts.mutate(
        contract=ibis.ifelse(facts.is_customer.notnull(), facts.contract, CODE["potential"]).cast("int64"),
        is_good=_reaches(facts, _DEVELOPED_BREADTH, _DEVELOPED_UTILISATION),
        is_kept=_reaches(facts, _KEPT_BREADTH, _KEPT_UTILISATION),
        is_new=((facts.open_steps > 0) & (facts.tenure < NEW_DAYS)).fill_null(False),
        is_recovered=(facts.active_days_14 >= RECOVERED_DAYS).fill_null(False),
    )
    in_time = ibis.window(group_by=["account_id", "as_of"], order_by=known.back.desc())
    return known.mutate(was_good=known.is_good.lag().over(in_time).fill_null(False))


def _reaches(facts: ir.Table, least_breadth: float, least_utilisation: float) -> ir.BooleanValue:
    return ((facts.breadth >= least_breadth) & (facts.utilisation >= least_utilisation)).fill_null(False)


def _held(event: ir.IntegerValue, steps: ir.Table) -> ir.BooleanValue:
    """Whether the last of the events so far, 1 on and 0 off, was on; false before the first."""
    until = ibis.window(group_by=["account_id", "as_of"], order_by=steps.back.desc(), preceding=None, following=0)
    # Later events have greater numbers; the lowest digit says which of the two it was.
    last = ((STEPS - steps.back) * 2 + event).max().over(until)
    return (last % 2 == 1).fill_null(False)


def _life(tables: Tables, instants: ir.Table) -> ir.Table:
    steps = phases(_facts(tables, instants))
    whole = ibis.window(group_by=["account_id", "as_of"])
    steps = steps.mutate(
        now=steps.phase.max(where=steps.back == 0).over(whole),
        tenure_now=steps.tenure.max(where=steps.back == 0).over(whole),
    )
    # Periods that began before the account did say nothing of how evenly it uses the product.
    held = (steps.back < PERIODS) & ((steps.back + 1) * STEP_DAYS <= steps.tenure_now)
    period_users = ibis.ifelse(held, steps.users, ibis.null("double"))
    return steps.mutate(
        changed=ibis.ifelse(steps.phase != steps.now, steps.back, ibis.null("int64")),
        period_users=exact(period_users),
        period_squares=exact(period_users * period_users),
    )


PERIODS = 13
"""Periods of 28 days over which the evenness of use is measured."""

LIFECYCLE = Family(
    name="lifecycle",
    source="usage",
    owner="customer success operations",
    rows=_life,
    measures=(
        Measure("period_users_sum", lambda step: step.period_users.sum()),
        Measure("period_users_squares", lambda step: step.period_squares.sum()),
    ),
    features=(
        Feature(
            name="lifecycle_phase",
            formula=lambda step: step.phase.max(where=step.back == 0),
            label="phase of life",
            meaning="Phase at `as_of`: the rules replayed over 14 instants 28 days apart with what is known now: "
            "won back and onboarding in the first 90 days, frozen and dormant from 90 and 28 days without core use "
            "until 3 days with use in 14, developed from breadth 0.6 and utilisation 0.5 at two instants running until "
            "below 0.5 or 0.4, else developing.",
            unit="class", missing="E", sign=0, group="context", actionable=False, levels=PHASES,
            needs=("usage.day",),
            examples=(
                example(CODE["developing"], "used a day too late to be dormant",
                        contracts="start_at mrr; -50 100", usage="event_at is_core; -27 true; -28 true"),
                example(CODE["dormant"], "no core use in the last 27 days; other use does not count",
                        contracts="start_at mrr; -50 100", usage="event_at is_core; -1 false; -28 true"),
                example(CODE["frozen"], "never used since the start 90 days ago", contracts="start_at mrr; -90 100"),
                example(CODE["won_back"], "back for 89 days after 31 without a contract",
                        contracts="contract_id start_at ended_at mrr; c1 -700 -120 100; c2 -89 . 100"),
                example(CODE["onboarding"], "of two required steps one is done",
                        contracts="start_at mrr; -89 100", usage="event_at is_core; -1 true",
                        milestones="step required event_at completed_at; a yes -89 -80; b yes -89 0; c no -89 ."),
                example(CODE["developed"], "three of five features and half of the seats in use, now and 28 days ago",
                        contracts="start_at seats mrr; -50 2 100",
                        entitlements="feature_id event_at; a -300; b -300; c -300; d -300; e -300",
                        usage="event_at user_id feature_id is_core; -1 u a yes; -1 u b yes; -1 u c yes;"
                        "-29 v a yes; -29 v b yes; -29 v d yes"),
            ),
        ),
        Feature(
            name="days_in_phase",
            formula=lambda step: STEP_DAYS * ibis.coalesce(step.changed.min() - 1, step.back.max()),
            label="days in the phase",
            meaning="28 times the instants before `as_of`, 28 days apart, at which the account was in the same phase "
            "without a break; at most 364.",
            unit="days", missing="E", sign=0, group="context", actionable=False,
            needs=("usage.day",),
            examples=(
                example(28, "dormant now and 28 days ago; 56 days ago its last use was 14 days old",
                        contracts="start_at mrr; -90 100", usage="event_at is_core; -70 true"),
                example(364, "developing at all fourteen instants", usage="event_at is_core; "
                        + "; ".join(f"-{28 * step + 1} true" for step in range(14))),
                example(0, "used again yesterday and on two other days; dormant 28 days ago",
                        contracts="start_at mrr; -90 100",
                        usage="event_at is_core; -1 true; -2 true; -14 true; -60 true"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (LIFECYCLE,)
