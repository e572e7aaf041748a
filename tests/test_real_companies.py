"""The loop on third-party companies, from their raw files, by the mappings in tests/real/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from features.data_contract import USAGE
from features.draft import draft
from features.mapping import mapped_columns
from features.settings import Settings, read_settings
from features.sources import raw_name
from features.staging import staged_sql
from features.tables import Tables, open_tables

NOW = datetime(2026, 1, 1)
HERE = Path(__file__).parent
FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
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


@pytest.mark.long("minutes of training")
def test_novacrm_goes_through_the_whole_loop(company_folder):
    folder = company_folder("novacrm")

    checked = run(folder, "check")
    trained = run(folder, "train", "--draws", "50", "--folds", "2")
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


@pytest.mark.long("minutes of training")
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


@pytest.mark.long("minutes of training")
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


@pytest.mark.long("2.5 million rows of use")
def test_a_company_with_bill_periods_is_predicted_by_the_timing_of_its_contracts(company_folder):
    folder = company_folder("fightchurn_crm5")

    checked = run(folder, "check")
    trained = run(folder, "train", "--draws", "50", "--folds", "2")
    scored = run(folder, "score", "--as-of", "2024-01-01")
    listed = run(folder, "list", "--top", "20")

    assert {table["table"]: (table["rows"], table["kept"]) for table in checked["tables"]} == {
        "accounts": (2599, 2599), "contracts": (22829, 22829), "usage": (2477485, 2477485),
    }  # fmt: skip
    # Were the planned ends of bill periods taken for real ones, this would be near 1.
    assert 0.65 < trained["metrics"]["auc"]["value"] < 0.85
    assert scored["counts"]["accounts"] == 2599
    assert len(listed["rows"]) == 20
    assert all(row["reasons"] for row in listed["rows"])


@pytest.mark.parametrize(
    ("name", "least"), [("novacrm", 1.0), *([("ravenstack", 1.0), ("fightchurn_crm5", 0.5)] if FULL else [])]
)
def test_a_draft_finds_most_of_a_mapping_by_itself(tmp_path, monkeypatch, name, least):
    if not (SHARED / name).is_dir():
        pytest.skip(f"third-party data is not here: {SHARED / name}")
    (tmp_path / "draft").mkdir()
    for file in (SHARED / name).iterdir():
        (tmp_path / "draft" / file.name).symlink_to(file.resolve())
    draft(tmp_path / "draft", now=NOW)
    monkeypatch.setenv("TENURE_SHARED_DATA", str(SHARED.resolve()))
    monkeypatch.setenv("TENURE_STATE", str(tmp_path / "state"))

    by_hand, by_itself = (
        columns_of(HERE / "real" / name / "tenure.toml"),
        columns_of(tmp_path / "draft" / "tenure.toml"),
    )
    same = {column for column, value in by_hand.items() if by_itself.get(column) == value}
    assert len(same) >= least * len(by_hand), sorted(set(by_hand) - same)


def columns_of(config: Path) -> dict[str, tuple]:
    """Every mapped column of the tables that a config maps, and what identifies its values."""
    settings = read_settings(config)
    tables = open_tables(settings, now=NOW)
    found = {}
    for name, loaded in tables.loaded.items():
        rows = _staged_usage(tables, settings) if name == "usage" else f"clean.{name}"
        for column in sorted(loaded.columns - {"contract_id"}):
            query = f"select count({column}), bit_xor(hash(account_id, {column})) from {rows}"
            found[f"{name}.{column}"] = tables.backend.raw_sql(query).fetchall()[0]
    return found


def _staged_usage(tables: Tables, settings: Settings) -> str:
    """Usage is kept as roll-ups alone: its rows are staged again."""
    source = settings.tables["usage"]
    raw = raw_name("usage", source)
    present = mapped_columns(tables.backend, USAGE, source, raw)
    return f"({staged_sql(tables.backend, USAGE, source, present, raw)})"
