"""What tickets, answers, calls and outages tell at an instant, at every edge of what was known then.

The edges are few, so that one company holds a customer for each of their combinations and is built once.
"""

from __future__ import annotations

import csv
import random
from datetime import datetime, timedelta
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.build import feature_table
from features.families import calls, effort, feedback, reliability, satisfaction, service, support
from features.settings import LabelSettings, read_settings
from features.tables import open_tables

AS_OF = datetime(2025, 3, 1)
DAY, INSTANT = timedelta(days=1), timedelta(microseconds=1)
INSTANTS = (AS_OF - 7 * DAY, AS_OF, AS_OF + 7 * DAY)
BEFORE = (AS_OF - 40 * DAY, AS_OF - DAY, AS_OF - INSTANT)
LATER = (AS_OF, AS_OF + INSTANT, AS_OF + 40 * DAY)
NEVER = ("",)

ROOMS = (support, service, effort, calls, reliability, feedback, satisfaction)
VOICE = tuple(item.name for room in ROOMS for family in room.FAMILIES for item in family.all_features())

COLUMNS = {
    "accounts": "account_id",
    "contracts": "account_id contract_id start_at mrr",
    "usage": "account_id event_at kind user_id is_core",
    "tickets": "account_id ticket_id opened_at first_response_at resolved_at closed_at reopened_at severity escalated "
    "is_complaint fulfilled sla_hours csat known_at",
    "surveys": "account_id kind contact_id score scale_min scale_max polarity trigger sent_at responded_at "
    "followed_up_at known_at",
    "touches": "account_id event_at contact_id direction channel ring_at answered_at replied_at known_at",
    "incidents": "account_id incident_id started_at cause known_at",
    "contacts": "account_id contact_id is_decision_maker event_at known_at",
}


def ticket(name, number, opened_at, **more):
    return "tickets", {"account_id": name, "ticket_id": f"{name}-{number}", "opened_at": opened_at, **more}


def nps(name, contact, sent_at, score, responded_at, **more):
    asked = {"account_id": name, "kind": "nps", "contact_id": contact, "sent_at": sent_at}
    return "surveys", {**asked, "score": score, "responded_at": responded_at, **more}


def call(name, at, **more):
    return "touches", {"account_id": name, "event_at": at, "direction": "in", "channel": "call", "ring_at": at, **more}


def outage(name, number, started_at, **more):
    return "incidents", {"account_id": name, "incident_id": number, "started_at": started_at, **more}


