"""What to do first: plays are read, begin at their limits, answer the strongest reason, and say when a step is due."""

from __future__ import annotations

import math
from datetime import date, timedelta

import pytest

from features.catalogue import FEATURES
from features.errors import ConfigurationError
from serving.retention.playbooks import Condition, Play, Step, read_playbooks, suggest

DAY = date(2025, 5, 1)


def test_all_plays_are_valid_and_every_reason_to_act_has_a_name():
    plays = read_playbooks()

    assert len(plays) >= 5
    assert all(play.steps and play.when and play.hours > 0 and play.cool_down_days > 0 for play in plays)
    assert {play.group for play in plays} <= {item.group for item in FEATURES}


PLAY = """
[[play]]
id = "pb_a"
name = "A"
group = "usage"
owner = "CSM"
channel = "call"
cool_down_days = 1
hours = 1
when = [{ mrr_delta_91d = { at_most = 0 } }]
steps = [{ day = 0, do = "Call" }]
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (PLAY.replace("mrr_delta_91d", "mood"), r"'pb_a' in plays.toml must ask for features.*found \['mood'\]"),
        (PLAY + 'deadline = "payday"', r"must ask for features of the catalogue; found \['payday'\]"),
        (PLAY.replace("at_most", "below"), r"'pb_a' in plays.toml must have .*found a fault at .*'below'"),
        (PLAY + PLAY, r"plays.toml must name each play once; found \['pb_a', 'pb_a'\]"),
        (PLAY.replace('owner = "CSM"', ""), r"must have id, name, group, owner.*'owner'"),
        (PLAY + "colour = 1", r"found a fault at .*'colour'"),
        (PLAY.replace('[{ day = 0, do = "Call" }]', "[]"), "must have a condition and a step; found none"),
        (PLAY.replace("[{ mrr_delta_91d = { at_most = 0 } }]", "[]"), "must have a condition and a step; found none"),
        (PLAY.replace("[{ mrr_delta_91d = { at_most = 0 } }]", "[{}]"), "must have a condition and a step"),
    ],
)
def test_a_faulty_play_is_refused_with_a_sentence(tmp_path, text, sentence):
    (tmp_path / "plays.toml").write_text(text)

    with pytest.raises(ConfigurationError, match=sentence):
        read_playbooks(tmp_path / "plays.toml")


@pytest.mark.parametrize("text", ["", "[[play]", PLAY.replace("[{ mrr_delta_91d = { at_most = 0 } }]", "{ a = 1 }")])
def test_a_file_without_plays_is_refused_with_a_sentence(tmp_path, text):
    (tmp_path / "plays.toml").write_text(text)

    with pytest.raises(ConfigurationError, match=r"plays\.toml"):
        read_playbooks(tmp_path / "plays.toml")


def test_a_play_of_ones_own_is_read(tmp_path):
    (tmp_path / "plays.toml").write_text(PLAY)

    assert [play.id for play in read_playbooks(tmp_path / "plays.toml")] == ["pb_a"]


LIMITS = [
    ("pb_sla_breach", {"sla_breaches_28d": 1}, {"sla_breaches_28d": 0}),
    ("pb_sla_breach", {"oldest_open_ticket_days": 15}, {"oldest_open_ticket_days": 14}),
    ("pb_detractor", {"is_nps_detractor": 1, "nps_age_days": 28}, {"is_nps_detractor": 1, "nps_age_days": 29}),
    ("pb_detractor", {"is_nps_detractor": 1, "nps_age_days": 1}, {"is_nps_detractor": 0, "nps_age_days": 1}),
    ("pb_detractor", {"is_nps_detractor": 1, "nps_age_days": 1}, {"is_nps_detractor": 1}),
    ("pb_low_csat", {"csat_low_count_91d": 1}, {"csat_low_count_91d": 0}),
    ("pb_usage_drop", {"usage_trend_28v91": -0.35}, {"usage_trend_28v91": -0.349}),
    ("pb_usage_drop", {"usage_own_z_28d": -2}, {"usage_own_z_28d": -1.999}),
    ("pb_renewal", {"days_to_notice_deadline": 180}, {"days_to_notice_deadline": 181}),
    ("pb_renewal", {"days_to_notice_deadline": 0}, {"days_to_notice_deadline": -1}),
]


@pytest.mark.parametrize(("play", "just", "not_quite"), LIMITS)
def test_a_play_begins_exactly_at_its_limit(play, just, not_quite):
    found = [suggest(read_playbooks(), values, [], DAY) for values in (just, not_quite)]

    assert found[0] is not None
    assert (found[0].play, found[1]) == (play, None)


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_missing_value_calls_for_nothing(value):
    assert not Condition("usage_own_z_28d", at_most=-2).holds({"usage_own_z_28d": value})
    assert not Condition("usage_own_z_28d").holds({})


def test_the_play_answers_the_strongest_reason_that_has_one():
    values = {"sla_breaches_28d": 1, "usage_own_z_28d": -3, "days_to_notice_deadline": 30}
    plays = read_playbooks()

    assert suggest(plays, values, ["usage", "support"], DAY).play == "pb_usage_drop"
    assert suggest(plays, values, ["context", "commercial", "support"], DAY).play == "pb_renewal"
    assert suggest(plays, values, [], DAY).play == "pb_sla_breach", "no reasons: the first that applies"
    assert suggest(plays, {}, ["usage"], DAY) is None


@pytest.mark.parametrize(
    ("left", "step", "due_in"),
    [(180, 180, 0), (179, 90, 89), (91, 90, 1), (90, 90, 0), (89, 45, 44), (45, 45, 0), (20, 20, 0), (19, 10, 9),
     (10, 10, 0), (9, 10, 0), (0, 10, 0)],
)  # fmt: skip
def test_renewal_steps_count_back_from_the_deadline(left, step, due_in):
    renewal = next(play for play in read_playbooks() if play.id == "pb_renewal")

    found, due = renewal.next_step({"days_to_notice_deadline": float(left)}, DAY)

    assert (found.day, due) == (step, DAY + timedelta(days=due_in))


def test_a_play_with_an_unknown_deadline_is_due_at_once():
    steps = (Step(90, "Review"), Step(10, "Hurry"))
    play = Play(id="p", name="P", group="usage", owner="CSM", channel="call", cool_down_days=1, hours=1,
                when=((Condition("usage_own_z_28d"),),), steps=steps, deadline="days_to_renewal")  # fmt: skip

    assert suggest([play], {"usage_own_z_28d": -1, "days_to_renewal": math.nan}, [], DAY).due_date >= DAY
