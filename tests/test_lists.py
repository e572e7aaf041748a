"""The published list: who stands on it in which order, why, what to do first, and that it survives any crash."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import true

import tenure
from features.catalogue import FEATURES, feature
from features.errors import AlreadyRunning, CannotWrite, ConfigurationError, DataError, StaleData, TenureError
from features.settings import PolicySettings, read_settings
from serving.champion import load_champion
from serving.ledger import open_ledger
from serving.ledger.lists import View, list_head, list_rows
from serving.list_parts import Made, Rules
from serving.publication import one_at_a_time, publish, read_features
from serving.published import published, read_list
from serving.reasons import MIN_SHARE, reasons, shown
from serving.retention.playbooks import Condition, Play, Step, read_playbooks, suggest
from serving.risklist import NO_SIGNAL_HEADING, risk_list
from serving.scoring import features_at, people_at, score

# ibis 12 still asks pandas 3 for an option that pandas 4 will not have.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

AS_OF = datetime(2025, 5, 1)
KILLS = 50 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 8
DAY = date(2025, 5, 1)
TODAY = "2025-05-01"


@pytest.fixture(scope="module")
def project(trained_world):
    return tenure.open(trained_world / "tenure.toml")


@pytest.fixture(scope="module")
def champion(project):
    """The champion, made to speak: what is tested here must not hang on what a small company teaches."""
    found = load_champion(project.settings)
    return replace(found, model=replace(found.model, no_signal=False))


@pytest.fixture(scope="module")
def mute(champion):
    return replace(champion, model=replace(champion.model, no_signal=True))


@pytest.fixture(scope="module")
def features(project):
    return features_at(project.tables, project.settings, AS_OF)


@pytest.fixture(scope="module")
def people(project):
    return people_at(project.tables, project.settings, AS_OF)


@pytest.fixture(scope="module")
def scored(champion, features):
    return score(champion.model, features)


@pytest.fixture(scope="module")
def made(champion, features, people):
    return listed(champion, features, people)


def listed(champion, features, people, capacity=0.1, **more):
    return whole(champion, features, people, capacity, **more).risk_list


def whole(champion, features, people, capacity=0.1, *, as_of=AS_OF, **more):
    rules = Rules(plays=read_playbooks(), policy=PolicySettings(capacity=capacity), lead_days=30)
    return risk_list(champion, features, people, rules, as_of=as_of, **more)


def alone(risk_list):
    """A list of which the next one needs nothing."""
    return Made(risk_list=risk_list, contributions=pd.DataFrame({"account_id": []}))


def put(risk_list, features, settings):
    return publish(alone(risk_list), features, settings)


@pytest.fixture
def state(trained_world, tmp_path):
    """Settings of a copy of the company, whose state a test may break."""
    shutil.copytree(trained_world, tmp_path / "copy")
    return read_settings(tmp_path / "copy" / "tenure.toml")


# Who is on it, in which order


def test_every_account_is_in_exactly_one_part(made, people):
    parts = [[row["account_id"] for row in made[part]] for part in ("rows", "leaving", "excluded")]
    counts = made["counts"]

    assert sorted(account for part in parts for account in part) == sorted(people.account_id)
    assert [counts["scored"], counts["leaving"], counts["excluded"]] == [len(part) for part in parts]
    assert counts["accounts"] == len(people)
    assert all(parts), "the company must have accounts in each part for this to say anything"


def test_a_list_that_would_lose_an_account_is_not_made(champion, features, people):
    strange = people.assign(phase=people.phase.replace("lost", "asleep"))

    with pytest.raises(TenureError, match=r"must account for all \d+ accounts; found \d+\. Nothing was published"):
        listed(champion, features, strange)


def test_rank_is_by_probability_times_value_then_raw_score_then_id(champion, features, people, scored):
    ids = list(features.account_id)
    values = dict(zip(people.account_id, people.mrr, strict=True))
    values |= dict.fromkeys(ids[:10], None) | dict.fromkeys(ids[10:20], 0.0)
    twins = features.assign(account_id=lambda rows: rows.account_id.replace(ids[21], "0-twin"))
    twins.loc[twins.account_id == "0-twin", twins.columns[2:]] = twins.loc[20, twins.columns[2:]].to_numpy()
    values |= {"0-twin": values[ids[20]]}
    everyone = people.assign(account_id=people.account_id.replace(ids[21], "0-twin"))
    everyone = everyone.assign(mrr=everyone.account_id.map(values))

    rows = listed(champion, twins, everyone)["rows"]
    raw = dict(zip(twins.account_id, champion.model.raw_scores(twins), strict=True))
    worth = {row["account_id"]: row["probability"] * (1 if row["mrr"] is None else row["mrr"]) for row in rows}
    found = [row["account_id"] for row in rows]

    assert found == sorted(found, key=lambda account: (-worth[account], -raw[account], account))
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert found.index(ids[20]) == found.index("0-twin") + 1, "the same in all: the id decides"


def test_without_signal_the_order_is_value_then_renewal(mute, features, people):
    ids = list(features.account_id)
    near = features.copy()
    near.loc[near.account_id.isin(ids[:6]), "days_to_renewal"] = [9.0, 3.0, np.nan, 3.0, 7.0, np.nan]
    same = people.assign(mrr=people.mrr.where(~people.account_id.isin(ids[:6]), 500_000.0))
    same = same.assign(mrr=same.mrr.where(same.account_id != ids[6], np.nan))

    made = listed(mute, near, same)
    found = [row["account_id"] for row in made["rows"]]
    values = [1 if row["mrr"] is None else row["mrr"] for row in made["rows"]]

    assert made["heading"] == NO_SIGNAL_HEADING == "No better than the prior"
    assert {row["probability"] for row in made["rows"]} == {mute.model.base_rate}
    assert not any(row["reasons"] for row in made["rows"])
    assert values == sorted(values, reverse=True)
    assert found[:6] == [ids[1], ids[3], ids[4], ids[0], ids[2], ids[5]], "nearest first, unknown last, then by id"


@pytest.mark.parametrize("capacity", [0.001, 0.1, 0.5, 1])
def test_the_capacity_marks_the_first_rows(champion, features, people, capacity):
    made = listed(champion, features, people, capacity)
    marks = [row["is_listed"] for row in made["rows"]]

    assert made["counts"]["listed"] == sum(marks) == math.ceil(capacity * len(marks))
    assert marks == sorted(marks, reverse=True)


def test_the_order_of_the_rows_given_is_irrelevant(champion, features, people, made):
    shuffled = listed(champion, features.sample(frac=1, random_state=1), people.sample(frac=1, random_state=2))

    assert shuffled["rows"] == made["rows"]


@pytest.mark.parametrize("speaks", [True, False])
def test_a_company_without_active_accounts_has_an_empty_list(champion, mute, features, people, speaks):
    gone = people.assign(phase="lost")

    made = listed(champion if speaks else mute, features.iloc[:0], gone)

    assert (made["rows"], made["counts"]["excluded"]) == ([], len(people))


def owner_of(company, *versions, as_of=AS_OF):
    """The owner at `as_of` of account `a`, whose versions are given as `csm_id,known_at`."""
    company.write("accounts", "\n".join(["account_id,csm_id,known_at", *(f"a,{version}" for version in versions)]))
    company.write("contracts", "account_id,contract_id,start_at,mrr\na,c1,2024-01-01,100")
    owner = people_at(company.open(), company.settings(), as_of).set_index("account_id").csm_id["a"]
    return None if pd.isna(owner) else owner


def test_the_owner_is_that_of_the_newest_version(company):
    assert owner_of(company, "ana,2024-01-01", "ben,2024-06-01") == "ben"


def test_a_list_of_the_past_names_the_owner_of_then(company):
    assert owner_of(company, "ana,2024-01-01", "ben,2025-05-20") == "ana"


def test_an_account_that_was_taken_from_its_owner_has_none(company):
    assert owner_of(company, "ana,2024-01-01", ",2024-06-01") is None


# Why


def test_contributions_and_base_add_up_to_the_raw_score(champion, features, scored):
    contributions, base = champion.model.contributions(features)
    groups = [feature(name).group for name in champion.model.features]
    by_group = pd.DataFrame(contributions.T).groupby(groups).sum()

    np.testing.assert_allclose(by_group.sum().to_numpy() + base, scored.raw_score.to_numpy(), rtol=0, atol=1e-9)


def test_a_reason_carries_the_sum_of_its_group(champion, features):
    contributions, _ = champion.model.contributions(features)
    groups = np.array([feature(name).group for name in champion.model.features])

    for why, row in zip(reasons(champion.model, features), contributions, strict=True):
        for reason in [*why.raises, *([why.eases] if why.eases else [])]:
            inside = groups == reason.group
            place = champion.model.features.index(reason.feature)
            assert reason.contribution == pytest.approx(row[inside].sum(), abs=1e-12)
            assert inside[place]
            assert (row[place] > 0) == (reason is not why.eases)
            assert shown(reason.value, feature(reason.feature).unit) != shown(
                reason.typical, feature(reason.feature).unit
            )


def test_there_are_at_most_three_reasons_each_worth_a_sentence(champion, features):
    whole = np.abs(champion.model.contributions(features)[0]).sum(axis=1)
    told = [why.raises for why in reasons(champion.model, features)]

    assert max(map(len, told)) == 3
    for row, total in zip(told, whole, strict=True):
        shares = [reason.contribution / total for reason in row]
        assert len(row) <= 3
        assert shares == sorted(shares, reverse=True)
        assert all(share > MIN_SHARE == 0.05 for share in shares)
        assert len({reason.group for reason in row}) == len(row)


def tells(text, value, unit):
    """Whether `text`, such as `−12 % (…)`, is `value` rounded to the digits that are shown."""
    if unit == "0/1" or value is None:
        return text == {None: "not known", 0: "no", 1: "yes"}[value]
    held = math.exp(value) - 1 if unit == "log ratio" else value
    sign, whole, _, decimals = re.match(r"([+−]?)([\d,]+)(\.(\d+))?", text).groups()
    told = float(f"{sign}{whole}.{decimals or 0}".replace("−", "-").replace(",", ""))
    digits = len(decimals or "")
    if text.endswith(" %"):
        told, digits = told / 100, digits + 2
    return abs(told - held) <= 0.5 * 10**-digits + 1e-9


def test_the_numbers_in_a_reason_are_those_of_the_feature_table(made, features):
    table = features.set_index("account_id")

    for row in made["rows"]:
        for reason in row["reasons"]:
            unit, held = feature(reason["feature"]).unit, table.loc[row["account_id"], reason["feature"]]
            value, _, typical = reason["text"].rsplit(": ", 1)[1].removesuffix(")").partition(" (typical ")
            assert reason["value"] == (None if pd.isna(held) else held)
            assert tells(value, reason["value"], unit), reason
            assert not typical or tells(typical, reason["typical"], unit), reason


@pytest.mark.parametrize("unit", sorted({item.unit for item in FEATURES} - {"0/1"}))
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0, -0.3, 7.6, -2.2])
def test_every_unit_tells_its_number(unit, value):
    assert tells(shown(value, unit), value, unit)


@pytest.mark.parametrize("unit", ["share", "points", "log ratio"])
def test_nothing_is_told_as_minus_zero(unit):
    assert not shown(-0.001, unit).startswith("−0")


# What to do


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


def test_no_step_is_due_before_the_list(made):
    plays = [row["play"] for row in made["rows"] if row["play"]]

    assert plays
    assert min(play["due_date"] for play in plays) >= TODAY


def test_a_play_with_an_unknown_deadline_is_due_at_once():
    steps = (Step(90, "Review"), Step(10, "Hurry"))
    play = Play(id="p", name="P", group="usage", owner="CSM", channel="call", cool_down_days=1, hours=1,
                when=((Condition("usage_own_z_28d"),),), steps=steps, deadline="days_to_renewal")  # fmt: skip

    assert suggest([play], {"usage_own_z_28d": -1, "days_to_renewal": math.nan}, [], DAY).due_date >= DAY


# How it is published


def test_the_same_inputs_give_the_same_bytes(project, trained_world):
    before = published(project.settings)
    contents = {path.name: path.read_bytes() for path in before.iterdir()}

    tenure.open(trained_world / "tenure.toml").score(AS_OF)
    after = published(project.settings)

    assert after == before, "a run is named by the hash of what it holds"
    assert {path.name: path.read_bytes() for path in after.iterdir()} == contents
    assert sorted(contents) == ["contributions.parquet", "features.parquet", "list.json", "manifest.json"]


def later(risk_list, number):
    return {**risk_list, "model_version": str(number)}


def version_in_force(settings):
    found = published(settings)
    assert len(read_features(found)) == len(read_list(found)["rows"])
    return read_list(found)["model_version"]


def version_in_ledger(settings):
    """Of the list in force, which is whole."""
    with open_ledger(settings).reading() as connection:
        head = list_head(connection)
        rows, total = list_rows(connection, head["as_of"], true(), View(limit=1000))
    assert len(rows) == total == head["counts"]["scored"]
    return head["model_version"]


def test_a_run_killed_at_any_moment_leaves_a_whole_list_and_the_next_one_completes(state, made, features):
    workers = multiprocessing.get_context("forkserver")
    workers.set_forkserver_preload(["serving.publication", "features.settings"])
    began = time.monotonic()
    put(later(made, 0), features, state)
    needed, lot = time.monotonic() - began, random.Random(5)
    in_force, codes = [], set()
    for number in range(1, KILLS + 1):
        run = workers.Process(target=publish, args=(alone(later(made, number)), features, state))
        run.start()
        time.sleep(lot.uniform(0, 2 * needed))
        run.kill()
        run.join()
        codes.add(run.exitcode)
        in_force.append((version_in_force(state), version_in_ledger(state)))
        put(later(made, number), features, state)
        assert version_in_force(state) == version_in_ledger(state) == str(number)

    assert codes <= {0, -signal.SIGKILL}, "it ended or was killed, and never failed"
    assert all(
        found in (str(number), str(number - 1)) for number, both in enumerate(in_force, start=1) for found in both
    )


@pytest.mark.parametrize("step", range(6))
def test_a_full_disk_at_any_step_leaves_a_whole_list(state, made, features, monkeypatch, step):
    put(later(made, 1), features, state)
    steps = iter(range(step + 1))

    def sync(_):
        if next(steps) == step:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(CannotWrite, match=r"must be writable; No space left on device\. The previous list stays"):
        put(later(made, 2), features, state)
    monkeypatch.undo()

    assert version_in_force(state) in ("1", "2" if step == 5 else "1")
    put(later(made, 2), features, state)
    assert version_in_force(state) == "2"


def is_locked(path):
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_killed_score_gives_its_lock_back(state, made):
    before = version_in_force(state)
    command = [Path(sys.executable).with_name("tenure"), "score", f"--as-of={TODAY}", f"--config={state.path}"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not is_locked(state.state_dir / "lock"):
        assert run.poll() is None, "it must still be at work"
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()

    assert version_in_force(state) == before
    with one_at_a_time(state):
        pass


def test_only_one_run_at_a_time(project, state):
    with one_at_a_time(state), pytest.raises(AlreadyRunning, match="Try again when it has ended") as refused:
        tenure.open(state.path).score(AS_OF)

    assert refused.value.exit_code == 75


def in_the_way(path):
    """Put a file where a folder should be, and a folder where a file should be."""
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()


@pytest.mark.parametrize(
    "name",
    [".", "lock", "lists", "models", "champion.json"],
)
def test_a_state_that_cannot_be_written_is_told_in_a_sentence(state, project, name):
    from serving.nightly import score_and_publish

    in_the_way(state.state_dir / name)
    # The signing key goes with the state; without it no champion would be read at all.
    with pytest.raises(CannotWrite, match="must be writable") as refused:
        score_and_publish(project.tables, state, as_of=AS_OF)

    assert refused.value.exit_code == 73


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_changed_list_is_refused(state):
    flip(published(state) / "list.json")

    with pytest.raises(ConfigurationError, match="must be as it was published; found it changed"):
        read_list(published(state))


def test_scoring_again_mends_a_changed_list(state, made, features):
    """The refusal says `Score again`: then that must help."""
    folder = put(made, features, state)
    flip(folder / "list.json")
    put(made, features, state)

    assert read_list(published(state))["rows"]


def test_changed_features_are_refused(state, features):
    other = features.assign(tenure_days=features.tenure_days + 1)
    other.to_parquet(published(state) / "features.parquet", index=False)

    with pytest.raises(ConfigurationError, match="must be as it was published"):
        read_features(published(state))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.json", b"{"),
        ("list.json", None),
        ("manifest.json", b"{"),
        ("manifest.json", None),
        ("../current", b""),
        ("../current", b"0123456789abcdef"),
    ],
)
def test_a_list_that_lacks_a_part_is_refused(state, name, content):
    path = published(state) / name
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(ConfigurationError, match="must be as it was published"):
        read_list(published(state))


def test_a_day_without_a_list_is_named(state):
    with pytest.raises(DataError, match=r"A list of 2024-01-01 must .*found .*2025-05-01.*--as-of 2024-01"):
        published(state, "2024-01-01")


def test_the_latest_list_is_that_of_the_latest_day(state, made, features):
    put({**made, "as_of": "2025-04-01"}, features, state)

    assert read_list(published(state))["as_of"] == TODAY
    assert read_list(published(state, "2025-04-01"))["as_of"] == "2025-04-01"


def test_stale_usage_is_refused(project):
    with pytest.raises(StaleData, match=r"at most 3 days older than --as-of 2025-05-04; the newest .* 2025-04-30"):
        project.score(datetime(2025, 5, 4))


def test_a_day_before_all_usage_is_refused(project):
    with pytest.raises(StaleData, match="2020-01-01"):
        project.score(datetime(2020, 1, 1))


# How it is read


def test_a_list_is_plain_json(made):
    assert json.loads(json.dumps(made, allow_nan=False)) == made
