"""The command line as a user and a scheduler meet it: one sentence, one exit code, one JSON object."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import click
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import tenure
from features.settings import read_settings
from serving.publication import one_at_a_time
from serving.published import published, read_list

# ibis 12 still asks pandas 3 for an option that pandas 4 will not have.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

TODAY = "2025-05-01"
TABLES = {
    "accounts": "account_id,name,csm_id,started_at\n" + "\n".join(f"a{n},A{n},ana,2024-01-01" for n in range(40)),
    "contracts": "account_id,contract_id,start_at,mrr\n" + "\n".join(f"a{n},c{n},2024-01-01,100" for n in range(40)),
    "usage": "account_id,event_at,kind\n" + "\n".join(f"a{n},2025-04-{n % 28 + 1:02},login" for n in range(40)),
    "surveys": "account_id,kind,score,responded_at\n" + "\n".join(f"a{n},nps,9,2025-03-01" for n in range(40)),
}


def run(*arguments):
    return CliRunner().invoke(tenure.main, [str(argument) for argument in arguments])


@pytest.fixture
def config(make_company):
    """The tenure.toml of a small sound company."""
    return make_company(TABLES).settings().path


@pytest.fixture
def world(trained_world, tmp_path):
    """The tenure.toml of a copy of the trained company."""
    shutil.copytree(trained_world, tmp_path / "world")
    return tmp_path / "world" / "tenure.toml"


def add(config, table, *lines):
    with (config.parent / f"{table}.csv").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def is_refused(arguments, code, *words):
    """Whether the command fails with `code` and one sentence that holds `words`, the same in both forms."""
    plain, as_json = run(*arguments), run(*arguments, "--json")
    error = json.loads(as_json.stdout)["error"]
    assert (plain.exit_code, as_json.exit_code, error["code"]) == (code, code, code), plain.exception
    assert plain.stdout == ""
    assert plain.stderr.count("\n") == 1
    assert plain.stderr.strip().endswith(f"tenure: {error['message']}")
    assert [word for word in words if word not in error["message"]] == []
    return True


# Faults of the data


def test_a_missing_column_is_named_with_its_table(config):
    (config.parent / "contracts.csv").write_text("account,contract_id,start_at,mrr\na1,c1,2024-01-01,100\n")

    words = ("Table 'contracts' must have columns ['account_id']", "Did you mean 'account'", "[tables.contracts]")
    assert is_refused(["check", "--config", config], 65, *words)
    assert not (config.parent / ".tenure").exists()


def test_a_missing_file_is_named_with_its_table(config):
    (config.parent / "usage.csv").unlink()

    words = ("Table 'usage'", "'usage.csv'", "found nothing there", "Correct [tables.usage] path", "put the file back")
    assert is_refused(["score", "--config", config], 65, *words)
    assert not (config.parent / ".tenure").exists()


def test_empty_accounts_are_refused(config):
    (config.parent / "accounts.csv").write_text(TABLES["accounts"].splitlines()[0] + "\n")

    words = ("Table 'accounts' must have at least one row", "'account_id'", "found no rows", "Check the export")
    assert is_refused(["train", "--config", config], 65, *words)
    assert not (config.parent / ".tenure").exists()


def test_too_many_bad_rows_are_refused_with_their_rule(config):
    add(config, "surveys", *(f"a{n},nps,11,2025-03-02" for n in range(5)))

    words = ("Table 'surveys' may have at most 5% rows", "found 5 of 45", "'range'", "row 41", "Fix the source")
    assert is_refused(["features", "build", "--out", config.parent / "f.parquet", "--config", config], 65, *words)
    assert not (config.parent / ".tenure").exists()


def test_single_bad_rows_are_set_aside_with_rule_and_row(config):
    add(config, "accounts", "a3,Again,ana,2024-01-01")
    add(config, "contracts", "a1,c99,2024-13-45,100")
    add(config, "usage", "stranger,2025-04-02,login")
    add(config, "surveys", "a1,nps,11,2025-03-02")

    done = run("check", "--json", "--config", config)
    found = json.loads(done.stdout)
    aside = {table["table"]: table["set_aside"] for table in found["tables"] if table["set_aside"]}
    rows = pq.read_table(config.parent / ".tenure" / "quarantine.parquet").to_pylist()

    assert done.exit_code == 0
    assert "4 rows set aside" in done.stderr
    assert aside == {
        "accounts": {"duplicate_key": 1}, "contracts": {"type": 1}, "usage": {"unknown_account": 1},
        "surveys": {"range": 1},
    }  # fmt: skip
    assert {(row["table"], row["rule"], row["row_number"]) for row in rows} == {
        ("accounts", "duplicate_key", 41), ("contracts", "type", 41), ("usage", "unknown_account", 41),
        ("surveys", "range", 41),
    }  # fmt: skip
    assert found.keys() >= {"label", "problems", "tables"}


def test_stale_usage_is_refused(world):
    words = ("Usage must be at most 3 days older than --as-of 2025-05-09", "2025-04-30", "Load newer data")
    assert is_refused(["score", "--as-of", "2025-05-09", "--config", world], 65, *words)


def test_a_day_before_all_usage_is_refused(world):
    assert is_refused(["score", "--as-of", "2020-01-01", "--config", world], 65, "2020-01-01")


@pytest.fixture
def renamed(world):
    """The trained company as CSV, its first three ranked accounts called NA, 007 and None."""
    first = [row["account_id"] for row in read_list(published(read_settings(world)))["rows"][:3]]
    names = dict(zip(first, ("NA", "007", "None"), strict=True))
    for path in world.parent.glob("*.parquet"):
        table = pd.read_parquet(path)
        table["account_id"] = table.account_id.replace(names)
        table.to_csv(path.with_suffix(".csv"), index=False)
        path.unlink()
    world.write_text(world.read_text().replace(".parquet", ".csv"))
    return world, names


def test_an_account_called_na_goes_through_to_the_list_unchanged(renamed):
    config, names = renamed
    before = read_list(published(read_settings(config)))["rows"]

    done = run("score", "--as-of", TODAY, "--config", config)
    after = json.loads(run("list", "--top", "1000", "--json", "--config", config).stdout)["rows"]

    assert done.exit_code == 0, done.stderr
    assert [row["account_id"] for row in after] == [names.get(row["account_id"], row["account_id"]) for row in before]
    assert [row["probability"] for row in after] == [row["probability"] for row in before]
    assert "NA" in run("explain", "NA", "--config", config).stdout


# Misuse


def test_an_unknown_option_is_misuse():
    done = run("check", "--colour")

    assert done.exit_code == 2
    assert "No such option" in done.stderr


def test_a_day_to_come_is_misuse(world):
    done = run("score", "--as-of", "2999-01-01", "--config", world)

    assert done.exit_code == 2
    assert "must not be after" in done.stderr


def test_the_features_of_a_day_to_come_cannot_be_built(config):
    out = config.parent / "f.parquet"

    assert run("features", "build", "--as-of", "2999-01-01", "--out", out, "--config", config).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["world", "w", "--accounts=0"],
        ["world", "w", "--months=0"],
        ["world", "w", "--seed=-1"],
        ["token", "create", "--role=admin", "--days=0"],
        ["token", "create", "--role=admin", "--days=99999999"],
        ["token", "create", "--role=csm"],
        ["list", "--top=-1"],
    ],
    ids=" ".join,
)
def test_a_number_out_of_bounds_is_misuse(world, monkeypatch, arguments):
    monkeypatch.chdir(world.parent)

    assert run(*arguments).exit_code == 2


def test_without_settings_the_user_is_told_where_to_begin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert is_refused(["check"], 78, "A tenure.toml must stand in", "Run `tenure demo`", "--config FILE")


def commands(group, path=()):
    for name, item in group.commands.items():
        yield (*path, name)
        if isinstance(item, click.Group):
            yield from commands(item, (*path, name))


@pytest.mark.parametrize("path", [(), *commands(tenure.main)], ids=" ".join)
def test_every_command_explains_itself(path):
    done = run(*path, "--help")

    assert done.exit_code == 0
    assert done.stdout.startswith("Usage: ")


def test_help_answers_at_once():
    """No engine is imported to say what the commands are."""
    code = "import sys, tenure; print([name for name in ('ibis', 'pandas', 'mlflow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


# The list


def test_before_the_first_list_the_user_is_told_to_score(config):
    assert is_refused(["list", "--config", config], 65, "must have been published", "Run `tenure score` first")


def test_without_a_champion_the_user_is_told_to_train(trained_world, config):
    """Also in a process that has worked for another company before."""
    run("models", "--config", trained_world / "tenure.toml")

    words = ("must carry the alias 'champion'", "Run `tenure train`")
    done = run("monitor", "--config", config)  # MLflow says that it makes its tables.
    assert done.exit_code == 78
    assert all(word in done.stderr for word in words)


def test_an_unknown_account_is_named(world):
    words = ("Account 'nobody' must be in the list of 2025-05-01", "Ids are case-sensitive")
    assert is_refused(["explain", "nobody", "--config", world], 2, *words)


def test_every_account_of_the_list_is_explained(world):
    made = read_list(published(read_settings(world)))
    one = {part: made[part][0]["account_id"] for part in ("rows", "leaving", "excluded")}
    told = {part: run("explain", account, "--config", world) for part, account in one.items()}

    assert [done.exit_code for done in told.values()] == [0, 0, 0]
    assert f"Rank 1 of {len(made['rows'])} on {TODAY}" in told["rows"].stdout
    assert "it is leaving, not predicted" in told["leaving"].stdout
    assert made["excluded"][0]["reason"] in told["excluded"].stdout


def test_the_list_as_json_has_what_others_build_on(world):
    found = json.loads(run("list", "--json", "--config", world).stdout)

    assert (found["as_of"], found["model_version"]) == (TODAY, "1")
    assert len(found["rows"]) == found["counts"]["listed"]
    for row in found["rows"]:
        assert {"account_id", "rank", "probability", "band", "mrr", "csm_id", "reasons"} <= set(row)
    assert found == json.loads(run("list", "--format", "json", "--config", world).stdout)


def test_the_list_is_cut_by_owner_and_top(world):
    whole = json.loads(run("list", "--top", 1000, "--json", "--config", world).stdout)["rows"]
    owner = next(row["csm_id"] for row in whole if row["csm_id"])

    own = json.loads(run("list", "--csm", owner, "--top", 3, "--json", "--config", world).stdout)["rows"]

    assert own == [row for row in whole if row["csm_id"] == owner][:3]


def test_the_list_is_written_to_a_file(world, tmp_path):
    done = run("list", "--format", "csv", "--out", tmp_path / "list.csv", "--config", world)

    assert done.exit_code == 0
    assert (tmp_path / "list.csv").read_text().rstrip("\n") == (
        run("list", "--format", "csv", "--config", world).stdout.rstrip("\n")
    )


@pytest.mark.parametrize("arguments", [["list"], ["features", "build", "--as-of", TODAY]], ids=" ".join)
def test_an_out_that_cannot_be_written_is_told_in_a_sentence(world, tmp_path, arguments):
    assert run(*arguments, "--out", tmp_path / "none" / "out", "--config", world).exit_code == 73


# Runs


def test_a_second_run_is_told_to_come_back(world):
    with one_at_a_time(read_settings(world)):
        assert is_refused(["score", "--as-of", TODAY, "--config", world], 75, "Only one run", "Try again")


def test_a_state_that_cannot_be_written_is_told_in_a_sentence(config):
    (config.parent / ".tenure").write_text("")

    assert is_refused(["check", "--config", config], 73, "The state directory", "set [state] dir")


def is_locked(path):
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_two_runs_at_once_leave_one_whole_list(world):
    command = [Path(sys.executable).with_name("tenure"), "score", "--as-of", TODAY, "--config", world]
    other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while other.poll() is None and not is_locked(world.parent / ".tenure" / "lock"):
        time.sleep(0.01)
    ours, said = run("score", "--as-of", TODAY, "--config", world), other.communicate()[1]

    assert (other.returncode, ours.exit_code) in [(0, 0), (0, 75)], said + ours.stderr
    assert read_list(published(read_settings(world)))["as_of"] == TODAY


# What the other commands give


def test_training_gives_version_figures_and_baselines(trained_world):
    found = json.loads((trained_world / "train.json").read_text())
    names = ["auc", "auc_pr", "log_loss", "brier", "ece", "lift_10"]

    assert (found["version"], found["alias"]) == ("1", "champion")
    assert list(found["metrics"]) == names
    assert all(list(figures) == names for figures in found["baselines"].values())
    assert "prior" in found["baselines"]
    for figure in found["metrics"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    for figure in found["baselines"]["prior"].values():
        assert set(figure) in ({"value", "low", "high"}, {"value", "reason"})
    assert isinstance(found["warnings"], list)


def test_scoring_gives_its_counts(trained_world):
    found = json.loads((trained_world / "score.json").read_text())

    assert list(found) == ["as_of", "model_version", "heading", "counts"]
    assert found["counts"]["accounts"] == sum(found["counts"][part] for part in ("scored", "leaving", "excluded"))


def test_the_catalogue_is_listed():
    found = json.loads(run("features", "list", "--json").stdout)["features"]

    needed = {"name", "unit", "meaning", "window", "missing", "sign", "group", "actionable"}
    assert len(found) > 30
    assert all(needed <= set(item) for item in found)


def test_tokens_are_made_listed_and_revoked(config):
    made = json.loads(run("token", "create", "--role", "csm", "--csm", "ana", "--json", "--config", config).stdout)
    revoked = run("token", "revoke", made["id"], "--config", config)
    listed = run("token", "list", "--json", "--config", config).stdout

    assert revoked.exit_code == 0
    assert made["secret"] not in listed
    assert [(token["id"], token["csm_id"]) for token in json.loads(listed)["tokens"]] == [(made["id"], "ana")]
    assert json.loads(listed)["tokens"][0]["revoked_at"]
    assert is_refused(["token", "revoke", "none", "--config", config], 78, "found no id 'none'", "tenure token list")


def test_the_features_of_a_day_are_a_frame(config):
    found = tenure.open(config).features(datetime(2025, 4, 29))

    assert isinstance(found, pd.DataFrame)
    assert list(found.account_id) == sorted(f"a{n}" for n in range(40))
    assert "tenure_days" in found


def test_the_features_of_a_day_are_written(config):
    out = config.parent / "features.parquet"
    done = run("features", "build", "--as-of", "2025-04-29", "--out", out, "--json", "--config", config)

    assert json.loads(done.stdout) == {"rows": 40, "file": str(out)}
    pd.testing.assert_frame_equal(pd.read_parquet(out), tenure.open(config).features(datetime(2025, 4, 29)))
