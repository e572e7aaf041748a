"""What every benchmark shares: repeated timings, a table for people, and `benchmarks.json` for machines."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "benchmarks.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of a benchmark, and the aim where it has one."""

    what: str
    value: float
    unit: str
    aim: str = ""
    met: bool | None = None


def median_seconds(run: Callable[[], object], *, repeats: int = 5) -> float:
    """The median wall time of `run`, in seconds."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def at_most(what: str, value: float, limit: float, unit: str = "×") -> Row:
    """A figure that must not exceed `limit`."""
    return Row(what=what, value=value, unit=unit, aim=f"<= {limit:g}", met=value <= limit)


def at_least(what: str, value: float, limit: float, unit: str = "×") -> Row:
    """A figure that must reach `limit`."""
    return Row(what=what, value=value, unit=unit, aim=f">= {limit:g}", met=value >= limit)


def figure(what: str, value: float, unit: str) -> Row:
    """A figure without an aim of its own, for the reader."""
    return Row(what=what, value=value, unit=unit)


def report(name: str, rows: list[Row]) -> bool:
    """Print the table, renew the benchmark's part of `benchmarks.json`, and say whether every aim was met."""
    print(f"\n{name}\n")
    for row in rows:
        verdict = "" if row.met is None else ("  ok" if row.met else "  MISSED")
        print(f"  {row.what:<64} {row.value:>12.4g} {row.unit:<8} {row.aim:<10}{verdict}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = {
        "on": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    return all(row.met is not False for row in rows)
