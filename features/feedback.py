"""What people at the account answer when asked: NPS and CSAT.

Source: `surveys`, and the scores that tickets carry. An answer counts from `responded_at`, never from `sent_at`;
relationship NPS (no trigger) and transactional scores are never pooled.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.family import Family, Feature, Measure, exact, flag, ratio
from features.tables import Tables
from features.windows import known_before, known_outcome

NO_ANSWER_DAYS = 14
"""An invitation so many days old and unanswered counts as no answer."""
CSAT_LOW = 0.25
"""A satisfaction of 2 on a scale of 1 to 5, rescaled to 0 to 1."""


def _answers(tables: Tables, kind: str) -> ir.Table:
    surveys = tables["surveys"]
    answered = surveys.filter((surveys.kind == kind) & surveys.score.notnull() & surveys.responded_at.notnull())
    return answered.mutate(
        event_at=answered.responded_at, known_at=ibis.greatest(answered.known_at, answered.responded_at)
    )


def _nps(tables: Tables, instants: ir.Table) -> ir.Table:
    """Relationship answers, newest first (`recency` 0), with the answer before of the same contact."""
    answers = _answers(tables, "nps")
    trigger = answers.trigger.strip().lower().fill_null("")
    answers = answers.filter(trigger.isin(["", "relationship"]))
    seen = known_before(answers, instants)
    order = [seen.event_at, seen.known_at, seen.contact_id, seen.score]
    one_contact = ibis.window(group_by=["account_id", "contact_id", "as_of"], order_by=order)
    newest_first = ibis.window(group_by=["account_id", "as_of"], order_by=[column.desc() for column in order])
    return seen.mutate(
        recency=ibis.row_number().over(newest_first),
        previous=ibis.ifelse(seen.contact_id.notnull(), seen.score.lag().over(one_contact), ibis.null("double")),
        answer=ibis.literal(1),
        is_detractor=(seen.score <= 6).cast("int8"),
    )


def _csat(tables: Tables, instants: ir.Table) -> ir.Table:
    seen = known_before(_answers(tables, "csat"), instants, within_days=91)
    satisfaction = (seen.score - seen.scale_min) / (seen.scale_max - seen.scale_min)
    return seen.mutate(
        satisfaction=exact(satisfaction), answer=ibis.literal(1), is_low=(satisfaction <= CSAT_LOW).cast("int8")
    )


def _invitations(tables: Tables, instants: ir.Table) -> ir.Table:
    surveys = tables["surveys"].filter(ibis._.sent_at.notnull())
    seen = known_before(surveys.mutate(event_at=surveys.sent_at), instants, within_days=364)
    answered = known_outcome(seen.responded_at, seen.as_of).notnull()
    newest = ibis.window(group_by=["account_id", "as_of"], order_by=[seen.event_at.desc(), answered.desc()])
    return seen.mutate(
        recency=ibis.row_number().over(newest), invitation=ibis.literal(1), is_answered=answered.cast("int8")
    )


NPS = Family(
    name="nps",
    source="surveys",
    owner="customer success operations",
    rows=_nps,
    measures=(
        Measure("nps_answers_182d", lambda answer: answer.answer.sum(), window=182),
        Measure("nps_detractors_182d", lambda answer: answer.is_detractor.sum(), window=182),
    ),
    features=(
        Feature(
            name="nps_last_score",
            formula=lambda answer: answer.score.max(where=answer.recency == 0),
            label="last NPS score",
            meaning="Last relationship NPS answer before `as_of`.",
            unit="0-10", missing="E", sign=-1, group="sentiment", actionable=True,
        ),
        Feature(
            name="nps_age_days",
            formula=lambda answer: answer.age_days.min(),
            label="days since the last NPS answer",
            meaning="Days from the last relationship NPS answer to `as_of`.",
            unit="days", missing="E", sign=0, group="sentiment", actionable=True,
        ),
        Feature(
            name="nps_delta_prev",
            formula=lambda answer: answer.score.max(where=answer.recency == 0)
            - answer.previous.max(where=answer.recency == 0),
            label="change of the NPS score against the answer before",
            meaning="Last relationship NPS answer minus the one before of the same contact.",
            unit="points", missing="E", sign=-1, group="sentiment", actionable=True,
            needs=("surveys.contact_id",),
        ),
    ),
    ratios=(
        Feature(
            name="nps_detractor_share_182d",
            formula=lambda row: ratio(row.nps_detractors_182d, row.nps_answers_182d),
            label="share of detractors among the NPS answers of 182 days",
            meaning="Answers of 0 to 6 / all relationship NPS answers, 182 days.",
            unit="share", window=182, missing="D", sign=1, group="sentiment", actionable=True,
        ),
        Feature(
            name="is_nps_detractor",
            formula=lambda row: flag(row.nps_last_score <= 6),
            label="last NPS answer was a detractor's",
            meaning="Last relationship NPS answer is 0 to 6.",
            unit="0/1", missing="E", sign=1, group="sentiment", actionable=True,
        ),
    ),
)  # fmt: skip

CSAT = Family(
    name="csat",
    source="surveys",
    owner="customer success operations",
    rows=_csat,
    features=(
        Feature(
            name="csat_mean_91d",
            formula=lambda answer: answer.satisfaction.sum().cast("double") / answer.answer.sum().nullif(0),
            label="mean satisfaction in the last 91 days, from 0 to 1",
            meaning="Mean of (score - min) / (max - min) over CSAT answers, 91 days.",
            unit="0-1", window=91, missing="E", sign=-1, group="sentiment", actionable=True,
        ),
        Feature(
            name="csat_low_count_91d",
            formula=lambda answer: answer.is_low.sum(),
            label="low satisfaction scores in the last 91 days",
            meaning="CSAT answers of at most 2 on a scale of 1 to 5 (0.25 rescaled), 91 days.",
            unit="answers", window=91, missing="Z", sign=1, group="sentiment", actionable=True,
        ),
    ),
)  # fmt: skip

INVITATIONS = Family(
    name="invitations",
    source="surveys",
    owner="customer success operations",
    rows=_invitations,
    measures=(
        Measure("survey_invitations_364d", lambda survey: survey.invitation.sum(), window=364),
        Measure("survey_answers_364d", lambda survey: survey.is_answered.sum(), window=364),
    ),
    features=(
        Feature(
            name="has_unanswered_survey",
            formula=lambda survey: (
                (survey.is_answered == 0) & (survey.recency == 0) & (survey.age_days >= NO_ANSWER_DAYS)
            ).max(),
            label="last survey left unanswered",
            meaning="The last invitation of 364 days is at least 14 days old and unanswered at `as_of`.",
            unit="0/1", window=364, missing="F", sign=1, group="engagement", actionable=True,
            needs=("surveys.sent_at",),
        ),
    ),
    ratios=(
        Feature(
            name="survey_response_rate_364d",
            formula=lambda row: ratio(row.survey_answers_364d, row.survey_invitations_364d),
            label="share of surveys answered in a year",
            meaning="Answered / sent surveys, 364 days.",
            unit="share", window=364, missing="D", sign=-1, group="engagement", actionable=True,
            needs=("surveys.sent_at",),
        ),
    ),
)  # fmt: skip

FAMILIES = (NPS, CSAT, INVITATIONS)
