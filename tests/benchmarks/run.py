"""`make bench`: run the benchmarks by name, all of them by default, and print their tables."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

NAMES = (
    "features", "growth", "incremental", "scoring", "batch", "training", "online", "console", "startup",
)  # fmt: skip


def main() -> int:
    """0, or 1 where --check was asked for and an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="default: all")
    parser.add_argument("--check", action="store_true", help="exit 1 where an aim is missed")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tenure-benchmarks")
    asked = parser.parse_args()
    met = [importlib.import_module(f"tests.benchmarks.{name}").benchmark(asked.folder) for name in asked.names or NAMES]
    return 1 if asked.check and not all(met) else 0


if __name__ == "__main__":
    sys.exit(main())
