"""What the account says of competitors and of the price, wherever it says it.

Source: the topics of `touches`, and where they are connected those of `tickets` and the comments of `surveys`.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.engagement import one, plain
from features.family import Family, Feature
from features.mention_words import COMPETITOR_WORDS, PRICE_WORDS, whole_words
from features.tables import Tables
from features.windows import known_before, newest_before

MENTION_DAYS = 91


def _mentions(tables: Tables, instants: ir.Table) -> ir.Table:
    """Touches, tickets and answers beside instants, with 1 in `competitor` or `price` where they speak of it."""
    touches = known_before(tables["touches"], instants, within_days=MENTION_DAYS)
    tickets = newest_before(tables["tickets"], instants, "ticket_id")
    answers = tables["surveys"].filter(ibis._.responded_at.notnull() & ~ibis._.is_anonymous.fill_null(False))
    known_at = ibis.greatest(answers.known_at, answers.responded_at)
    comments = known_before(
        answers.mutate(event_at=answers.responded_at, known_at=known_at), instants, within_days=MENTION_DAYS
    )
    return ibis.union(
        _marked(touches, competitor=_tagged(touches, "competitor"), price=_tagged(touches, "price")),
        _marked(tickets, competitor=_tagged(tickets, "competitor"), price=_tagged(tickets, "price")),
        _marked(comments, competitor=_says(comments, COMPETITOR_WORDS), price=_says(comments, PRICE_WORDS)),
    )


def _marked(rows: ir.Table, *, competitor: ir.BooleanValue, price: ir.BooleanValue) -> ir.Table:
    found = rows.filter(competitor | price)
    return found.select("account_id", "as_of", "age_days", competitor=one(competitor), price=one(price))


def _tagged(rows: ir.Table, topic: str) -> ir.BooleanValue:
    return plain(rows.topic) == topic


def _says(answers: ir.Table, words: tuple[str, ...]) -> ir.BooleanValue:
    """Whether one of `words`, or its plural, stands in the comment as a whole word."""
    return plain(answers.comment).re_search(whole_words(words))


def _meaning(topic: str, words: tuple[str, ...]) -> str:
    return (
        f"Touches of the topic `{topic}`, tickets of that topic where tickets are connected, and survey answers, not "
        f"anonymous, whose comment says one of: {', '.join(words)}. 91 days; an answer counts from when it was given."
    )


MENTIONS = Family(
    name="mentions",
    source="touches",
    owner="customer success operations",
    rows=_mentions,
    features=(
        Feature(
            name="competitor_mentions_91d",
            formula=lambda said: said.competitor.sum(),
            label="mentions of a competitor in the last 91 days",
            meaning=_meaning("competitor", COMPETITOR_WORDS),
            unit="mentions", window=91, missing="Z", sign=1, group="commercial", actionable=True,
            needs=("touches.topic",),
            examples=(
                example(3, touches="event_at topic; -91 ~Competitor; -92 competitor; -9 price",
                        tickets="ticket_id opened_at topic; competitor -9 competitor",
                        surveys="kind score responded_at comment; nps 3 -9 We~look~at~Competitors."),
                example(0, "answered at the instant; another word", touches="event_at topic; -9 advice",
                        surveys="kind score responded_at comment; nps 3 0 rival; nps 3 -9 new~arrivals"),
            ),
        ),
        Feature(
            name="price_objections_91d",
            formula=lambda said: said.price.sum(),
            label="objections to the price in the last 91 days",
            meaning=_meaning("price", PRICE_WORDS),
            unit="mentions", window=91, missing="Z", sign=1, group="commercial", actionable=True,
            needs=("touches.topic",),
            examples=(
                example(2, touches="event_at topic; -1 price",
                        surveys="kind score responded_at comment; nps 3 -91 Too~EXPENSIVE; nps 9 -9 Fair~price"),
                example(0, "learned later, retagged, anonymous", touches="event_at topic known_at; -9 price 1",
                        tickets="ticket_id opened_at topic known_at; price -9 price -9; price -9 bug -8",
                        surveys="kind score responded_at comment is_anonymous; nps 3 -9 expensive yes"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (MENTIONS,)
