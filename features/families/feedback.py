"""What people at the account say when asked whether they would recommend us, and whether they answer at all.

Source: `surveys`. An answer counts from `responded_at`, never from `sent_at`; relationship NPS (no trigger) and
transactional scores are never pooled.
"""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.versions import last_delivery
from features.family import Family, Feature, Measure, flag, ratio
from features.tables import Tables
from features.windows import known_before, known_outcome, newest_before

NO_ANSWER_DAYS = 14
"""An invitation so many days old and unanswered counts as no answer."""


def _nothing(value: ir.Value) -> ir.Value:
    return ibis.null(value.type())


def _deliveries(seen: ir.Table) -> ir.Table:
    """Each invitation or answer as it was delivered last."""
    # Who was asked and when tells one from another. Where that is not said, only what was answered does.
    is_named = seen.contact_id.notnull()
    told = seen.mutate(
        answered=ibis.ifelse(is_named & seen.sent_at.notnull(), _nothing(seen.responded_at), seen.responded_at),
        given=ibis.ifelse(is_named, _nothing(seen.score), seen.score),
    )
    return last_delivery(told, "kind", "trigger", "contact_id", "sent_at", "answered", "given")


def answers(tables: Tables, instants: ir.Table) -> ir.Table:
    """Answers to surveys known at each instant, as the columns of `surveys` with as_of and age_days since the answer.

    `followed_up_at` is missing where it lies at or after the instant, and `trigger` is in small letters, "" if missing.
    """
    surveys = tables["surveys"]
    answered = surveys.filter(surveys.score.notnull() & surveys.responded_at.notnull())
    dated = answered.mutate(
        event_at=answered.responded_at,
        known_at=ibis.greatest(answered.known_at, answered.responded_at),
        trigger=answered.trigger.strip().lower().fill_null(""),
    )
    seen = _deliveries(known_before(dated, instants))
    return seen.mutate(followed_up_at=known_outcome(seen.followed_up_at, seen.as_of))


def newest_first(answer: ir.Table, score: str, *group: str) -> Any:
    """A window over the answers of an account, or of each `group` in it, from the last one back."""
    order = [answer.event_at.desc(), answer.contact_id.desc(), answer[score].desc()]
    return ibis.window(group_by=["account_id", *group, "as_of"], order_by=order)


def _relationship(tables: Tables, instants: ir.Table) -> ir.Table:
    """Relationship answers, newest first (`recency` 0), with the answer before of the same contact."""
    seen = answers(tables, instants)
    seen = seen.filter((seen.kind == "nps") & seen.trigger.isin(["", "relationship"]))
    seen = seen.left_join(_deciders(tables, instants), ["account_id", "contact_id", "as_of"])
    seen = seen.drop("account_id_right", "contact_id_right", "as_of_right")
    seen = seen.mutate(is_decider=seen.is_decider.fill_null(0))
    before = seen.score.lead().over(newest_first(seen, "score", "contact_id"))
    return seen.mutate(
        recency=ibis.row_number().over(newest_first(seen, "score")),
        decider_recency=ibis.row_number().over(newest_first(seen, "score", "is_decider")),
        previous=ibis.ifelse(seen.contact_id.notnull(), before, ibis.null("double")),
        answer=ibis.literal(1),
        is_detractor=(seen.score <= 6).cast("int8"),
    )


def _deciders(tables: Tables, instants: ir.Table) -> ir.Table:
    contact = newest_before(tables["contacts"], instants, "contact_id")
    decider = contact.filter(contact.is_decision_maker.fill_null(False))
    return decider.select("account_id", "contact_id", "as_of", is_decider=ibis.literal(1))


def _transactional(tables: Tables, instants: ir.Table) -> ir.Table:
    seen = answers(tables, instants)
    seen = seen.filter((seen.kind == "nps") & ~seen.trigger.isin(["", "relationship"]))
    return seen.mutate(recency=ibis.row_number().over(newest_first(seen, "score")))


def _invitations(tables: Tables, instants: ir.Table) -> ir.Table:
    """Invitations, newest first; then the answers of which no invitation is known, which still were asked for."""
    seen = _deliveries(known_before(tables["surveys"], instants))
    was_sent = seen.sent_at.notnull()
    answered = known_outcome(seen.responded_at, seen.as_of).notnull()
    order = [was_sent.desc(), seen.event_at.desc(), answered.desc()]
    return seen.mutate(
        recency=ibis.row_number().over(ibis.window(group_by=["account_id", "as_of"], order_by=order)),
        asked=ibis.literal(1),
        invitation=was_sent.cast("int8"),
        is_answered=(was_sent & answered).cast("int8"),
        is_open=(was_sent & ~answered).cast("int8"),
    )


