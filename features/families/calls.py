"""How the account reaches us: touches, and among them how its calls are taken.

Source: `touches`; a call is a touch of channel `call`. A call answered at or after `as_of` is not answered at `as_of`.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.versions import last_delivery
from features.family import Family, Feature, Measure, ratio
from features.tables import Tables
from features.windows import known_before, known_outcome

LIMIT_SECONDS = 20
"""A call answered within so many seconds was answered in time."""
_TOUCH = ("event_at", "ring_at", "direction", "channel", "kind", "contact_id", "csm_id", "topic")
"""What makes a touch the one it is; the rest may be learned later."""


def _touches(tables: Tables, instants: ir.Table) -> ir.Table:
    seen = known_before(tables["touches"], instants, within_days=91)
    touch = last_delivery(seen, *_TOUCH)
    is_call = touch.channel.strip().lower() == "call"
    limit = ibis.interval(seconds=LIMIT_SECONDS)
    answered_at = known_outcome(touch.answered_at, touch.as_of)
    # One that rang just before the instant may still be answered in time.
    is_due = ibis.coalesce(touch.ring_at, touch.event_at) + limit < touch.as_of
    is_incoming = is_call & (touch.direction == "in")
    is_timed = ibis.ifelse(answered_at.isnull(), is_due, touch.ring_at.notnull())
    # A call of ours after the missed one is the return, whoever took it.
    ours = ibis.ifelse(is_call & (touch.direction == "out"), touch.event_at, ibis.null(touch.event_at.type()))
    last_of_ours = ours.max().over(ibis.window(group_by=["account_id", "as_of"]))
    is_returned = (last_of_ours > touch.event_at).fill_null(False) | (touch.replied_at < touch.as_of).fill_null(False)
    return touch.mutate(
        touch=ibis.literal(1),
        inbound=_one(touch.direction == "in"),
        call_judged=_one(is_incoming & is_timed),
        call_in_limit=_one(is_incoming & (answered_at <= touch.ring_at + limit)),
        call_unreturned=_one(is_incoming & answered_at.isnull() & is_due & ~is_returned),
    )


def _one(claim: ir.BooleanValue) -> ir.IntegerValue:
    return claim.fill_null(False).cast("int8")


CALLS = Family(
    name="calls",
    source="touches",
    owner="support operations",
    rows=_touches,
    measures=(
        Measure("all_touches_91d", lambda touch: touch.touch.sum(), window=91),
        Measure("inbound_touches_91d", lambda touch: touch.inbound.sum(), window=91),
        Measure("calls_judged_91d", lambda touch: touch.call_judged.sum(), window=91),
        Measure("calls_in_limit_91d", lambda touch: touch.call_in_limit.sum(), window=91),
    ),
    features=(
        Feature(
            name="missed_calls_unreturned_28d",
            formula=lambda touch: touch.call_unreturned.sum(),
            label="missed calls not returned, 28 days",
            meaning="Incoming calls of 28 days that nobody took, with no call of ours and no reply since.",
            unit="calls", window=28, missing="Z", sign=1, group="support", actionable=True,
            needs=("touches.direction", "touches.channel", "touches.answered_at"),
            examples=(
                example(2, "the first two came before our call; an answer at the instant is none",
                        touches="event_at direction channel answered_at; -28 in call .; -9 in call .; -8 out call .;"
                        "-8@01:00 in call .; -1@23:59 in call 0; -5 in call -5; -5 in email ."),
                example(1, "too old; a reply by mail; rung just before the instant; and the call of day 3",
                        touches="event_at direction channel replied_at; -29 in call .; -5 in call -4;"
                        "-1@23:59:40 in call .; -3 in call 0"),
                example(0, "ours alone", touches="event_at direction channel answered_at; -3 out call ."),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="calls_answered_20s_share_91d",
            formula=lambda row: ratio(row.calls_in_limit_91d, row.calls_judged_91d),
            label="share of calls answered within 20 seconds, 91 days",
            meaning="Incoming calls answered within 20 s of ringing / incoming calls, 91 days.",
            unit="share", window=91, missing="D", sign=-1, group="support", actionable=True,
            needs=("touches.direction", "touches.channel", "touches.ring_at", "touches.answered_at"),
            examples=(
                example(0.8, "80 of 100: 10 too late by a second, 10 not answered",
                        touches="event_at direction channel ring_at answered_at; -92 in call -92 .;"
                        + "-91 in call -91 -91@00:00:20;" * 80 + "-9 in call -9 -9@00:00:21;" * 10
                        + "-9 in call -9 .;" * 10 + "-9 out call . .; -9 in email -9 ."),
                example(None, "still ringing at the instant, or of unknown ringing",
                        touches="event_at direction channel ring_at answered_at;"
                        "-1@23:59:50 in call -1@23:59:50 0; -9 in call . -9@00:00:01"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (CALLS,)
