"""Features agree with a plain reading of the point-in-time rule, row by row, on thousands of random histories."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from features.metrics import own_z, usage_trend
from tests.event_logs import AS_OF, DAY, DELAYS, FULL, INSTANT, INSTANTS, Log, drawn, features_of, logs

CASES = 2000 if FULL else 80


class Oracle:
    """What one account's log tells at an instant, in loops over rows."""

    def __init__(self, log, s):
        self.s = s
        self.use = self.seen(self.distinct(log.rows["usage"]), "event_at")
        self.tickets = self.newest(self.seen(log.rows["tickets"], "opened_at"), "ticket_id")
        self.contracts = self.newest(self.seen(log.rows["contracts"], "start_at"), "contract_id")
        invited = self.delivered_once(self.seen(log.rows["surveys"], "sent_at"))
        self.invited = [row for row in invited if self.within(row["sent_at"], 364)]
        answered = [row for row in log.rows["surveys"] if row["responded_at"] is not None]
        self.answers = self.delivered_once(self.seen(answered, "responded_at"))

    def seen(self, rows, event):
        return [row for row in rows if row[event] < self.s and row["known_at"] <= self.s]

    def distinct(self, rows):
        """An event that comes again, to the microsecond, is one event; of a bare day equal rows are several."""
        once = {}
        for number, row in enumerate(sorted(rows, key=lambda row: row["known_at"])):
            said = tuple(value for name, value in row.items() if name != "known_at")
            bare = row["event_at"].time() == row["event_at"].min.time()
            once.setdefault((number if bare else None, said), row)
        return list(once.values())

    def delivered_once(self, rows):
        """A survey of nobody in particular that says the same again, known later, is one; known together, several."""
        last = {}
        for row in rows:
            said = tuple(value for name, value in row.items() if name != "known_at")
            last[said] = max(last.get(said, row["known_at"]), row["known_at"])
        return [row for row in rows if row["known_at"] == last[tuple(v for k, v in row.items() if k != "known_at")]]

    def newest(self, rows, key):
        ids = {row[key] for row in rows}
        return [max((row for row in rows if row[key] == one), key=lambda row: row["known_at"]) for one in sorted(ids)]

    def within(self, at, days, until=0):
        return self.s - days * DAY <= at < self.s - until * DAY

    def age(self, at):
        return (self.s.date() - at.date()).days

    def happened(self, at):
        return at is not None and at < self.s

    def core(self, days, until=0):
        return sum(row["quantity"] for row in self.use if self.within(row["event_at"], days, until))

    def open_tickets(self):
        for row in self.tickets:
            done = row["closed_at"] if self.happened(row["closed_at"]) else row["resolved_at"]
            again = self.happened(row["reopened_at"]) and self.happened(done) and row["reopened_at"] > done
            if not self.happened(done) or again:
                yield row

    def newest_nps(self):
        rows = [row for row in self.answers if row["kind"] == "nps"]
        order = [(row["responded_at"], max(row["known_at"], row["responded_at"]), row["score"]) for row in rows]
        return max(order, default=None)

    def features(self):
        tenure = self.age(self.contracts[0]["start_at"])
        users = {row["user_id"] for row in self.use if self.within(row["event_at"], 28)}
        seats = self.contracts[0]["seats"]
        newest = self.newest_nps()
        csat = [
            (row["score"] - 1) / 4 for row in self.answers
            if row["kind"] == "csat" and self.within(row["responded_at"], 91)
        ]  # fmt: skip
        last_sent = max(((row["sent_at"], self.happened(row["responded_at"])) for row in self.invited), default=None)
        earlier = [self.core(28 * (n + 1), 28 * n) for n in range(1, 7) if tenure >= 28 * (n + 1)]
        return {
            "arr": 12 * self.contracts[0]["mrr"],
            "tenure_days": tenure,
            "active_days_28d": len({row["event_at"].date() for row in self.use if self.within(row["event_at"], 28)}),
            "active_users_7d": len({row["user_id"] for row in self.use if self.within(row["event_at"], 7)}),
            "active_users_28d": len(users),
            "seat_utilisation_28d": len(users) / seats if seats else None,
            "core_actions_per_user_28d": self.core(28) / len(users) if users else None,
            "days_since_last_login": min((self.age(row["event_at"]) for row in self.use), default=None),
            "usage_trend_28v91": usage_trend(self.core(28), self.core(91)) if tenure >= 91 else None,
            "usage_own_z_28d": own_z(self.core(28), earlier) if tenure >= 112 else None,
            "tickets_opened_28d": sum(self.within(row["opened_at"], 28) for row in self.tickets),
            "open_tickets": len(list(self.open_tickets())),
            "oldest_open_ticket_days": max((self.age(row["opened_at"]) for row in self.open_tickets()), default=0),
            "nps_last_score": newest[2] if newest else None,
            "nps_age_days": self.age(newest[0]) if newest else None,
            "csat_mean_91d": sum(csat) / len(csat) if csat else None,
            "csat_low_count_91d": sum(value <= 0.25 for value in csat),
            "survey_response_rate_364d": (
                sum(self.happened(row["responded_at"]) for row in self.invited) / len(self.invited)
                if self.invited else None
            ),
            "has_unanswered_survey": int(bool(last_sent) and not last_sent[1] and self.age(last_sent[0]) >= 14),
        }  # fmt: skip


