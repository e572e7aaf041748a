"""Growth: the first roll-up and the features at 2, 20 and 200 million events, and the memory that they take."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.events import write_company
from tests.benchmarks.table import at_most, figure, report

SIZES = (2_000_000, 20_000_000, 200_000_000)
ACCOUNTS = 20_000

_BUILD = """
import json, resource, sys, time
from datetime import datetime
from pathlib import Path
from features.build import feature_table
from features.settings import LabelSettings, read_settings
from features.tables import open_tables

settings = read_settings(Path(sys.argv[1]))
start = time.perf_counter()
tables = open_tables(settings, now=datetime(2026, 1, 1), full=True)
rolled = time.perf_counter()
feature_table(tables, [datetime(2025, 12, 1)], LabelSettings())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
print(json.dumps({"rollup": rolled - start, "instant": time.perf_counter() - rolled, "peak": peak}))
"""


def benchmark(folder: Path, sizes: tuple[int, ...] = SIZES) -> bool:
    """Each size is built in a process of its own, so that its peak memory is its own."""
    rows, taken = [], {}
    for events in sizes:
        config = write_company(folder / f"events-{events}", events=events, accounts=ACCOUNTS)
        done = subprocess.run([sys.executable, "-c", _BUILD, str(config)], capture_output=True, text=True, check=True)
        found = taken[events] = json.loads(done.stdout)
        rows += [
            figure(f"{events:,} events: first roll-up", found["rollup"], "s"),
            figure(f"{events:,} events: features at one instant", found["instant"], "s"),
            figure(f"{events:,} events: peak memory", found["peak"], "GiB"),
        ]
    small, large = min(sizes), max(sizes)
    exponent = math.log(taken[large]["rollup"] / taken[small]["rollup"]) / math.log(large / small)
    rows.append(at_most(f"exponent of the first roll-up, {small:,} to {large:,}", exponent, 1.05, ""))
    rows.append(at_most(f"peak memory at {large:,} events", taken[large]["peak"], 2.0, "GiB"))
    return report("growth", rows)
