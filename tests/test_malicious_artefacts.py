"""Artefacts with code inside are refused before anything is parsed, and none of the code runs (G1)."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from features.errors import ConfigurationError
from training.model import MANIFEST, _json, _signature, load_tried_model, save_model, signing_key
from training.trial import try_out

ROOT = Path(__file__).parent.parent


class Payload:
    """Leaves a canary where it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def pickled(name):
    def plant(folder, canary):
        (folder / name).write_bytes(pickle.dumps(Payload(canary)))

    return plant


def loader_module(folder, canary):
    (folder / "code").mkdir()
    (folder / "code" / "loader.py").write_text(f"import os; os.mkdir({str(canary)!r})")
    (folder / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: loader\n    code: code\n")


def outside_data(path):
    def plant(folder, canary):
        (folder / "MLmodel").write_text(f"flavors:\n  python_function:\n    data: {path}\n    loader_module: os\n")

    return plant


def link(folder, canary):
    (folder / "card.md").unlink()
    (folder / "card.md").symlink_to("/etc/hostname")


def archive(folder, canary):
    with tarfile.open(folder / "model.tar", "w") as tar:
        info = tarfile.TarInfo("../../canary")
        tar.addfile(info)


def bomb(folder, canary):
    (folder / "golden.zip").write_bytes(b"PK\x03\x04" + bytes(100_000))


def model_is_a_pickle(folder, canary):
    (folder / "model.txt").write_bytes(pickle.dumps(Payload(canary)))


def trusted_types(folder, canary):
    (folder / "contract.json").write_text(json.dumps({"skops_trusted_types": ["os.system"], "features": []}))


PLANTS = {
    "pickle": pickled("python_model.pkl"),
    "cloudpickle": pickled("model.cloudpickle"),
    "joblib": pickled("model.joblib"),
    "custom objects": pickled("custom_objects.pkl"),
    "a pickle in a file we know": model_is_a_pickle,
    "loader module": loader_module,
    "data outside": outside_data("../../x"),
    "data at an absolute path": outside_data("/etc/passwd"),
    "link": link,
    "archive that climbs": archive,
    "bomb": bomb,
    "types that trust themselves": trusted_types,
}


@pytest.fixture(scope="module")
def good(trained, tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    save_model(trained.model, state / "artefact", signing_key(state))
    return state


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_code_in_an_artefact_is_refused_and_never_runs(good, plant, tmp_path):
    folder = Path(shutil.copytree(good / "artefact", tmp_path / "artefact"))
    canary = tmp_path / "canary"
    plant(folder, canary)

    with pytest.raises(ConfigurationError, match=r"must (hold plain files|be as it was signed)"):
        load_tried_model(folder, good)
    assert not canary.exists()


def test_an_unchanged_artefact_is_loaded_after_a_trial(good):
    assert load_tried_model(good / "artefact", good).features
    assert list((good / "tried").iterdir())


def resigned(good, folder, name, content):
    """An artefact whose file was replaced and whose hashes and signature are right again: by a thief of the key."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    manifest["hmac"] = _signature(manifest["files"], signing_key(good))
    (folder / MANIFEST).write_bytes(_json(manifest))


@pytest.mark.parametrize("seed", range(3))
def test_a_malformed_model_with_right_hashes_kills_a_child_and_not_us(good, tmp_path, seed):
    folder = Path(shutil.copytree(good / "artefact", tmp_path / "artefact"))
    text = bytearray((folder / "model.txt").read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(text), 200):
        text[place] ^= 1 << int(rng.integers(0, 7))
    resigned(good, folder, "model.txt", bytes(text))

    with pytest.raises(ConfigurationError, match="must load and score as it did when it was made"):
        load_tried_model(folder, good)


def test_a_leaf_that_moved_by_a_hundredth_is_found(good, tmp_path):
    folder = Path(shutil.copytree(good / "artefact", tmp_path / "artefact"))
    lines = (folder / "model.txt").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("leaf_value="))
    values = [float(value) * 1.01 for value in lines[at].removeprefix("leaf_value=").split()]
    lines[at] = "leaf_value=" + " ".join(map(repr, values))
    resigned(good, folder, "model.txt", ("\n".join(lines) + "\n").encode())

    with pytest.raises(ConfigurationError, match=r"scores its golden rows otherwise|ended a process"):
        load_tried_model(folder, good)


def test_a_model_that_went_well_is_not_tried_again(good, monkeypatch):
    load_tried_model(good / "artefact", good)
    monkeypatch.setattr(subprocess, "run", lambda *given, **options: pytest.fail("it was tried again"))

    load_tried_model(good / "artefact", good)


def test_a_child_that_scores_otherwise_says_so_by_its_exit_code(good):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "training.trial", str(good / "artefact")], cwd=ROOT, check=False
    )

    assert done.returncode == 0
    with pytest.raises(ConfigurationError, match="must load and score"):
        try_out(good / "nothing", good, "no digest")
