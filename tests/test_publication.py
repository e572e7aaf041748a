"""A published list is whole: after every crash and full disk, with one run at a time, and read only as it was made."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import true

import tenure
from features.errors import AlreadyRunning, CannotWrite, ConfigurationError, DataError
from features.settings import read_settings
from serving.ledger import open_ledger
from serving.ledger.lists import View, list_head, list_rows
from serving.list_parts import Made
from serving.nightly import score_and_publish
from serving.publication import one_at_a_time, publish, read_features
from serving.published import published, read_list
from serving.scoring import features_at, people_at
from tests.made_lists import AS_OF, TODAY, listed, speaking_champion

# ibis 12 still asks pandas 3 for an option that pandas 4 will not have.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

KILLS = 50 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 8


@pytest.fixture(scope="module")
def features(project):
    return features_at(project.tables, project.settings, AS_OF)


@pytest.fixture(scope="module")
def made(project, features):
    people = people_at(project.tables, project.settings, AS_OF)
    return listed(speaking_champion(project.settings), features, people)


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


def test_the_same_inputs_give_the_same_bytes(project, trained_world):
    before = published(project.settings)
    contents = {path.name: path.read_bytes() for path in before.iterdir()}

    tenure.open(trained_world / "tenure.toml").score(AS_OF)
    after = published(project.settings)

    assert after == before, "a run is named by the hash of what it holds"
    assert {path.name: path.read_bytes() for path in after.iterdir()} == contents
    assert sorted(contents) == [
        "contributions.parquet", "features.parquet", "list.json", "manifest.json", "timeline.parquet",
    ]  # fmt: skip


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
