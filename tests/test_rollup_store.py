"""Usage is rolled up once: what changed is read again, nothing else is, and a crash leaves a whole state."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta

import duckdb
import pytest

from features import usage_pieces
from features.build import feature_table
from features.parts import damaged, read_manifest
from features.settings import LabelSettings
from features.tables import open_tables

NOW = datetime(2025, 6, 1)
START = datetime(2025, 1, 1)


def events(days, *, per_day=20, accounts=3, seed=1):
    """Rows of usage on the given days after 2025-01-01, the same for the same arguments."""
    rows = []
    for day in days:
        draw = random.Random(f"{seed} {day}")
        for _ in range(per_day):
            at = START + timedelta(days=day, seconds=draw.randrange(86_400))
            account = f"a{draw.randrange(accounts)}"
            rows.append(f"{account},{account}-u{draw.randrange(4)},{at:%Y-%m-%dT%H:%M:%S},{draw.randrange(1, 5)},yes")
    return rows


HEADER = "account_id,user_id,event_at,quantity,is_core"


@pytest.fixture
def daily(company):
    """A company whose usage comes in one file a day."""
    company.write("accounts", "account_id\na0\na1\na2")
    company.write("contracts", "account_id,start_at,mrr\n" + "\n".join(f"a{n},2024-01-01,10" for n in range(3)))
    (company.folder / "usage").mkdir()
    company.map("usage", 'path = "usage/*.csv"')
    return company


def deliver(company, day, rows=None):
    path = company.folder / "usage" / f"{START + timedelta(days=day):%Y-%m-%d}.csv"
    path.write_text("\n".join([HEADER, *(events([day]) if rows is None else rows)]) + "\n")
    return path


def read(company, **options):
    """The company's tables, and what was rolled up to open them."""
    said = []
    tables = open_tables(company.settings(), now=NOW, progress=said.append, **options)
    return tables, said


def features(tables, *instants):
    return feature_table(tables, instants or [datetime(2025, 3, 1)], LabelSettings()).to_pylist()


def store(company):
    return company.folder / ".tenure" / "rollup"


def test_a_day_that_is_added_is_all_that_is_read(daily):
    for day in range(5):
        deliver(daily, day)
    read(daily)
    deliver(daily, 5)

    tables, said = read(daily)

    assert said == ["rolling usage up: usage/2025-01-06.csv, 1 of 1"]
    assert tables.loaded["usage"].rows == 6 * 20


def test_nothing_is_read_again_where_nothing_changed(daily):
    deliver(daily, 0)
    first, _ = read(daily)
    second, said = read(daily)

    assert said == []
    assert features(second) == features(first)


def test_days_that_come_one_by_one_give_the_features_of_one_that_came_at_once(daily, tmp_path):
    for day in range(28, 35):
        deliver(daily, day)
        if day % 3 == 0:
            read(daily)
    by_days, _ = read(daily)
    expected = features(by_days)
    for path in (daily.folder / "usage").iterdir():
        path.unlink()
    (daily.folder / "usage" / "all.csv").write_text("\n".join([HEADER, *events(range(28, 35))]) + "\n")

    at_once, said = read(daily)

    assert said == ["rolling usage up: usage/all.csv, 1 of 1"]
    assert features(at_once) == expected


def test_a_file_that_changed_is_read_again_and_only_its_changed_month_is_written(daily):
    path = daily.folder / "usage" / "all.csv"
    path.write_text("\n".join([HEADER, *events(range(60))]) + "\n")
    read(daily)
    before = {part.file: (store(daily) / part.file).stat().st_mtime_ns for part in read_manifest(store(daily)).parts}
    path.write_text("\n".join([HEADER, *events(range(60)), "a1,a1-u1,2025-02-03T10:00:00,7,yes"]) + "\n")

    read(daily)

    after = {part.file: (store(daily) / part.file).stat().st_mtime_ns for part in read_manifest(store(daily)).parts}
    january = {file for file in before if file.startswith("2025-01/")}
    assert january
    assert all(after[file] == before[file] for file in january)
    assert {file for file in after if file.startswith("2025-02/")}.isdisjoint(before)


