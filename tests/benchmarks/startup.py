"""Start-up: `tenure --help` and `tenure list`, beside MLflow's own help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.batch import ACCOUNTS, EVENTS
from tests.benchmarks.batch import benchmark as batch
from tests.benchmarks.served import served_company
from tests.benchmarks.table import at_most, figure, median_seconds, report

BIN = Path(sys.executable).parent


def benchmark(folder: Path) -> bool:
    """`tenure list` reads the published list of 50,000 accounts."""
    settings = served_company(folder / f"batch-{ACCOUNTS}", accounts=ACCOUNTS, events=EVENTS)
    if not (settings.state_dir / "lists").exists():
        batch(folder)

    def seconds(*command: str | Path) -> float:
        return median_seconds(lambda: subprocess.run(command, capture_output=True, check=True))

    return report("startup", [
        figure("python -c 'import click'", seconds(sys.executable, "-c", "import click"), "s"),
        figure("mlflow --help", seconds(BIN / "mlflow", "--help"), "s"),
        at_most("tenure --help", seconds(BIN / "tenure", "--help"), 0.3, "s"),
        at_most("tenure list --top 20", seconds(
            BIN / "tenure", "list", "--top", "20", f"--config={settings.path}"), 1.5, "s"),
    ])  # fmt: skip
