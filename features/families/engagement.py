"""How the account and we talk: touches, replies, meetings and e-mails.

Source: `touches`, `emails`. An answer or reply at or after `as_of` has not happened yet. Whether a meeting was
accepted comes with its answer; without one, and for a mail clicked, it counts once the row is known.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, Measure, ratio
from features.kaplan_meier import km_median
from features.tables import Tables
from features.windows import known_before, known_outcome

SPOKEN = ("call", "phone", "meeting", "visit")
"""Channels on which nobody waits for a written reply; any other inbound touch is a message."""
REPLY_DAYS, EMAIL_DAYS = 91, 91
SECONDS_AN_HOUR = 3600


def touches_known(tables: Tables, instants: ir.Table, *, within_days: int | None = None) -> ir.Table:
    """Every touch with what was known of it: `is_inbound`, `is_two_way`, and `replied_at` before the instant.

    Two-way is every inbound touch, and an outbound one that was answered, replied to or accepted.
    """
    seen = known_before(tables["touches"], instants, within_days=within_days)
    is_inbound = (seen.direction == "in").fill_null(False)
    replied_at, answered_at = (known_outcome(at, seen.as_of) for at in (seen.replied_at, seen.answered_at))
    # A yes came with its answer, where that has a date.
    accepted = ibis.ifelse(seen.answered_at.notnull() & answered_at.isnull(), ibis.null("boolean"), seen.accepted)
    was_met = replied_at.notnull() | answered_at.notnull() | accepted.fill_null(False)
    return seen.mutate(
        is_inbound=is_inbound,
        accepted=accepted,
        is_two_way=is_inbound | was_met,
        replied_at=replied_at,
        **{name: plain(seen[name]) for name in ("kind", "channel", "topic")},
    )


def plain(text: ir.StringValue) -> ir.StringValue:
    """`text` in small letters without blanks around; empty where there is none."""
    return text.strip().lower().fill_null("")


def one(claim: ir.BooleanValue) -> ir.IntegerValue:
    """1 where `claim` holds, 0 where it does not or is unknown: to be summed."""
    return claim.fill_null(False).cast("int8")


def _touches(tables: Tables, instants: ir.Table) -> ir.Table:
    touches = touches_known(tables, instants)
    # An invitation without an answer was not accepted; a meeting asked for by the account is no invitation of ours.
    invited = ~touches.is_inbound & ((touches.channel == "meeting") | touches.accepted.notnull())
    return touches.mutate(
        two_way=one(touches.is_two_way),
        two_way_age=ibis.ifelse(touches.is_two_way, touches.age_days, ibis.null(touches.age_days.type())),
        proactive=one(touches.kind == "proactive"),
        reactive=one(touches.kind == "reactive"),
        advice=one(touches.is_inbound & (touches.topic == "advice")),
        unanswered=one(_is_message(touches) & touches.replied_at.isnull()),
        invited=one(invited),
        accepted=one(invited & touches.accepted),
    )


def _is_message(touches: ir.Table) -> ir.BooleanValue:
    return touches.is_inbound & ~touches.channel.isin(SPOKEN)


def _replies(tables: Tables, instants: ir.Table) -> ir.Table:
    """One row per account and instant: the median hours of our replies, open messages censored."""
    touches = touches_known(tables, instants, within_days=REPLY_DAYS)
    messages = touches.filter(_is_message(touches))
    until = ibis.coalesce(messages.replied_at, messages.as_of)
    hours = (until.epoch_seconds() - messages.event_at.epoch_seconds()) / SECONDS_AN_HOUR
    spans = messages.mutate(duration=hours, observed=messages.replied_at.notnull().cast("int8"))
    return km_median(spans, "reply_hours").mutate(age_days=ibis.literal(1))


def _emails(tables: Tables, instants: ir.Table) -> ir.Table:
    emails = known_before(tables["emails"], instants, within_days=EMAIL_DAYS)
    return emails.mutate(received=one(emails.delivered), clicked=one(emails.delivered & emails.clicked))


_REPLIES = "event_at direction replied_at; "
_CALLS = "event_at direction answered_at accepted; "
_MESSAGES = "event_at direction channel replied_at; "
_MEETINGS = "event_at direction channel accepted; "
_EMAILS = "event_at delivered clicked; "
"""Headers of the examples' tables."""