def test_a_file_that_is_taken_away_takes_its_rows_along(daily):
    deliver(daily, 0)
    path = deliver(daily, 1)
    read(daily)
    path.unlink()

    tables, _ = read(daily)

    assert tables.loaded["usage"].rows == 20


def test_another_mapping_reads_everything_anew(daily):
    deliver(daily, 0)
    plain, _ = read(daily)
    daily.map("usage", 'path = "usage/*.csv"\ncolumns = { quantity = "quantity::int * 2" }')

    doubled, said = read(daily)

    assert len(said) == 1
    total = [tables["account_days"].quantity.sum().to_pyarrow().as_py() for tables in (plain, doubled)]
    assert total[1] == 2 * total[0]


def test_a_state_whose_part_is_missing_or_cut_is_made_whole(daily):
    for day in range(3):
        deliver(daily, day)
    first, _ = read(daily)
    expected = features(first)
    parts = [store(daily) / part.file for part in read_manifest(store(daily)).parts]
    parts[0].unlink()
    parts[-1].write_bytes(parts[-1].read_bytes()[:-10])

    mended, said = read(daily)

    assert 1 <= len(said) <= 2
    assert features(mended) == expected
    assert damaged(store(daily), read_manifest(store(daily))) == []


def test_a_manifest_that_cannot_be_read_is_made_anew(daily):
    deliver(daily, 0)
    read(daily)
    (store(daily) / "manifest.json").write_text('{"format": 1, "pieces"')

    tables, said = read(daily)

    assert len(said) == 1
    assert tables.loaded["usage"].rows == 20


def test_full_builds_everything_anew(daily):
    deliver(daily, 0)
    read(daily)
    before = read_manifest(store(daily)).checksums()

    _, said = read(daily, full=True)

    assert len(said) == 1
    assert read_manifest(store(daily)).checksums() == before


def test_a_row_of_an_unknown_account_waits_and_comes_back_with_its_account(daily):
    deliver(daily, 0, [*events([0], per_day=60), "new,n,2025-01-01T10:00:00,5,yes"])
    deliver(daily, 1)
    tables, _ = read(daily)
    aside = tables.quarantine.to_pylist()
    assert [(row["rule"], row["row_number"], row["source"]) for row in aside] == [
        ("unknown_account", 61, "usage/2025-01-01.csv")
    ]

    daily.write("accounts", "account_id\na0\na1\na2\nnew")
    healed, said = read(daily)

    assert said == ["rolling usage up: usage/2025-01-01.csv, 1 of 1"]
    assert healed.quarantine.num_rows == 0
    assert healed.loaded["usage"].kept == 81


def test_rows_of_an_account_that_is_no_longer_known_are_set_aside(daily):
    deliver(daily, 0, [*events([0], per_day=60), "a2,n,2025-01-01T10:00:00,5,yes"])
    daily.extra = "[quarantine]\nlimit = 1.0\n"
    read(daily)
    daily.write("accounts", "account_id\na0\na1")
    daily.write("contracts", "account_id,start_at,mrr\na0,2024-01-01,10\na1,2024-01-01,10")

    tables, said = read(daily)

    assert len(said) == 1
    assert set(tables.quarantine["rule"].to_pylist()) == {"unknown_account"}
    assert tables.loaded["usage"].kept + tables.quarantine.num_rows == 61


def test_an_event_that_is_delivered_twice_counts_once_and_is_counted(daily):
    rows = events([0])
    deliver(daily, 0, rows)
    once, _ = read(daily)
    expected = features(once)
    shuffled = rows + rows[:8]
    random.Random(4).shuffle(shuffled)
    deliver(daily, 0, shuffled)

    twice, _ = read(daily)

    assert twice.loaded["usage"].repeated == 8
    assert features(twice) == expected


