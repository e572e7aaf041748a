"""The whole batch: 50,000 accounts from tables that are rolled up to a published list with reasons."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.served import AS_OF, served_company
from tests.benchmarks.table import at_most, figure, report

ACCOUNTS, EVENTS = 50_000, 5_000_000

_RUN = """
import json, resource, sys, time
from datetime import datetime
from pathlib import Path
from features.settings import read_settings
from features.tables import open_tables
from serving.nightly import make_list
from serving.publication import publish

settings, as_of = read_settings(Path(sys.argv[1])), datetime.fromisoformat(sys.argv[2])
start = time.perf_counter()
tables = open_tables(settings, now=as_of)
opened = time.perf_counter()
made, features = make_list(tables, settings, as_of)
listed = time.perf_counter()
publish(made, features, settings)
ended = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
rows = len(made.risk_list["rows"])
print(json.dumps({"open": opened - start, "list": listed - opened, "publish": ended - listed, "peak": peak,
                  "rows": rows, "told": sum(bool(row["reasons"]) for row in made.risk_list["rows"])}))
"""


def benchmark(folder: Path, accounts: int = ACCOUNTS, events: int = EVENTS) -> bool:
    """In a process of its own, so that the peak memory is its own."""
    settings = served_company(folder / f"batch-{accounts}", accounts=accounts, events=events)
    command = [sys.executable, "-c", _RUN, str(settings.path), f"{AS_OF:%Y-%m-%d}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["rows"] == accounts
    whole = found["open"] + found["list"] + found["publish"]
    return report("batch", [
        figure("tables read and checked", found["open"], "s"),
        figure("features, scores, reasons, list", found["list"], "s"),
        figure("published: files and ledger", found["publish"], "s"),
        figure("rows with a reason", found["told"], "rows"),
        at_most(f"{accounts:,} accounts, whole", whole, 60, "s"),
        at_most("peak memory", found["peak"], 2.0, "GiB"),
    ])  # fmt: skip