def contact(name, person, **more):
    return "contacts", {"account_id": name, "contact_id": person, "event_at": AS_OF - 90 * DAY, **more}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the rows, each with the name of its table, tell of a company: feature rows by account and instant."""

    def told(rows, *instants):
        folder = tmp_path_factory.mktemp("company")
        names = dict.fromkeys(row["account_id"] for _, row in rows)
        terms = [{"account_id": name, "contract_id": "c", "start_at": AS_OF - 500 * DAY, "mrr": 1} for name in names]
        all_rows = {"accounts": [{"account_id": name} for name in names], "contracts": terms}
        for table, columns in COLUMNS.items():
            with (folder / f"{table}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns.split(), restval="")
                writer.writeheader()
                writer.writerows(all_rows.get(table) or [row for named, row in rows if named == table])
        (folder / "tenure.toml").write_text("\n".join(f'[tables.{name}]\npath = "{name}.csv"' for name in COLUMNS))
        opened = open_tables(read_settings(folder / "tenure.toml"), now=AS_OF + 90 * DAY)
        assert opened.quarantine.to_pylist() == []
        found = feature_table(opened, instants, LabelSettings()).to_pylist()
        return {(row["account_id"], row["as_of"]): {name: row[name] for name in VOICE} for row in found}

    return told


OUTCOMES = list(product([*LATER, *NEVER], repeat=3))
REOPENED = [*LATER, *NEVER]


def asks(name, first_response_at, resolved_at, closed_at, reopened_at):
    """A complaint with the given outcomes, and an older ticket that was closed and may be opened again."""
    outcomes = {"first_response_at": first_response_at, "resolved_at": resolved_at, "closed_at": closed_at}
    opened_at = AS_OF - 9 * DAY
    complaint = {"severity": 1, "is_complaint": "yes", "fulfilled": "no", "sla_hours": 24, "csat": 1}
    return [
        ticket(name, 1, opened_at, **outcomes, **complaint),
        ticket(name, 2, opened_at - DAY, closed_at=opened_at, reopened_at=reopened_at),
    ]


ANSWERED = list(product([*BEFORE, *LATER, *NEVER], repeat=2))


def answers_twice(name, first, second):
    """Two people are asked on two days; each answers at the given time, if at all."""
    said = [("k", 3, first, AS_OF - 60 * DAY), ("m", 9, second, AS_OF - 59 * DAY)]
    return [nps(name, person, sent, score if at else "", at) for person, score, at, sent in said]


FOLLOWED = list(product(["nps", "csat", "ces"], [*BEFORE[1:], *LATER, *NEVER]))


def complains(name, kind, followed_up_at):
    """A low answer of the kind, five days old."""
    at = AS_OF - 5 * DAY
    scale = {} if kind == "nps" else {"scale_min": 1, "scale_max": 7, "polarity": "ease"}
    return [nps(name, "k", at, 2, at, followed_up_at=followed_up_at, **{**scale, "kind": kind})]


LEARNED = [instant + step for instant in INSTANTS for step in (-INSTANT, timedelta(0), INSTANT)]


def first_version(name):
    """One row of each table, known when it happened."""
    at = AS_OF - 20 * DAY
    return [
        ticket(name, 1, at, severity=1, sla_hours=4, known_at=at),
        nps(name, "k", at, 2, at, known_at=at),
        call(name, at, known_at=at),
        outage(name, 1, at, cause="disk", known_at=at),
        outage(name, 2, at + DAY, cause="disk", known_at=at + DAY),
        contact(name, "k", is_decision_maker="no"),
    ]


def second_version(name, known_at=None):
    """What was learned of the same rows later; all of it had happened before the first of the instants."""
    at, done = AS_OF - 20 * DAY, AS_OF - 12 * DAY
    versions = [
        ticket(name, 1, at, severity=4, sla_hours=4, first_response_at=at, resolved_at=done, escalated="yes"),
        nps(name, "k", at, 4, at, followed_up_at=done),
        call(name, at, answered_at=at + timedelta(seconds=9)),
        outage(name, 2, at + DAY, cause="network"),
        contact(name, "k", is_decision_maker="yes"),
    ]
    return [(table, {**row, "known_at": known_at or row.get("known_at") or at + DAY}) for table, row in versions]


def versions():
    """Who knows the first version only, who the second all along, and who learns it at each of the moments."""
    unchanged = first_version("new")[3]
    rows = [*first_version("old"), *second_version("new"), unchanged]
    for number, known_at in enumerate(LEARNED):
        rows += [*first_version(f"learns{number}"), *second_version(f"learns{number}", known_at)]
    return rows


def numbered(kind, write, choices):
    return [row for number, choice in enumerate(choices) for row in write(f"{kind}{number}", *choice)]


COMPANY = [
    *numbered("asks", asks, [(*outcomes, reopened) for outcomes in OUTCOMES for reopened in REOPENED]),
    *numbered("answers", answers_twice, ANSWERED),
    *numbered("complains", complains, FOLLOWED),
    *asks("closed", BEFORE[2], BEFORE[2], "", ""),
    *asks("reopened", "", "", "", BEFORE[2]),
    *versions(),
    *(nps("alike", "", AS_OF - 9 * DAY, score, AS_OF - 9 * DAY) for score in (9, 9, 9, 6)),
]


@pytest.fixture(scope="module")
def rows(told):
    """All of the customers above at the three instants."""
    return told(COMPANY, *INSTANTS)


def test_a_ticket_answered_closed_or_reopened_at_the_instant_or_later_is_as_it_was(rows):
    customers = [f"asks{number}" for number in range(len(OUTCOMES) * len(REOPENED))]
    expected = rows[customers[-1], AS_OF]

    assert expected["open_tickets"] == 1
    assert expected["first_response_median_h_91d"] is None
    assert (expected["sla_met_share_91d"], expected["reopen_rate_91d"], expected["csat_low_count_91d"]) == (0, 0, 0)
    assert [name for name in customers if rows[name, AS_OF] != expected] == []


def test_what_came_of_a_ticket_in_the_last_moment_before_the_instant_counts(rows):
    closed, reopened = rows["closed", AS_OF], rows["reopened", AS_OF]

    assert (closed["open_tickets"], closed["unfulfilled_requests_182d"], closed["csat_post_ticket_last"]) == (0, 1, 0)
    # Whole seconds: 9 days less one, and the day of the older ticket.
    assert closed["first_response_median_h_91d"] == pytest.approx(9 * 24 - 1 / 3600)
    assert (reopened["open_tickets"], reopened["reopen_rate_91d"]) == (2, 1)


def test_an_answer_counts_by_when_it_was_given(rows):
    for number, times in enumerate(ANSWERED):
        found = rows[f"answers{number}", AS_OF]
        given = sorted((at, score) for at, score in zip(times, (3, 9), strict=True) if at and at < AS_OF)

        assert found["survey_response_rate_364d"] == len(given) / 2
        assert found["has_unanswered_survey"] == (times[1] not in BEFORE)
        assert found["nps_last_score"] == (given[-1][1] if given else None)
        assert found["nps_age_days"] == ((AS_OF.date() - given[-1][0].date()).days if given else None)
        assert found["is_nps_promoter"] == (given[-1][1] == 9 if given else None)


def test_an_answer_followed_up_at_the_instant_or_later_still_waits(rows):
    for number, (_, followed_up_at) in enumerate(FOLLOWED):
        found = rows[f"complains{number}", AS_OF]
        waits = not followed_up_at or followed_up_at >= AS_OF

        assert (found["open_negative_feedback"], found["negative_feedback_wait_h"]) == ((1, 120) if waits else (0, 0))


def test_a_later_version_changes_the_instants_that_knew_it_and_no_other(rows):
    for number, known_at in enumerate(LEARNED):
        for instant in INSTANTS:
            known = "new" if known_at <= instant else "old"
            assert rows[f"learns{number}", instant] == rows[known, instant]


def test_the_two_versions_differ_in_what_they_say_of_each_table(rows):
    old, new = rows["old", AS_OF], rows["new", AS_OF]

    changed = {name for name in VOICE if old[name] != new[name]}

    assert {
        "open_tickets", "escalations_91d", "sla_met_share_91d", "resolution_median_h_91d", "nps_last_score",
        "open_negative_feedback", "nps_decision_maker_last", "missed_calls_unreturned_28d", "repeat_incident_182d",
    } <= changed  # fmt: skip


def voices(name, shift):
    """Rows of every table, some of them at one moment, all known when they happened."""
    days = [AS_OF - age * DAY for age in (2 + shift, 2 + shift, 20, 50, 120)]
    rows = [contact(name, "k", is_decision_maker="yes"), contact(name, "m", is_decision_maker="no")]
    for number, at in enumerate(days):
        done = at + DAY * number / 3
        rows += [
            ticket(name, number, at, resolved_at=done, first_response_at=done, sla_hours=24, csat=1 + number % 5),
            nps(name, "km"[number % 2], at, 3 * number % 11, at),
            nps(name, "", "", 2 + number, at, trigger="call"),
            nps(name, "k", at, 1 + number, at + DAY, kind="csat", scale_min=1, scale_max=5),
            nps(name, "m", at, 1 + number, at + DAY, kind="ces", scale_min=1, scale_max=7, polarity="effort"),
            nps(name, f"p{number}", at, "", ""),
            call(name, at, contact_id="k", answered_at=at + timedelta(seconds=15 + 3 * number)),
            call(name, at + 2 * timedelta(hours=1)),
            outage(name, "" if number % 2 else number, at, cause="disk"),
        ]
    return [(table, row if "known_at" in row else {**row, "known_at": happened(row)}) for table, row in rows]


def happened(row):
    return next(
        row[name] for name in ("opened_at", "responded_at", "sent_at", "event_at", "started_at") if row.get(name)
    )


VOICES = [row for shift, name in enumerate("abc") for row in voices(name, shift)]


@pytest.fixture(scope="module")
def heard_once(told):
    return told(VOICES, *INSTANTS)


@settings(deadline=None, derandomize=True, max_examples=3, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), delays=st.lists(st.sampled_from([INSTANT, DAY, 40 * DAY]), min_size=1, max_size=2))
def test_neither_the_order_of_rows_nor_their_second_delivery_matters(told, heard_once, seed, delays):
    """What arrived of a customer at one moment arrives again later."""
    draw = random.Random(seed)
    batches = sorted({(table, row["account_id"], row["known_at"]) for table, row in VOICES})
    repeated = set(draw.sample(batches, len(batches) // 2))
    again = [
        (table, {**row, "known_at": row["known_at"] + delay})
        for delay in dict.fromkeys(delays)
        for table, row in VOICES
        if (table, row["account_id"], row["known_at"]) in repeated
    ]
    rows = [*VOICES, *again]

    found = told(draw.sample(rows, len(rows)), *INSTANTS)

    assert [(key, name) for key, row in heard_once.items() for name in VOICE if found[key][name] != row[name]] == []


def test_people_who_answer_alike_on_one_day_are_several(rows):
    assert rows["alike", AS_OF]["nps_detractor_share_182d"] == 1 / 4