def test_equal_rows_of_a_day_without_a_time_are_different_uses(daily):
    deliver(daily, 0, ["a1,u,2025-01-01,1,yes"] * 3)

    tables, _ = read(daily)

    assert tables.loaded["usage"].repeated == 0
    assert tables["account_days"].core.sum().to_pyarrow().as_py() == 3


def test_rows_that_differ_in_a_column_we_do_not_read_are_different_uses(daily):
    header = "account_id,user_id,event_at,page"
    path = daily.folder / "usage" / "all.csv"
    path.write_text(
        f"{header}\na1,u,2025-01-01T10:00:00,/a\na1,u,2025-01-01T10:00:00,/b\na1,u,2025-01-01T10:00:00,/b\n"
    )

    tables, _ = read(daily)

    assert tables["account_days"].events.sum().to_pyarrow().as_py() == 2
    assert tables.loaded["usage"].repeated == 1


@pytest.fixture
def warehouse(company):
    """A company whose usage is one Parquet file with times of a real type."""
    company.write("accounts", "account_id\na0\na1\na2")
    company.write("contracts", "account_id,start_at,mrr\n" + "\n".join(f"a{n},2024-01-01,10" for n in range(3)))
    company.map("usage", 'path = "usage.parquet"')
    rows = "\n".join([HEADER, *events(range(70)), "a1,u,,1,yes", "stranger,u,2025-01-05T10:00:00,1,yes"])
    (company.folder / "raw.csv").write_text(rows + "\n")
    duckdb.sql(
        f"copy (select * replace (event_at::timestamp as event_at) from read_csv('{company.folder}/raw.csv', "
        f"all_varchar = true)) to '{company.folder}/usage.parquet'"
    )
    return company


def test_a_large_file_is_read_month_by_month_to_the_same_end(warehouse, monkeypatch):
    at_once, _ = read(warehouse)
    whole = read_manifest(store(warehouse)).checksums()
    shutil.rmtree(store(warehouse))
    monkeypatch.setattr(usage_pieces, "LARGE", 100)

    by_month, _ = read(warehouse)

    assert read_manifest(store(warehouse)).checksums() == whole
    assert by_month.quarantine.drop_columns("first_seen") == at_once.quarantine.drop_columns("first_seen")
    assert by_month.loaded["usage"].rows == 70 * 20 + 2


BUILD = """
import sys
from datetime import datetime
from pathlib import Path
from features.settings import read_settings
from features.tables import open_tables
print("ready", flush=True)
open_tables(read_settings(Path(sys.argv[1])), now=datetime(2025, 6, 1))
"""


def test_a_build_that_is_killed_at_any_moment_ends_the_same_when_run_again(daily, request):
    """Killed with SIGKILL at random moments of its work; what it left never keeps the next build from its end."""
    for day in range(0, 60, 12):
        deliver(daily, day, events([day], per_day=400))
    daily.settings()
    read(daily)
    expected = read_manifest(store(daily)).checksums()
    shutil.rmtree(store(daily))
    kills = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 3
    draw = random.Random(7)
    for _ in range(kills):
        shutil.rmtree(store(daily), ignore_errors=True)
        command = [sys.executable, "-c", BUILD, str(daily.folder / "tenure.toml")]
        with subprocess.Popen(command, cwd=request.config.rootpath, stdout=subprocess.PIPE) as build:
            build.stdout.readline()
            time.sleep(draw.uniform(0.05, 1.5))
            build.send_signal(signal.SIGKILL)

        read(daily)

        assert read_manifest(store(daily)).checksums() == expected
        assert damaged(store(daily), read_manifest(store(daily))) == []


def test_the_manifest_says_what_was_built_from_what(daily):
    deliver(daily, 0)
    read(daily)

    manifest = json.loads((store(daily) / "manifest.json").read_text())

    piece = manifest["pieces"]["usage/2025-01-01.csv"]
    assert piece["signature"].keys() == {"size", "time", "footer"}
    assert {(part["rollup"], part["month"]) for part in piece["parts"]} == {
        ("account_days", "2025-01"), ("user_days", "2025-01"), ("feature_days", "2025-01")
    }  # fmt: skip