@pytest.fixture(scope="module")
def histories():
    return {f"a{number:04}": log for number, log in enumerate(drawn(logs(), CASES))}


@pytest.fixture(scope="module")
def found(histories, tmp_path_factory):
    """Account and instant → features, of all histories in one build."""
    return features_of(tmp_path_factory.mktemp("histories") / "past", histories)[0]


def test_every_feature_is_what_a_plain_reading_of_the_rows_gives(histories, found):
    compared, wrong = 0, []
    for (account, instant), row in found.items():
        expected = Oracle(histories[account], instant).features()
        told = {name: row[name] for name in expected}
        wrong += [
            (account, instant, name, told[name], value)
            for name, value in expected.items()
            if told[name] != (value if value is None else pytest.approx(value, abs=1e-6))
        ]
        compared += 1

    assert wrong == []
    assert compared >= CASES


def test_who_is_scored_is_who_a_plain_reading_finds_a_customer(histories, found):
    expected = {
        (account, s) for account, log in histories.items() for s in INSTANTS
        if any(row["start_at"] < s and row["known_at"] <= s for row in log.rows["contracts"])
    }  # fmt: skip

    assert found.keys() == expected


def test_the_histories_reach_values_and_missing_values_of_every_feature_compared(histories, found):
    """A comparison of nothing but zeros would show nothing."""
    names = Oracle(next(iter(histories.values())), AS_OF).features().keys()
    for name in names:
        values = {row[name] for row in found.values()}
        assert len(values) >= 2, name


@st.composite
def futures(draw):
    """Rows that happen at the instant or later, or happened before and are learned after it."""
    log = Log()
    for number in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            at = AS_OF + draw(DELAYS)
            known_at = max(at - draw(DELAYS), AS_OF - 9 * DAY)
        else:
            at = AS_OF - draw(st.sampled_from([INSTANT, DAY, 20 * DAY, 90 * DAY]))
            known_at = AS_OF + INSTANT + draw(DELAYS)
        match draw(st.sampled_from(["usage", "tickets", "surveys", "contracts"])):
            case "usage":
                log.add("usage", user_id="new", event_at=at, quantity=1000, known_at=known_at)
            case "tickets":
                log.add("tickets", ticket_id=f"new{number}", opened_at=at, resolved_at=at, known_at=known_at)
            case "surveys":
                log.add("surveys", kind="nps", score=0, scale_min=0, scale_max=10, sent_at=at, responded_at=at,
                        known_at=known_at)  # fmt: skip
            case _:
                log.add("contracts", contract_id=f"new{number}", start_at=at, mrr=9999, seats=999, known_at=known_at)
    return log


def test_a_future_added_to_every_history_changes_nothing(histories, found, tmp_path):
    added = dict(zip(histories, drawn(futures(), len(histories)), strict=False))
    longer = {account: log.with_rows(added.get(account, Log())) for account, log in histories.items()}

    assert len(added) >= 0.8 * CASES
    assert features_of(tmp_path, longer)[0] == found
