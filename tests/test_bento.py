"""A bento: the champion inside, run by stock `bentoml serve` without a registry, refusing what the service refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime

import httpx
import pytest

from features.settings import read_settings
from serving.access import token_store
from serving.champion import load_champion
from tests.servers import BENTOML, TENURE, free_port, running

# BentoML 1.4 uses older parts of pathspec and pydantic, and says so when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def company(trained_world, tmp_path):
    shutil.copytree(trained_world, tmp_path / "world")
    return read_settings(tmp_path / "world" / "tenure.toml")


def test_what_is_put_into_a_bento_is_complete_and_holds_no_key_and_no_table(company, tmp_path):
    from serving.bento import stage
    from serving.service import BUNDLED

    champion = load_champion(company)
    stage(company, champion.artefact, tmp_path / "staged")
    inside = tmp_path / "staged" / BUNDLED.parent.name
    found = read_settings(inside / "tenure.toml")

    assert found.tables == {}
    assert found.label.horizon_days == company.label.horizon_days
    assert not list(inside.rglob("signing.key"))
    assert not list(inside.rglob("*.csv"))
    assert (inside / ".tenure" / "models" / champion.artefact / "model.txt").is_file()
    assert (tmp_path / "staged" / "serving" / "service.py").is_file()
    assert (tmp_path / "staged" / "serving" / "console" / "templates" / "list.html").is_file()


@pytest.mark.long("a minute of building and starting")
def test_a_bento_answers_without_registry_and_asks_for_a_token(company, tmp_path):
    _, secret = token_store(company).create(role="ds", now=datetime.now(UTC))
    home = {**os.environ, "BENTOML_HOME": str(tmp_path / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    built = subprocess.run(
        [TENURE, "bento", "--json", f"--config={company.path}"], capture_output=True, text=True, check=False, env=home
    )
    assert built.returncode == 0, built.stderr
    tag = json.loads(built.stdout)["tag"]
    key = (company.state_dir / "signing.key").read_text()
    shutil.rmtree(company.path.parent)
    port = free_port()
    command = [BENTOML, "serve", tag, "--host=127.0.0.1", f"--port={port}"]
    variables = {"BENTOML_HOME": home["BENTOML_HOME"], "TENURE_SIGNING_KEY": key}
    body = {"rows": [{"account_id": "a", "features": {"tenure_days": 400}}], "partial": True}
    with running(command, port, tmp_path / "log", **variables) as base:
        stranger = httpx.post(f"{base}/v1/score", json=body)
        known = httpx.post(f"{base}/v1/score", json=body, headers={"authorization": f"Bearer {secret}"})

    assert stranger.status_code == 401
    assert (known.status_code, known.json()["model_version"]) == (200, "1")