TOUCHES = Family(
    name="touches",
    source="touches",
    owner="customer success operations",
    rows=_touches,
    measures=(
        Measure("proactive_touches_91d", lambda touch: touch.proactive.sum(), window=91),
        Measure("reactive_touches_91d", lambda touch: touch.reactive.sum(), window=91),
        Measure("meetings_invited_182d", lambda touch: touch.invited.sum(), window=182),
        Measure("meetings_accepted_182d", lambda touch: touch.accepted.sum(), window=182),
    ),
    features=(
        Feature(
            name="days_since_last_touch",
            formula=lambda touch: touch.two_way_age.min(),
            label="days since the last two-way touch",
            meaning="Days since the last touch that was inbound, or outbound and answered, replied to or accepted.",
            unit="days", missing="E", sign=1, group="engagement", actionable=True,
            needs=("touches.direction",),
            examples=(
                example(9, touches=_REPLIES + "-20 in .; -9 out -8; -3 out ."),
                example(20, "replied to at the instant", touches=_REPLIES + "-20 in .; -9 out 0"),
                example(None, "none went both ways", touches="event_at direction; -9 out"),
            ),
        ),
        Feature(
            name="touches_91d",
            formula=lambda touch: touch.two_way.sum(),
            label="two-way touches in the last 91 days",
            meaning="Touches of 91 days that were inbound, or outbound and answered, replied to or accepted; a CSM "
            "also calls because an account is unwell.",
            unit="touches", window=91, missing="Z", sign=0, group="engagement", actionable=True,
            needs=("touches.direction",),
            examples=(
                example(3, touches=_CALLS + "-91 in . .; -9 out -9@00:01 .; -8 out . yes"),
                example(0, "too old, not answered, declined", touches=_CALLS + "-92 in . .; -9 out 0 .; -8 out . no"),
            ),
        ),
        Feature(
            name="advice_inbound_91d",
            formula=lambda touch: touch.advice.sum(),
            label="requests for advice in the last 91 days",
            meaning="Inbound touches of the topic `advice`, 91 days.",
            unit="touches", window=91, missing="Z", sign=-1, group="engagement", actionable=True,
            needs=("touches.direction", "touches.topic"),
            examples=(
                example(2, touches="event_at direction topic; -91 in Advice; -1 in ~advice; -5 in complaint"),
                example(0, "ours, too old, not yet", touches="event_at direction topic; -9 out advice; -92 in advice; "
                        "0 in advice"),
            ),
        ),
        Feature(
            name="inbound_unanswered",
            formula=lambda touch: touch.unanswered.sum(),
            label="messages that wait for a reply",
            meaning="Inbound touches without a reply at `as_of`, of any age; calls, meetings and visits are left out.",
            unit="messages", missing="Z", sign=1, group="engagement", actionable=True,
            needs=("touches.direction", "touches.replied_at"),
            examples=(
                example(2, "one at the instant", touches=_MESSAGES + "-400 in mail .; -9 in . 0; -8 in chat -7"),
                example(0, "a call, and a message of ours", touches=_MESSAGES + "-9 in Call .; -9 out mail ."),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="proactive_share_91d",
            formula=lambda row: ratio(
                row.proactive_touches_91d, row.proactive_touches_91d + row.reactive_touches_91d
            ),
            label="share of touches that we began to help",
            meaning="Touches of the kind `proactive` / touches `proactive` or `reactive`, 91 days, answered or not.",
            unit="share", window=91, missing="D", sign=-1, group="engagement", actionable=True,
            needs=("touches.kind",),
            examples=(
                example(0.6, touches="event_at kind; -1 proactive; -2 Proactive; -91 proactive; -3 reactive; "
                        "-4 reactive; -5 other"),
                example(None, "neither kind in the window", touches="event_at kind; -92 proactive; -9 other"),
            ),
        ),
        Feature(
            name="meeting_acceptance_182d",
            formula=lambda row: ratio(row.meetings_accepted_182d, row.meetings_invited_182d),
            label="share of meetings accepted",
            meaning="Accepted / invited, 182 days. Invited: outbound touches on the channel `meeting`, and any other "
            "that says whether it was accepted; no answer counts as not accepted.",
            unit="share", window=182, missing="D", sign=-1, group="engagement", actionable=True,
            needs=("touches.accepted",),
            examples=(
                example(0.5, touches=_MEETINGS + "-182 out meeting yes; -9 out mail yes; "
                        "-8 out meeting .; -7 out meeting no"),
                example(None, "theirs, too old", touches=_MEETINGS + "-9 in meeting yes; -183 out meeting yes"),
            ),
        ),
    ),
)  # fmt: skip

REPLIES = Family(
    name="replies",
    source="touches",
    owner="customer success operations",
    rows=_replies,
    features=(
        Feature(
            name="csm_reply_median_h_91d",
            formula=lambda found: found.reply_hours.max(),
            label="median hours until a message is replied to",
            meaning="Kaplan-Meier median of the hours from an inbound message to its reply, 91 days; messages "
            "without a reply at `as_of` are still open. Calls, meetings and visits are left out.",
            unit="hours", window=91, missing="E", sign=1, group="engagement", actionable=True,
            needs=("touches.direction", "touches.replied_at"),
            examples=(
                example(6, "two are still open", touches=_REPLIES + "-9 in -9@02:00; -9 in -9@04:00; -8 in -8@06:00; "
                        "-8 in -8@08:00; -1@14:00 in .; -5 in ."),
                example(1.5, "the window's border", touches=_REPLIES + "-91 in -91@01:30; -92 in -80"),
                example(None, "replied to at the instant", touches=_REPLIES + "-9 in 0"),
            ),
        ),
    ),
)  # fmt: skip

EMAILS = Family(
    name="emails",
    source="emails",
    owner="marketing operations",
    rows=_emails,
    measures=(
        Measure("emails_delivered_91d", lambda mail: mail.received.sum(), window=91),
        Measure("emails_clicked_91d", lambda mail: mail.clicked.sum(), window=91),
    ),
    ratios=(
        Feature(
            name="email_click_rate_91d",
            formula=lambda row: ratio(row.emails_clicked_91d, row.emails_delivered_91d),
            label="share of e-mails clicked",
            meaning="Clicked / delivered, e-mails sent in 91 days; opens, which mail programs feign, do not count.",
            unit="share", window=91, missing="D", sign=-1, group="engagement", actionable=True,
            needs=("emails.delivered", "emails.clicked"),
            examples=(
                example(0.25, emails=_EMAILS + "-91 yes yes; -9 yes no; -8 yes .; -7 yes no; -6 no yes"),
                example(None, "none delivered in the window", emails=_EMAILS + "-92 yes yes; -9 no no"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (TOUCHES, REPLIES, EMAILS)
