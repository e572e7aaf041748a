"""Feature build: usage features at 18 monthly instants, against a statement by hand, pandas and featuretools."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from features.build import feature_table
from features.families import adoption, contract, usage, users
from features.parts import read_manifest
from features.settings import EngineSettings, LabelSettings, read_settings
from features.tables import open_tables
from features.usage_store import FOLDER
from tests.benchmarks.events import write_company
from tests.benchmarks.hand_sql import FROM_EVENTS, ROLLED, statement
from tests.benchmarks.pandas_peer import pandas_features
from tests.benchmarks.table import Row, at_least, at_most, figure, median_seconds, report

EVENTS, ACCOUNTS = 20_000_000, 20_000
NOW = datetime(2026, 1, 1)
INSTANTS = [datetime(2024 + month // 12, month % 12 + 1, 1) for month in range(7, 25)]
FEATURETOOLS_EVENTS = 200_000
ROOMS = (usage, users, adoption)
FAMILIES = [family for room in (*ROOMS, contract) for family in room.FAMILIES]
"""Those of usage, and the contracts that their ratios read."""
MEASURED = [
    item.name
    for room in ROOMS
    for family in room.FAMILIES
    for item in family.all_features()
    if item.name != "new_feature_adopted_91d"  # Nothing in the generated company is released within the years.
]


def benchmark(folder: Path) -> bool:
    """Measure and report; the first build and one from the roll-ups, each beside the statement over the same files."""
    config = write_company(folder / f"events-{EVENTS}", events=EVENTS, accounts=ACCOUNTS)
    # As much memory as the statement by hand takes: the table is about speed, `growth` about memory.
    settings = replace(read_settings(config), engine=EngineSettings(memory="16GB"))
    home = config.parent

    first = median_seconds(lambda: open_tables(settings, now=NOW, full=True), repeats=1)
    tables = open_tables(settings, now=NOW)
    found = feature_table(tables, INSTANTS, LabelSettings(), families=FAMILIES).to_pandas()
    ours = median_seconds(lambda: feature_table(tables, INSTANTS, LabelSettings(), families=FAMILIES), repeats=3)

    manifest = read_manifest(settings.state_dir / FOLDER)
    parts = {
        name: str([str(settings.state_dir / FOLDER / part.file) for part in manifest.parts if part.rollup == name])
        for name in ROLLED
    }
    rolled = {name: sql.format(**parts) for name, sql in ROLLED.items()}
    events = {name: sql.replace("{events}", f"'{home}/usage/*.parquet'") for name, sql in FROM_EVENTS.items()}
    _say(f"first build {first + ours:.1f} s, features {ours:.1f} s")
    by_hand = _timed_statement(home, rolled, repeats=3)
    _same(found, by_hand[1])
    _say(f"by hand over the roll-ups {by_hand[0]:.1f} s")
    by_hand_raw = _timed_statement(home, events, repeats=1)
    _same(found, by_hand_raw[1])
    _say(f"by hand over the raw events {by_hand_raw[0]:.1f} s")

    start = datetime.now()
    in_pandas = pandas_features(home, INSTANTS)
    pandas_seconds = (datetime.now() - start).total_seconds()
    _same(found, in_pandas)

    rows = [
        figure("features from the roll-ups, 18 instants", ours, "s"),
        figure("the statement by hand over the same roll-ups", by_hand[0], "s"),
        at_most("features / statement over the same roll-ups", ours / by_hand[0], 1.2),
        figure("first build: roll-ups and features", first + ours, "s"),
        figure("the statement by hand over the raw events", by_hand_raw[0], "s"),
        figure("first build / statement over the raw events", (first + ours) / by_hand_raw[0], "×"),
        figure("features from the roll-ups / statement over the raw events", ours / by_hand_raw[0], "×"),
        figure("pandas, group-by per instant", pandas_seconds, "s"),
        at_least("pandas / first build", pandas_seconds / (first + ours), 10),
        at_least("pandas / features from the roll-ups", pandas_seconds / ours, 10),
        *_featuretools(home, first + ours, ours),
    ]
    return report("features", rows)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _timed_statement(home: Path, sources: dict[str, str], *, repeats: int) -> tuple[float, pd.DataFrame]:
    sql = statement(
        sources,
        [f"{instant}" for instant in INSTANTS],
        f"{home}/entitlements.parquet",
        f"{home}/contracts.parquet",
    )
    engine = duckdb.connect()
    found = []
    seconds = median_seconds(lambda: found.append(engine.sql(sql).to_arrow_table()), repeats=repeats)
    return seconds, found[-1].to_pandas()


def _same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Both sides computed the same: every value within 1e-9, the same ones missing."""
    keys = ["as_of", "account_id"]
    left, right = (rows.sort_values(keys).reset_index(drop=True) for rows in (ours, theirs))
    assert left.account_id.tolist() == right.account_id.tolist()
    for name in MEASURED:
        a, b = left[name].to_numpy(float), right[name].to_numpy(float)
        assert np.array_equal(np.isnan(a), np.isnan(b)), f"{name}: other values are missing"
        worst = np.nanmax(np.abs(a - b) / np.maximum(1, np.abs(b)), initial=0)
        assert worst <= 1e-9, f"{name}: differs by {worst}"


def _featuretools(home: Path, first: float, ours: float) -> list[Row]:
    """Deep feature synthesis in an environment of its own: time per event and instant, beside both of ours."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    command = [uv, "run", "--no-project", "--with", "featuretools,pandas<3,setuptools<80,pyarrow", "python"]
    script = Path(__file__).with_name("featuretools_peer.py")
    done = subprocess.run(
        [*command, str(script), f"{home}/usage/2025-12.parquet", str(FEATURETOOLS_EVENTS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        print(f"featuretools did not run: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return []
    theirs = json.loads(done.stdout.splitlines()[-1])["seconds"] / FEATURETOOLS_EVENTS
    each_at_first, each = (seconds / (EVENTS * len(INSTANTS)) for seconds in (first, ours))
    return [
        figure("featuretools, one event at one instant", theirs * 1e6, "µs"),
        figure("features from the roll-ups, one event at one instant", each * 1e6, "µs"),
        at_least("featuretools / first build, per event", theirs / each_at_first, 500),
        at_least("featuretools / features from the roll-ups, per event", theirs / each, 500),
    ]
