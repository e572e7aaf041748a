"""The folder of a generated company: cleared before it is made anew, its sealed truth opened for one purpose.

That purpose is to say what the best model could have reached. Nothing that trains, scores or lists imports this.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from features.errors import CannotWrite


def true_probability(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` (account_id, as_of) with the true 90-day probability as `reachable`; rows without one are left out."""
    truth = pd.read_parquet(folder / "truth" / "probability.parquet", columns=["account_id", "as_of", "probability"])
    return rows.merge(truth.rename(columns={"probability": "reachable"}), on=["account_id", "as_of"])


def clear_world(folder: Path) -> None:
    """Empty `folder` where a generated company stands in it; refuse to touch anything else."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / "truth").is_dir():
        raise CannotWrite(
            f"{folder} must be empty, or hold a generated company; found other files. Name another folder."
        )
    shutil.rmtree(folder)
