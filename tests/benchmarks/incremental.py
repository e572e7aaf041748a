"""Incremental day: one more day of events after 2 and after 24 months, against a full build and the day's own scan."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import duckdb

from features.settings import read_settings
from features.tables import open_tables
from tests.benchmarks.events import write_company
from tests.benchmarks.table import at_most, figure, median_seconds, report

EVENTS, ACCOUNTS = 20_000_000, 20_000
NOW = datetime(2026, 2, 1)


def benchmark(folder: Path) -> bool:
    """Usage comes as one file a month, then as one file for the new day."""
    rows, whole = [], {}
    for months in (2, 24):
        home = folder / f"incremental-{months}"
        config = write_company(home, events=EVENTS, accounts=ACCOUNTS, months=months)
        whole[months], nothing_new, full, scan = _added_day(home, config)
        added = whole[months] - nothing_new
        rows += [
            figure(f"after {months} months: full build", full, "s"),
            figure(f"after {months} months: scan of the new day", scan, "s"),
            figure(f"after {months} months: all tables opened with the new day", whole[months], "s"),
            figure(f"after {months} months: all tables opened with nothing new", nothing_new, "s"),
            figure(f"after {months} months: what the day adds / (3 × scan + 0.3 s)", added / (3 * scan + 0.3), "×"),
            at_most(f"after {months} months: opened / (3 × scan + 0.3 s)", whole[months] / (3 * scan + 0.3), 1.0),
        ]
    rows.append(at_most("opened with the new day, after 24 months / after 2 months", whole[24] / whole[2], 1.25))
    return report("incremental", rows)


def _added_day(home: Path, config: Path) -> tuple[float, float, float, float]:
    """Seconds with the new day, with nothing new, of a full build, and of a scan of the day."""
    settings = read_settings(config)
    day = home / "usage" / "new-day.parquet"
    day.unlink(missing_ok=True)
    full = median_seconds(lambda: open_tables(settings, now=NOW, full=True), repeats=1)
    engine = duckdb.connect()
    last = sorted((home / "usage").glob("*.parquet"))[-1]
    sums = ", ".join(
        ("sum(quantity)", "sum(minutes)", "count(distinct user_id)", "count(distinct feature_id)", "max(known_at)")
    )
    scans, additions, idle = [], [], []
    for number in range(5):
        idle.append(median_seconds(lambda: open_tables(settings, now=NOW), repeats=1))
        engine.execute(
            "copy (select * replace (event_at + interval 1 month as event_at, known_at + interval 1 month as known_at) "
            f"from '{last}' where day(event_at) = {number + 1}) to '{day}'"
        )
        scan = f"select account_id, user_id, feature_id, {sums} from '{day}' group by all"
        scans.append(median_seconds(lambda scan=scan: engine.execute(scan).fetchall(), repeats=1))
        additions.append(median_seconds(lambda: open_tables(settings, now=NOW), repeats=1))
        day.unlink()
        open_tables(settings, now=NOW)
    shutil.rmtree(settings.state_dir)
    return sorted(additions)[2], sorted(idle)[2], full, sorted(scans)[2]