NPS = Family(
    name="nps",
    source="surveys",
    owner="customer success operations",
    rows=_relationship,
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
            examples=(
                example(7, "by the answer, not the invitation; about a ticket is another series",
                        surveys="kind score trigger sent_at responded_at;"
                        "nps 3 . -10 -9; nps 7 Relationship -20 -2; nps 1 ticket -1 -1"),
                example(None, "answered at the instant", surveys="kind score sent_at responded_at; nps 7 -9 0"),
            ),
        ),
        Feature(
            name="nps_age_days",
            formula=lambda answer: answer.age_days.min(),
            label="days since the last NPS answer",
            meaning="Days from the last relationship NPS answer to `as_of`.",
            unit="days", missing="E", sign=0, group="sentiment", actionable=True,
            examples=(
                example(2, surveys="kind score sent_at responded_at; nps 3 -10 -9; nps 7 -20 -2@23:00"),
                example(None, "never answered", surveys="kind score sent_at responded_at; nps . -9 ."),
            ),
        ),
        Feature(
            name="nps_delta_prev",
            formula=lambda answer: answer.score.max(where=answer.recency == 0)
            - answer.previous.max(where=answer.recency == 0),
            label="change of the NPS score against the answer before",
            meaning="Last relationship NPS answer minus the one before of the same contact.",
            unit="points", missing="E", sign=-1, group="sentiment", actionable=True,
            needs=("surveys.contact_id",),
            examples=(
                example(-3, "what another person said between does not matter",
                        surveys="kind contact_id score responded_at; nps k 9 -300; nps m 10 -20; nps k 6 -9"),
                example(None, "the first answer of the contact",
                        surveys="kind contact_id score responded_at; nps k 9 -300; nps m 10 -20"),
            ),
        ),
        Feature(
            name="nps_decision_maker_last",
            formula=lambda answer: answer.score.max(where=(answer.decider_recency == 0) & (answer.is_decider == 1)),
            label="last NPS score of a decision maker",
            meaning="Last relationship NPS answer of a contact known at `as_of` as a decision maker.",
            unit="0-10", missing="E", sign=-1, group="sentiment", actionable=True,
            needs=("surveys.contact_id", "contacts.is_decision_maker"),
            examples=(
                example(8, "the last answer came from somebody else",
                        contacts="contact_id is_decision_maker; k yes; m no",
                        surveys="kind contact_id score responded_at; nps k 4 -90; nps k 8 -20; nps m 2 -9; nps z 1 -8"),
                example(None, "known to decide only after the instant",
                        contacts="contact_id is_decision_maker known_at; k no -90; k yes 1",
                        surveys="kind contact_id score responded_at; nps k 8 -20"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="nps_detractor_share_182d",
            formula=lambda row: ratio(row.nps_detractors_182d, row.nps_answers_182d),
            label="share of detractors among the NPS answers of 182 days",
            meaning="Answers of 0 to 6 / all relationship NPS answers, 182 days.",
            unit="share", window=182, missing="D", sign=1, group="sentiment", actionable=True,
            examples=(
                example(0.5, "0 and 6 of 0, 6, 7 and 10; the day 183 is out",
                        surveys="kind score responded_at; nps 0 -182; nps 6 -9; nps 7 -9; nps 10 -1; nps 1 -183"),
                example(None, "no answer in the window", surveys="kind score responded_at; nps 1 -183"),
            ),
        ),
        Feature(
            name="is_nps_detractor",
            formula=lambda row: flag(row.nps_last_score <= 6),
            label="last NPS answer was a detractor's",
            meaning="Last relationship NPS answer is 0 to 6.",
            unit="0/1", missing="E", sign=1, group="sentiment", actionable=True,
            examples=(
                example(1, surveys="kind score responded_at; nps 9 -10; nps 6 -9"),
                example(1, "zero is an answer", surveys="kind score responded_at; nps 0 -9"),
                example(0, surveys="kind score responded_at; nps 7 -9"),
                example(None, "never answered", surveys=""),
            ),
        ),
        Feature(
            name="is_nps_passive",
            formula=lambda row: flag(row.nps_last_score.between(7, 8)),
            label="last NPS answer was a passive's",
            meaning="Last relationship NPS answer is 7 or 8.",
            unit="0/1", missing="E", sign=0, group="sentiment", actionable=True,
            examples=(
                example(1, surveys="kind score responded_at; nps 7 -9"),
                example(1, surveys="kind score responded_at; nps 8 -9"),
                example(0, surveys="kind score responded_at; nps 6 -9"),
                example(0, surveys="kind score responded_at; nps 9 -9"),
                example(None, "never answered", surveys=""),
            ),
        ),
        Feature(
            name="is_nps_promoter",
            formula=lambda row: flag(row.nps_last_score >= 9),
            label="last NPS answer was a promoter's",
            meaning="Last relationship NPS answer is 9 or 10.",
            unit="0/1", missing="E", sign=-1, group="sentiment", actionable=True,
            examples=(
                example(1, surveys="kind score responded_at; nps 9 -9"),
                example(1, surveys="kind score responded_at; nps 10 -9"),
                example(0, surveys="kind score responded_at; nps 10 -9; nps 8 -8"),
                example(None, "never answered", surveys=""),
            ),
        ),
    ),
)  # fmt: skip

