"""The model and its artefact: a folder of text, JSON and one table, never of code.

`manifest.json` holds the sha256 of every file and one HMAC over them; nothing is parsed before they agree, for
LightGBM's text parser may abort, hang or score wrongly on a damaged file. The artefact is the only contract between
training and serving: columns, their order and the meaning of the catalogue travel inside it.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from lightgbm import Booster

from features.errors import ConfigurationError
from features.state import kept_secret
from training.calibration import Calibrator
from training.trial import try_out

Floats = npt.NDArray[np.float64]

MANIFEST = "manifest.json"
FILES = (
    "model.txt", "contract.json", "calibrator.json", "policy.json", "golden.parquet", "evaluation.json",
    "certificate.json", "card.md",
)  # fmt: skip
GOLDEN_ROWS = 200
BANDS = (("critical", 4.0), ("high", 2.0), ("medium", 1.0))
"""Band and the multiple of the base rate at which it begins, highest first."""


@dataclass(frozen=True, kw_only=True)
class ChurnModel:
    """A booster with its columns, its calibrator and what the lists need to know of it."""

    booster: Booster
    features: tuple[str, ...]
    calibrator: Calibrator
    base_rate: float
    no_signal: bool
    horizon_days: int
    catalogue: str
    """Hash of the feature catalogue the model learned from."""
    typical: Mapping[str, float | None]
    """Median of each feature over the training rows, for the reasons' "typical" value."""
    golden: pd.DataFrame
    percentiles: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Values of each feature at 0, 1, … 100 % of the accounts that know it, each once; none where nobody does."""
    bands: tuple[tuple[str, float], ...] = BANDS
    """Band and the multiple of the base rate at which it begins, highest first."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    certificate: Mapping[str, Any] = field(default_factory=dict)
    """What was done to show that no feature sees the future."""
    card: str = ""

    def raw_scores(self, rows: pd.DataFrame) -> Floats:
        """Raw log-odds of shape (n,) for rows that hold at least the model's features."""
        return self.scores(self.matrix(rows))[0]

    def contributions(self, matrix: Floats, *, threads: int = 1) -> tuple[Floats, Floats]:
        """Exact TreeSHAP values of a `matrix`, in log-odds and of its shape, and the base value of shape (n,)."""
        values = np.asarray(self.booster.predict(matrix, pred_contrib=True, num_threads=threads))
        return values[:, :-1], values[:, -1]

    def probabilities(self, rows: pd.DataFrame) -> Floats:
        """Calibrated probabilities of shape (n,); the base rate for all where nothing could be learned."""
        return self.scores(self.matrix(rows))[1]

    def scores(self, matrix: Floats) -> tuple[Floats, Floats]:
        """Raw log-odds and probabilities, each of shape (n,), of shape (n, n_features) in the contract's order."""
        raw = np.asarray(self.booster.predict(matrix, raw_score=True, num_threads=1))
        chances = np.full(len(raw), self.base_rate) if self.no_signal else self.calibrator.probability(raw)
        return raw, chances

    def band(self, probability: float) -> str:
        """low, medium, high or critical, by multiples of the base rate."""
        return next((name for name, times in self.bands if probability >= times * self.base_rate), "low")

    def matrix(self, rows: pd.DataFrame) -> Floats:
        """The model's features of shape (n, n_features), in the order of the contract."""
        # Reordered columns would be scored wrongly without a word: take them by name.
        return rows.loc[:, list(self.features)].to_numpy(dtype=np.float64)


def fit_booster(
    rows: Floats,
    churned: npt.NDArray[np.int8],
    features: Sequence[str],
    *,
    parameters: Mapping[str, Any],
    rounds: int,
    stop_on: tuple[Floats, npt.NDArray[np.int8]] | None = None,
) -> Booster:
    """A booster on rows of shape (n, n_features); with `stop_on` it stops where log loss on these stops to fall."""
    data = lightgbm.Dataset(rows, churned, feature_name=list(features), free_raw_data=False)
    if stop_on is None:
        return lightgbm.train(dict(parameters), data, num_boost_round=rounds)
    later = lightgbm.Dataset(stop_on[0], stop_on[1], reference=data)
    stopper = lightgbm.early_stopping(stopping_rounds=30, verbose=False)
    return lightgbm.train(dict(parameters), data, num_boost_round=rounds, valid_sets=[later], callbacks=[stopper])


