"""The night's work: one list a night, a history that tells how each night ended, and lists that can be made again."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta

import pandas as pd
import pytest

from features.errors import DataError
from features.settings import read_settings
from serving.nightly import NotRun, history, require_recent, run_night
from serving.published import published, published_days
from tests.commands import run

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

AS_OF = datetime(2025, 4, 15)


@pytest.fixture(scope="module")
def company(trained_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nightly") / "world"
    shutil.copytree(trained_world, folder)
    return folder / "tenure.toml"


@pytest.fixture(scope="module")
def night(company):
    done = run(company, "run", "--as-of=2025-04-15", "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_a_night_publishes_and_says_so_in_its_history(company, night):
    rows = json.loads(run(company, "runs", "--json").stdout)["runs"]

    assert "2025-04-15" in published_days(read_settings(company))
    assert night["counts"]["scored"] > 100
    assert [step["step"] for step in night["steps"]] == ["read and check", "snapshot", "score and publish"]
    assert (rows[0]["run_id"], rows[0]["as_of"], rows[0]["exit_code"]) == (night["run_id"], "2025-04-15", 0)


def test_the_same_night_again_is_the_same_list(company, night):
    settings = read_settings(company)
    first = published(settings, "2025-04-15")
    again = run(company, "run", "--as-of=2025-04-15")

    assert again.exit_code == 0
    assert published(settings, "2025-04-15") == first
    assert "The list of 2025-04-15 is published" in again.stdout


def test_a_night_that_fails_is_in_the_history_with_its_code(company, night):
    settings = read_settings(company)
    clock = iter(datetime(2025, 4, 16, 4) + timedelta(minutes=number) for number in range(10)).__next__

    def broken():
        raise DataError("accounts must have account_id; found none.")

    with pytest.raises(DataError):
        run_night(broken, settings, as_of=AS_OF, clock=clock)
    last = history(settings, last=99)
    told = next(row for row in last if row["started_at"].startswith("2025-04-16"))

    assert (told["exit_code"], told["said"]) == (65, "accounts must have account_id; found none.")


def test_a_night_that_did_not_happen_is_noticed(company, night):
    rows = [{"exit_code": 0, "ended_at": "2025-04-15 04:10:00", "said": "published"}]
    failed = {"exit_code": 65, "ended_at": "2025-04-16 04:10:00", "said": "stale"}

    require_recent(rows, within=timedelta(hours=26), now=datetime(2025, 4, 16, 5))
    with pytest.raises(NotRun, match=r"last good one ended 2025-04-15 04:10:00.*newest said: stale"):
        require_recent([failed, *rows], within=timedelta(hours=26), now=datetime(2025, 4, 16, 7))
    with pytest.raises(NotRun, match="no run ever ended well"):
        require_recent([], within=timedelta(hours=26), now=datetime(2025, 4, 16, 7))
    assert run(company, "runs", "--within=0").exit_code == 69


@pytest.mark.long("four lists")
def test_a_past_list_is_made_again_to_the_last_byte(company, night):
    for day in ("2025-04-15", "2025-05-01"):
        done = run(company, "replay", f"--as-of={day}")
        assert done.exit_code == 0, done.stderr
    done = run(company, "replay", "--as-of=2025-04-15", "--model=1", "--json")
    assert json.loads(done.stdout)["list_id"] == published(read_settings(company), "2025-04-15").name


def test_a_list_made_by_another_version_is_not_replayed_as_if(company, night):
    done = run(company, "replay", "--as-of=2025-04-15", "--model=7")
    assert done.exit_code == 78
    assert "it was by 1" in done.stderr


def test_rows_that_were_changed_afterwards_are_noticed(company, night, tmp_path):
    shutil.copytree(company.parent, tmp_path / "copy")
    contracts = tmp_path / "copy" / "contracts.parquet"
    rows = pd.read_parquet(contracts)
    rows.assign(mrr=rows.mrr * 2).to_parquet(contracts)
    done = run(tmp_path / "copy" / "tenure.toml", "replay", "--as-of=2025-04-15")

    assert done.exit_code == 65
    assert "must come out as it was published; it differs in acc-" in done.stderr


def test_covers_backups_and_the_audit_from_the_command_line(company, tmp_path):
    done = [
        run(company, "cover", "Ana", "--by=Ben", "--from=2025-04-01", "--to=2025-04-09", "--who=root"),
        run(company, "ledger", "backup", str(tmp_path / "copy.db")),
        run(company, "ledger", "backup", str(tmp_path / "copy.db")),
        run(company, "ledger", "audit", "--json"),
    ]

    assert [each.exit_code for each in done] == [0, 0, 2, 0]
    assert "Ben sees the book of Ana from 2025-04-01 to 2025-04-09" in done[0].stdout
    assert json.loads(done[3].stdout)["audit"][0]["action"] == "cover"
