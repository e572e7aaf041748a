"""A company with a champion and no registry, for the benchmarks of what is served: trees on made-up labels."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np

from features.build import feature_table
from features.catalogue import told_features
from features.settings import LabelSettings, Settings, read_settings
from features.tables import open_tables
from tests.benchmarks.events import write_company
from training.calibration import Calibrator
from training.learners import Trees
from training.model import ChurnModel, artefact_hash, golden_rows, save_model, signing_key

AS_OF = datetime(2024, 4, 1)
TREES = 300


def served_company(folder: Path, *, accounts: int, events: int) -> Settings:
    """Write the company, make its champion and keep that as if it had come from a registry."""
    config = write_company(folder, events=events * 8, accounts=accounts, months=3)  # A month holds a 24th of them.
    settings = read_settings(config)
    if (settings.state_dir / "champion.json").exists():
        return settings
    tables = open_tables(settings, now=AS_OF)
    names = tuple(item.name for item in told_features(tables))
    rows = feature_table(tables, [datetime(2024, 3, 1)], LabelSettings()).to_pandas()
    names = tuple(name for name in names if rows[name].notna().any())
    rng = np.random.default_rng(0)
    churned = (rng.random(len(rows)) < 0.02 + 0.15 * rows.active_days_28d.rank(pct=True)).astype(np.int8).to_numpy()
    learned = Trees().learn(rows[list(names)].to_numpy(float), churned, names, seed=7, rounds=TREES)
    model = ChurnModel(
        booster=learned.booster, features=names, calibrator=Calibrator(), base_rate=float(churned.mean()),
        no_signal=False, horizon_days=90, catalogue="", typical=rows[list(names)].median().to_dict(),
        golden=golden_rows(rows, learned.booster, names), certificate={"is_valid": True, "verdict": "benchmark"},
    )  # fmt: skip
    staged = settings.state_dir / "models" / "staged"
    save_model(model, staged, signing_key(settings.state_dir))
    digest = artefact_hash(staged)
    staged.rename(staged.with_name(digest))
    (settings.state_dir / "champion.json").write_text(json.dumps({"version": "1", "artefact": digest}))
    return settings
