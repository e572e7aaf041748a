"""The loop on third-party companies, from their raw files, by the mappings in tests/real/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("TENURE_SHARED_DATA", HERE.parent.parent / "shared" / "data"))
TENURE = Path(sys.executable).with_name("tenure")


@pytest.fixture(scope="module")
def company_folder(tmp_path_factory):
    """A copy of a mapping in a folder of its own, so that its state stays out of the repository."""

    def folder(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"third-party data is not here: {SHARED / name}")
        made = tmp_path_factory.mktemp(name)
        shutil.copy(HERE / "real" / name / "tenure.toml", made)
        return made

    return folder


def run(folder: Path, *command: str) -> dict:
    """What a command prints with --json."""
    environ = {**os.environ, "TENURE_SHARED_DATA": str(SHARED.resolve()), "TENURE_STATE": ".tenure"}
    done = subprocess.run(
        [TENURE, *command, "--json"], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_novacrm_goes_through_the_whole_loop(company_folder):
    folder = company_folder("novacrm")

    checked = run(folder, "check")
    trained = run(folder, "train", "--draws", "200")
    scored = run(folder, "score", "--as-of", "2025-04-01")
    listed = run(folder, "list", "--top", "20")
    past = run(folder, "backtest")

    assert {table["table"]: table["rows"] - table["kept"] for table in checked["tables"]} == {
        "accounts": 0, "contracts": 0, "usage": 0, "tickets": 0, "surveys": 0,
    }  # fmt: skip
    assert len(checked["label"]["folds"]) >= 3
    auc = trained["metrics"]["auc"]
    assert auc["low"] < auc["value"] < auc["high"]
    assert auc["low"] > trained["baselines"]["tenure"]["auc"]["value"]
    assert trained["warnings"] == []
    # Were planned and real ends coalesced, days to renewal alone would reach 0.95.
    assert 0.4 < trained["baselines"]["days_to_renewal"]["auc"]["value"] < 0.6
    assert scored["counts"]["accounts"] == 2000
    assert [row["rank"] for row in listed["rows"]] == list(range(1, 21))
    assert all(row["reasons"] for row in listed["rows"])
    assert any(loss["days_before"] for loss in past["losses"])


def test_random_ravenstack_comes_out_as_no_better_than_the_prior(company_folder):
    folder = company_folder("ravenstack")

    checked = run(folder, "check")
    trained = run(folder, "train", "--draws", "200")
    run(folder, "score", "--as-of", "2025-01-01")
    listed = run(folder, "list", "--top", "50")

    assert any(table["before_start"] > 0 for table in checked["tables"])
    assert trained["warnings"][0].startswith("no_signal: no better than the prior")
    assert listed["heading"] == "No better than the prior"
    assert len({row["probability"] for row in listed["rows"]}) == 1
    assert [row["mrr"] for row in listed["rows"]] == sorted((row["mrr"] for row in listed["rows"]), reverse=True)


def test_a_web_shop_without_contracts_goes_through_the_loop_by_its_silences(company_folder):
    folder = company_folder("online_retail")

    checked = run(folder, "check")
    trained = run(folder, "train", "--draws", "200")
    scored = run(folder, "score", "--as-of", "2011-12-01")
    listed = run(folder, "list", "--top", "50")

    assert checked["label"]["kind"] == "silence"
    assert len(checked["label"]["folds"]) == 3
    auc = trained["metrics"]["auc"]
    # The time since the last purchase alone reaches 0.61, and is barred.
    assert auc["low"] > 0.62
    assert trained["warnings"] == []
    assert scored["counts"]["leaving"] == 0
    assert scored["counts"]["scored"] + scored["counts"]["excluded"] == scored["counts"]["accounts"] == 4372
    shown = [row["probability"] for row in listed["rows"]]
    assert shown == sorted(shown, reverse=True)
    assert all(row["mrr"] is None for row in listed["rows"])
