"""How satisfied people at the account say they are (CSAT), how easy we are to deal with (CES), and who waits for us.

Source: `surveys`, and the scores that tickets carry. Scores of different scales are rescaled to 0 to 1 before they are
put together; an effort scale is mirrored first, so that 1 is always the easy end.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.feedback import answers, newest_first
from features.families.versions import seconds_between
from features.family import Family, Feature, Measure
from features.tables import Tables
from features.windows import Window

CSAT_LOW = 0.25
"""A satisfaction of 2 on a scale of 1 to 5, rescaled to 0 to 1."""
CSAT_FALL = 0.5
"""A fall by 2 points on a scale of 1 to 5, rescaled."""
EASE_LOW = 1 / 3
"""An ease of 3 on a scale of 1 to 7, rescaled."""
NPS_LOW = 6
_SHARE = "decimal(18, 15)"
"""Summed in any order the same, with thirds to the last digit."""


def _scored(tables: Tables, instants: ir.Table) -> ir.Table:
    """Answers with `share`, the score from 0 to 1 where 1 is good."""
    seen = answers(tables, instants)
    length = seen.scale_max - seen.scale_min
    above = ibis.ifelse(seen.polarity == "effort", seen.scale_max - seen.score, seen.score - seen.scale_min)
    return seen.mutate(share=above / length)


def _csat(tables: Tables, instants: ir.Table) -> ir.Table:
    """CSAT answers, newest first (`recency` 0), and those after tickets in a series of their own."""
    seen = _scored(tables, instants).filter(ibis._.kind == "csat")
    newest = newest_first(seen, "share")
    return seen.mutate(
        satisfaction=seen.share.cast(_SHARE),
        answer=ibis.literal(1),
        is_low=(seen.share <= CSAT_LOW).cast("int8"),
        recency=ibis.row_number().over(newest),
        trigger_recency=ibis.row_number().over(newest_first(seen, "share", "trigger")),
        is_lower=(seen.share.lead().over(newest) - seen.share >= CSAT_FALL).cast("int8"),
    )


def _ces(tables: Tables, instants: ir.Table) -> ir.Table:
    seen = _scored(tables, instants).filter(ibis._.kind == "ces")
    return seen.mutate(
        ease=seen.share.cast(_SHARE), answer=ibis.literal(1), is_low=(seen.share <= EASE_LOW).cast("int8")
    )


def _negative(tables: Tables, instants: ir.Table) -> ir.Table:
    """Low answers that nobody followed up."""
    seen = _scored(tables, instants)
    low = ibis.cases(
        (seen.kind == "nps", seen.score <= NPS_LOW),
        (seen.kind == "csat", seen.share <= CSAT_LOW),
        else_=seen.share <= EASE_LOW,
    )
    waiting = seen.filter(low & seen.followed_up_at.isnull())
    return waiting.mutate(answer=ibis.literal(1), seconds=seconds_between(waiting.event_at, waiting.as_of))


def _mean_satisfaction(answer: Window) -> ir.FloatingValue:
    return answer.satisfaction.sum().cast("double") / answer.answer.sum().nullif(0)


CSAT = Family(
    name="csat",
    source="surveys",
    owner="customer success operations",
    rows=_csat,
    measures=(
        Measure("csat_mean_92to182d", lambda answer: _mean_satisfaction(answer.days(92, 182)), window=182, missing="E"),
        Measure("is_last_csat_lower", lambda answer: answer.is_lower.max(where=answer.recency == 0), missing="E"),
    ),
    features=(
        Feature(
            name="csat_mean_91d",
            formula=_mean_satisfaction,
            label="mean satisfaction in the last 91 days, from 0 to 1",
            meaning="Mean of (score - min) / (max - min) over CSAT answers, 91 days.",
            unit="0-1", window=91, missing="E", sign=-1, group="sentiment", actionable=True,
            examples=(
                example(0.625, "5, 5, 5, 4, 1, 3, 2, 4, 3, 3 have the mean 3.5 of 1 to 5",
                        surveys="kind score scale_min scale_max responded_at;"
                        + "".join(f"csat {score} 1 5 -9;" for score in (5, 5, 5, 4, 1, 3, 2, 4, 3, 3))),
                example(0.725, "5, 10, 15, 30 and 40 answers of 1 to 5",
                        surveys="kind score scale_min scale_max responded_at;" + "csat 1 1 5 -91;" * 5
                        + "csat 2 1 5 -9;" * 10 + "csat 3 1 5 -8;" * 15 + "csat 4 1 5 -7;" * 30
                        + "csat 5 1 5 -1;" * 40),
                example(0.375, "0.25 of 1 to 5 and 0.5 of 0 to 10",
                        surveys="kind score scale_min scale_max responded_at; csat 2 1 5 -9; csat 5 0 10 -9"),
                example(None, "a score on the day 92",
                        surveys="kind score scale_min scale_max responded_at; csat 5 1 5 -92"),
            ),
        ),
        Feature(
            name="csat_low_count_91d",
            formula=lambda answer: answer.is_low.sum(),
            label="low satisfaction scores in the last 91 days",
            meaning="CSAT answers of at most 2 on a scale of 1 to 5 (0.25 rescaled), 91 days.",
            unit="answers", window=91, missing="Z", sign=1, group="sentiment", actionable=True,
            examples=(
                example(2, "2 of 1 to 5, 2 of 0 to 10; 3 is not low",
                        surveys="kind score scale_min scale_max responded_at;"
                        "csat 2 1 5 -91; csat 2 0 10 -9; csat 3 1 5 -9; csat 1 1 5 -92"),
                example(1, "the score of a ticket, in two versions",
                        tickets="ticket_id opened_at resolved_at csat known_at; a -9 -8 1 -8; a -9 -8 1 -5"),
                example(0, "given at the instant", surveys="kind score scale_min scale_max responded_at; csat 1 1 5 0"),
            ),
        ),
        Feature(
            name="csat_post_ticket_last",
            formula=lambda answer: answer.satisfaction.max(
                where=(answer.trigger_recency == 0) & (answer.trigger == "ticket")
            ),
            label="last satisfaction after a ticket, from 0 to 1",
            meaning="Last CSAT answer triggered by a ticket, (score - min) / (max - min).",
            unit="0-1", missing="E", sign=-1, group="sentiment", actionable=True,
            examples=(
                example(0.75, "the ticket resolved last; a later score is about something else",
                        tickets="ticket_id opened_at resolved_at csat; a -99 -98 1; b -50 -40 4",
                        surveys="kind score scale_min scale_max trigger responded_at; csat 1 1 5 training -9"),
                example(None, "scored when it is resolved, at the instant",
                        tickets="ticket_id opened_at resolved_at csat; a -9 0 4"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="csat_delta_91d",
            formula=lambda row: row.csat_mean_91d - row.csat_mean_92to182d,
            label="satisfaction of the last 91 days against the 91 before",
            meaning="csat_mean_91d minus the mean of the 91 days before them.",
            unit="0-1", window=91, missing="E", sign=-1, group="sentiment", actionable=True,
            examples=(
                example(-0.25, "0.5 after (0.5 + 1) / 2",
                        surveys="kind score scale_min scale_max responded_at;"
                        "csat 3 1 5 -91; csat 3 1 5 -92; csat 5 1 5 -182; csat 1 1 5 -183"),
                example(None, "nothing to compare with",
                        surveys="kind score scale_min scale_max responded_at; csat 3 1 5 -9; csat 1 1 5 -183"),
            ),
        ),
    ),
)  # fmt: skip

CES = Family(
    name="ces",
    source="surveys",
    owner="customer success operations",
    rows=_ces,
    features=(
        Feature(
            name="ces_ease_mean_91d",
            formula=lambda answer: answer.ease.sum().cast("double") / answer.answer.sum().nullif(0),
            label="mean ease of dealing with us in the last 91 days, from 0 to 1",
            meaning="Mean of (score - min) / (max - min) over CES answers, effort scales mirrored first, 91 days.",
            unit="0-1", window=91, missing="E", sign=-1, group="effort", actionable=True,
            needs=("surveys.polarity",),
            examples=(
                example(7 / 12, "7, 4, 3, 2, 5, 6, 4, 1, 7, 6 have the mean 4.5 of 1 to 7",
                        surveys="kind score scale_min scale_max polarity responded_at;"
                        + "".join(f"ces {score} 1 7 ease -91;" for score in (7, 4, 3, 2, 5, 6, 4, 1, 7, 6))),
                example(0.6, "2, 8, 15, 18 and 7 answers of 1 to 5, and one too old",
                        surveys="kind score scale_min scale_max polarity responded_at; ces 1 1 5 ease -92;"
                        + "ces 1 1 5 ease -9;" * 2 + "ces 2 1 5 ease -9;" * 8 + "ces 3 1 5 ease -9;" * 15
                        + "ces 4 1 5 ease -9;" * 18 + "ces 5 1 5 ease -9;" * 7),
                example(0.75, "an effort of 2 of 1 to 5 is an ease of 4",
                        surveys="kind score scale_min scale_max polarity responded_at; ces 2 1 5 effort -9"),
                example(None, "no answer", surveys="kind sent_at; ces -9"),
            ),
        ),
        Feature(
            name="ces_low_count_91d",
            formula=lambda answer: answer.is_low.sum(),
            label="answers that we are hard to deal with in the last 91 days",
            meaning="CES answers of at most 3 on an ease scale of 1 to 7 (1/3 rescaled), 91 days.",
            unit="answers", window=91, missing="Z", sign=1, group="effort", actionable=True,
            needs=("surveys.polarity",),
            examples=(
                example(2, "an ease of 3 of 1 to 7, an effort of 5 of 1 to 7; not 4, nor 3 of 1 to 5",
                        surveys="kind score scale_min scale_max polarity responded_at; ces 3 1 7 ease -91;"
                        "ces 5 1 7 effort -9; ces 4 1 7 ease -9; ces 3 1 5 ease -9; ces 1 1 7 ease -92"),
                example(0, "an effort of 1 is low, and good",
                        surveys="kind score scale_min scale_max polarity responded_at; ces 1 1 7 effort -9"),
            ),
        ),
    ),
)  # fmt: skip

NEGATIVE = Family(
    name="negative",
    source="surveys",
    owner="customer success operations",
    rows=_negative,
    features=(
        Feature(
            name="open_negative_feedback",
            formula=lambda answer: answer.answer.sum(),
            label="low answers not followed up",
            meaning="NPS answers of 0 to 6, CSAT of at most 0.25 and CES of at most 1/3, not followed up at `as_of`.",
            unit="answers", missing="Z", sign=1, group="sentiment", actionable=True,
            needs=("surveys.followed_up_at",),
            examples=(
                example(3, "one of each kind; the last three are no low answers",
                        surveys="kind score scale_min scale_max polarity responded_at followed_up_at;"
                        "nps 6 . . . -400 .; csat 2 1 5 . -9 0; ces 5 1 7 effort -9 .;"
                        "nps 7 . . . -9 .; csat 3 1 5 . -9 .; ces 4 1 7 ease -9 ."),
                example(0, "followed up, as a second version says",
                        surveys="kind contact_id score sent_at responded_at followed_up_at known_at;"
                        "nps k 2 -10 -9 . -9; nps k 2 -10 -9 -5 -4"),
            ),
        ),
        Feature(
            name="negative_feedback_wait_h",
            formula=lambda answer: answer.seconds.max() / 3600,
            label="hours the oldest low answer waits for us",
            meaning="Hours from the oldest low answer not followed up to `as_of`; 0 if there is none.",
            unit="hours", missing="Z", sign=1, group="sentiment", actionable=True,
            needs=("surveys.followed_up_at",),
            examples=(
                example(37.5, "answered at half past ten two days ago; the older one was followed up",
                        surveys="kind score responded_at followed_up_at; nps 6 -2@10:30 .; nps 1 -9 -1; nps 3 -1 ."),
                example(0, "followed up just before the instant",
                        surveys="kind score responded_at followed_up_at; nps 6 -2 -1@23:59:59"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (CSAT, CES, NEGATIVE)
