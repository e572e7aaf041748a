"""The first load of a model, in a child process: LightGBM's parser may abort, hang or fill the memory.

A model whose files are the signed ones can still be malformed, by whoever signed it. What kills the child is refused
here, and the process that serves goes on with the model that it has.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow.parquet as pq

from features.errors import ConfigurationError

CPU_SECONDS = 20
MEMORY = 2 * 1024**3
"""Bytes that parsing and scoring may take, above what the libraries take themselves."""
WALL_SECONDS = 120
_AGREED, _DIFFERED = 0, 3


def try_out(folder: Path, state_dir: Path, digest: str) -> None:
    """Load and score the golden rows once in a child; a model that went well is not tried again.

    Raises
    ------
    ConfigurationError
        The child died, took too long or too much memory, or scored otherwise.
    """
    mark = state_dir / "tried" / digest
    if mark.exists():
        return
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "training.trial", str(folder.resolve())]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent.parent, env={**os.environ, **threads}, capture_output=True, check=False,
            timeout=WALL_SECONDS,
        )  # fmt: skip
        fault = {_AGREED: None, _DIFFERED: "it scores its golden rows otherwise"}.get(
            done.returncode, f"loading it ended a process with {_shown(done.returncode)}"
        )
    except subprocess.TimeoutExpired:
        fault = f"loading it took more than {WALL_SECONDS} s"
    if fault is not None:
        raise ConfigurationError(
            f"The model in {folder} must load and score as it did when it was made; {fault}. "
            "Train again or roll back; what is served stays as it is."
        )
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _shown(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _child(folder: Path) -> int:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (spent + CPU_SECONDS, spent + CPU_SECONDS))
    booster = lightgbm.Booster(model_str=(folder / "model.txt").read_text(encoding="utf-8"))
    golden = pq.read_table(folder / "golden.parquet")
    expected = golden["raw_score"].to_numpy()
    names = [name for name in golden.column_names if name != "raw_score"]
    rows = np.column_stack([golden[name].to_numpy() for name in names]).astype(np.float64)
    raw = np.asarray(booster.predict(rows, raw_score=True, num_threads=1))
    return _AGREED if np.array_equal(raw, expected) else _DIFFERED


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1])))