def save_model(model: ChurnModel, folder: Path, key: bytes) -> None:
    """Write the artefact into `folder`, which must be empty or new."""
    folder.mkdir(parents=True, exist_ok=True)
    contract = {
        "features": list(model.features),
        "catalogue": model.catalogue,
        "typical": dict(model.typical),
        "percentiles": dict(model.percentiles),
    }
    policy = {
        "base_rate": model.base_rate,
        "bands": dict(model.bands),
        "no_signal": model.no_signal,
        "horizon_days": model.horizon_days,
    }
    contents = {
        "model.txt": model.booster.model_to_string(num_iteration=-1).encode(),
        "contract.json": _json(contract),
        "calibrator.json": _json(asdict(model.calibrator)),
        "policy.json": _json(policy),
        "golden.parquet": _parquet(model.golden),
        "evaluation.json": _json(model.evaluation),
        "certificate.json": _json(model.certificate),
        "card.md": model.card.encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    (folder / MANIFEST).write_bytes(_json({"files": hashes, "hmac": _signature(hashes, key)}))


def load_model(folder: Path, key: bytes | None) -> ChurnModel:
    """Read an artefact; refuse it before parsing unless every file is the one that was signed.

    Without a `key` only the hashes are checked, for tools that cannot have it.

    Raises
    ------
    ConfigurationError
        A file is missing or changed, the signature is not ours, or golden rows score differently.
    """
    contents = _verified(folder, key)
    contract, policy = json.loads(contents["contract.json"]), json.loads(contents["policy.json"])
    model = ChurnModel(
        booster=Booster(model_str=contents["model.txt"].decode()),
        features=tuple(contract["features"]),
        calibrator=Calibrator(**json.loads(contents["calibrator.json"])),
        base_rate=policy["base_rate"],
        no_signal=policy["no_signal"],
        horizon_days=policy["horizon_days"],
        catalogue=contract["catalogue"],
        typical=contract["typical"],
        percentiles=contract.get("percentiles", {}),
        bands=tuple(sorted(policy["bands"].items(), key=lambda band: -band[1])),
        golden=pq.read_table(io.BytesIO(contents["golden.parquet"])).to_pandas(),
        evaluation=json.loads(contents["evaluation.json"]),
        certificate=json.loads(contents["certificate.json"]),
        card=contents["card.md"].decode(),
    )
    if not np.array_equal(model.raw_scores(model.golden), model.golden["raw_score"].to_numpy()):
        raise ConfigurationError(f"The model in {folder} must score its golden rows as it did; found other scores.")
    return model


def artefact_hash(folder: Path) -> str:
    """sha256 over the hashes of the files: the same for the same data, seed and recipe."""
    return hashlib.sha256(_json(json.loads((folder / MANIFEST).read_bytes())["files"])).hexdigest()


def load_tried_model(folder: Path, state_dir: Path) -> ChurnModel:
    """`load_model` with the company's key, after the model was once loaded in a child process.

    Raises
    ------
    ConfigurationError
        As `load_model`, or loading it does harm.
    """
    key = signing_key(state_dir)
    _verified(folder, key)
    try_out(folder, state_dir, artefact_hash(folder))
    return load_model(folder, key)


def signing_key(state_dir: Path) -> bytes:
    """`TENURE_SIGNING_KEY`, else a key made once beside the state, readable by its owner alone."""
    if given := os.environ.get("TENURE_SIGNING_KEY"):
        return given.encode()
    return kept_secret(state_dir / "signing.key")


def golden_rows(rows: pd.DataFrame, booster: Booster, features: Sequence[str]) -> pd.DataFrame:
    """Evenly spaced training rows with the raw scores that every later load must reproduce to the last bit."""
    picked = rows.loc[:, list(features)].iloc[:: max(1, len(rows) // GOLDEN_ROWS)].reset_index(drop=True)
    raw = booster.predict(picked.to_numpy(dtype=np.float64), raw_score=True, num_threads=1)
    return picked.assign(raw_score=np.asarray(raw))


def _verified(folder: Path, key: bytes | None) -> dict[str, bytes]:
    _refuse_strangers(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        contents = {name: (folder / name).read_bytes() for name in FILES}
        hashes, signature = dict(manifest["files"]), str(manifest["hmac"]).encode()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"The model in {folder} must hold {MANIFEST} and {list(FILES)}; {error}. Train again or roll back."
        ) from error
    found = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    changed = sorted(name for name in {*hashes, *found} if hashes.get(name) != found.get(name))
    if changed:
        raise ConfigurationError(
            f"The model in {folder} must be as it was signed; found {changed} changed. Train again or roll back."
        )
    if key is not None and not hmac.compare_digest(_signature(found, key).encode(), signature):
        raise ConfigurationError(
            f"The model in {folder} must be signed with this company's key; found another signature. "
            "Set TENURE_SIGNING_KEY to the key it was trained with, or train again."
        )
    return contents


def _refuse_strangers(folder: Path) -> None:
    """Nothing may lie beside the files of an artefact, and none may be a link: nobody asked for it or signed it."""
    known = {MANIFEST, *FILES}
    strange = sorted(
        path.name for path in folder.glob("*") if path.name not in known or not path.is_file() or path.is_symlink()
    )
    if strange or folder.is_symlink():
        raise ConfigurationError(
            f"The model in {folder} must hold plain files {sorted(known)} and nothing else; found {strange[:5]}. "
            "It was not made by `tenure train`: delete it, train again or roll back."
        )


def _signature(hashes: Mapping[str, str], key: bytes) -> str:
    return hmac.new(key, _json(dict(hashes)), hashlib.sha256).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()


def _parquet(rows: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), sink)
    return sink.getvalue()
