"""A table that is overwritten keeps its past: by its own times, by dbt's versions, or by nightly copies."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.build import feature_table
from features.catalogue import feature, grade
from features.errors import AlreadyRunning, ConfigurationError, DataError, SchemaDrift
from features.history import snapshot
from features.settings import LabelSettings
from features.tables import open_tables

FIRST = datetime(2025, 6, 1)
SECOND = FIRST + timedelta(days=1)
THIRD = FIRST + timedelta(days=2)
LONG_BEFORE = datetime(2025, 3, 1)

ACCOUNTS = "account_id,started_at,segment,plan\na,2024-01-01,small,basic\nb,2024-01-01,large,pro"
CONTRACTS = "account_id,contract_id,start_at,mrr,seats\na,c,2024-01-01,100,10\nb,d,2024-01-01,200,20"


@pytest.fixture
def copied(company):
    """A company whose contracts and accounts are read from copies."""
    company.write("accounts", ACCOUNTS).write("contracts", CONTRACTS)
    company.map("accounts", 'path = "accounts.csv"\nhistory = "snapshot"')
    return company.map("contracts", 'path = "contracts.csv"\nhistory = "snapshot"')


def night(company, now):
    """What `tenure snapshot` says at `now`, by table."""
    settings = company.settings()
    tables = open_tables(settings, now=now)
    grades = {name: loaded.grade for name, loaded in tables.loaded.items()}
    return {item["table"]: item for item in snapshot(tables.backend, settings, grades, now=now)}


def counts(item):
    return item["new"], item["changed"], item["vanished"]


def arr(company, instants, now=THIRD):
    """The yearly value of account a, as the feature table has them at each instant."""
    tables = open_tables(company.settings(), now=now)
    rows = feature_table(tables, instants, LabelSettings()).to_pylist()
    return {row["as_of"]: row["arr"] for row in rows if row["account_id"] == "a"}


def history_files(company):
    folder = company.folder / ".tenure" / "history"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".parquet", ".json"))


def test_only_new_changed_and_vanished_rows_are_written(copied):
    copied.write("contracts", CONTRACTS + "\na,e,2024-02-01,1,1\na,f,2024-02-01,1,1")
    first = night(copied, FIRST)
    copied.write("contracts", CONTRACTS.replace("100,10", "100,12") + "\na,e,2024-02-01,1,1\nb,g,2025-06-01,5,5")
    second = night(copied, SECOND)
    third = night(copied, THIRD)

    assert counts(first["contracts"]) == (4, 0, 0)
    assert counts(second["contracts"]) == (1, 1, 1)
    assert counts(third["contracts"]) == counts(second["accounts"]) == (0, 0, 0)
    written = pq.read_table(copied.folder / ".tenure" / "history" / "contracts" / "2025-06-02.parquet").to_pylist()
    assert {(row["contract_id"], row["tenure_valid_to"] is not None) for row in written} == {
        ("c", False), ("g", False), ("f", True),
    }  # fmt: skip
    assert history_files(copied) == [
        "accounts/2025-06-01.parquet", "contracts/2025-06-01.parquet", "contracts/2025-06-02.parquet", "manifest.json",
    ]  # fmt: skip


def test_a_change_is_known_from_the_night_that_saw_it(copied):
    night(copied, FIRST)
    copied.write("contracts", CONTRACTS.replace("100,10", "120,10"))
    night(copied, SECOND)

    assert arr(copied, [LONG_BEFORE, FIRST, SECOND, THIRD]) == {LONG_BEFORE: None, FIRST: 1200, SECOND: 1440, THIRD: 1440}
