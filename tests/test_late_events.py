"""Rows may come in any order, twice or late: features are those of the rows, from when each was known."""

from __future__ import annotations

import random

import pytest

from features.catalogue import FEATURE_NAMES
from features.families import classes, peers
from tests.event_logs import AS_OF, BEFORE, DAY, FULL, INSTANT, Log, drawn, features_of, logs

LOGS = 1000 if FULL else 150
OF_OTHERS = {item.name for room in (peers, classes) for family in room.FAMILIES for item in family.all_features()}
"""Features that compare an account with the others: they may move with any of them."""


def own(row):
    """What the account's own rows tell."""
    return {name: value for name, value in row.items() if name not in OF_OTHERS}


@pytest.fixture(scope="module")
def histories():
    """Event logs, each an account of one company."""
    found = drawn(logs(), LOGS)
    return {f"a{number:04}": log for number, log in enumerate(found)}


@pytest.fixture(scope="module")
def found(histories, tmp_path_factory):
    return features_of(tmp_path_factory.mktemp("histories") / "in_order", histories)[0]


def test_rows_in_any_order_and_a_tenth_of_them_twice_give_the_same_features(histories, found, tmp_path):
    """Of tables whose rows have a key; the second of two equal rows is set aside and named."""
    draw = random.Random(11)
    twice = []

    def shuffled(name, rows):
        again = draw.sample(rows, len(rows) // 10) if name in ("tickets", "contracts") else []
        twice.extend(again)
        return draw.sample([*rows, *again], len(rows) + len(again))

    moved, quarantine = features_of(tmp_path, histories, order=shuffled, extra="[quarantine]\nlimit = 0.5")

    assert len(histories) >= 0.9 * LOGS
    assert moved == found
    assert {row["rule"] for row in quarantine.to_pylist()} == {"duplicate_key"}
    assert quarantine.num_rows == len(twice)


LATE_AT = AS_OF - 3 * DAY
LATE = {
    # what came late: the row, and what it must move
    # 26 days before the first instant is 57 before the second: outside its 28 days, inside its 91.
    "usage": ({"user_id": "late", "event_at": BEFORE - 26 * DAY, "quantity": 77}, {"usage_trend_28v91"}),
    "tickets": ({"ticket_id": "late", "opened_at": BEFORE - 5 * DAY}, {"open_tickets"}),
    "surveys": (
        {"kind": "csat", "score": 1, "scale_min": 1, "scale_max": 5, "sent_at": BEFORE - 9 * DAY,
         "responded_at": BEFORE - 5 * DAY},
        {"csat_low_count_91d"},
    ),
    "contracts": (
        {"contract_id": "late", "start_at": BEFORE - 5 * DAY, "mrr": 1000, "seats": 50}, {"arr"},
    ),
}  # fmt: skip


def test_a_late_row_changes_its_account_alone_and_from_when_it_was_known(histories, found, tmp_path):
    """Each row happened before both instants and was learned between them."""
    late = {}
    for place, account in enumerate(list(histories)[::10]):
        name = list(LATE)[place % len(LATE)]
        late[account] = (name, Log().add(name, **LATE[name][0], known_at=LATE_AT))
    longer = {a: log.with_rows(late[a][1]) if a in late else log for a, log in histories.items()}

    after = features_of(tmp_path, longer)[0]

    assert after.keys() >= found.keys()
    changed = {key for key, row in found.items() if own(after[key]) != own(row)}
    assert {instant for _, instant in changed} == {AS_OF}
    assert {account for account, _ in changed} <= late.keys()
    for account, (name, _) in late.items():
        before, now = found[account, AS_OF], after[account, AS_OF]
        moved = {feature for feature in FEATURE_NAMES if before[feature] != now[feature]}
        assert moved >= {feature for feature in LATE[name][1] if now[feature] is not None}, account


def test_a_row_learned_at_the_instant_counts_at_it_and_an_instant_later_does_not(histories, found, tmp_path):
    account, other = list(histories)[:2]
    use = {"user_id": "late", "event_at": AS_OF - DAY, "quantity": 5}
    longer = dict(histories)
    longer[account] = histories[account].with_rows(Log().add("usage", **use, known_at=AS_OF))
    longer[other] = histories[other].with_rows(Log().add("usage", **use, known_at=AS_OF + INSTANT))

    after = features_of(tmp_path, longer)[0]

    assert after[account, AS_OF]["active_users_7d"] == found[account, AS_OF]["active_users_7d"] + 1
    assert {key for key, row in found.items() if own(after[key]) != own(row)} == {(account, AS_OF)}