TRANSACTIONAL = Family(
    name="tnps",
    source="surveys",
    owner="customer success operations",
    rows=_transactional,
    features=(
        Feature(
            name="tnps_last_score",
            formula=lambda answer: answer.score.max(where=answer.recency == 0),
            label="last NPS score given after an event",
            meaning="Last transactional NPS answer (one with a trigger) before `as_of`.",
            unit="0-10", missing="E", sign=-1, group="sentiment", actionable=True,
            needs=("surveys.trigger",),
            examples=(
                example(4, "the answers about the relationship are another series",
                        surveys="kind score trigger responded_at; nps 9 ticket -9; nps 4 call -2; nps 10 . -1"),
                example(None, "relationship answers alone",
                        surveys="kind score trigger responded_at; nps 9 relationship -9"),
            ),
        ),
    ),
)  # fmt: skip

INVITATIONS = Family(
    name="invitations",
    source="surveys",
    owner="customer success operations",
    rows=_invitations,
    measures=(
        Measure("surveys_asked", lambda survey: survey.asked.sum()),
        Measure("survey_invitations_364d", lambda survey: survey.invitation.sum(), window=364),
        Measure("survey_answers_364d", lambda survey: survey.is_answered.sum(), window=364),
    ),
    features=(
        Feature(
            name="has_unanswered_survey",
            formula=lambda survey: (
                (survey.is_open == 1) & (survey.recency == 0) & (survey.age_days >= NO_ANSWER_DAYS)
            ).max(),
            label="last survey left unanswered",
            meaning="The last invitation of 364 days is at least 14 days old and unanswered at `as_of`.",
            unit="0/1", window=364, missing="F", sign=1, group="engagement", actionable=True,
            needs=("surveys.sent_at",),
            examples=(
                example(1, "the answer comes at the instant", surveys="kind score sent_at responded_at; nps 9 -14 0"),
                example(0, "asked 13 days ago", surveys="kind sent_at; nps -30; nps -13"),
                example(0, "asked too long ago", surveys="kind sent_at; nps -365"),
            ),
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
            examples=(
                example(0.8, "4 of 5; the day 365 is out, and so is what nobody asked for",
                        surveys="kind score sent_at responded_at; nps 9 -364 -360; nps 9 -9 -8; nps 9 -9 -7;"
                        "nps 9 -9 -6; nps 9 -9 0; nps 9 -365 -360; nps 9 . -5"),
                example(None, "none was sent in the window", surveys="kind sent_at; nps -365"),
            ),
        ),
        Feature(
            name="is_never_surveyed",
            formula=lambda row: flag(row.surveys_asked == 0),
            label="never asked in a survey",
            meaning="No invitation to a survey before `as_of`, and no answer to one.",
            unit="0/1", missing="F", sign=0, group="context", actionable=False,
            needs=("surveys.sent_at",),
            examples=(
                example(1, "asked only at the instant", surveys="kind sent_at; nps 0"),
                example(0, "asked long ago", surveys="kind sent_at; nps -900"),
                example(0, "it answered, so it was asked", surveys="kind score responded_at; nps 9 -900"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (NPS, TRANSACTIONAL, INVITATIONS)
