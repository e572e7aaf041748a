"""Runs and versions in a real `mlflow server` on a real PostgreSQL; and scoring that goes on when both are gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from serving.champion import load_champion
from tests.servers import free_port
from training.tracking import aliases, log_and_register, versions

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, of SQLAlchemy and pandas

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
MLFLOW = Path(sys.executable).with_name("mlflow")


@pytest.fixture
def mlflow_server(postgres, tmp_path, monkeypatch):
    """Its address, in the environment as a company would set it."""
    port = free_port()
    store = postgres.url.replace("postgresql://", "postgresql+psycopg://")
    command = [
        MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", store,
        "--artifacts-destination", str(tmp_path / "artifacts"),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            wait_until_healthy(server, port, tmp_path / "server.log")
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            yield server
        finally:
            os.killpg(server.pid, 9)
            server.wait()


def wait_until_healthy(server, port, log, seconds=180):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer within {seconds} s: {log.read_text()[-3000:]}")


@pytest.mark.skipif(not FULL, reason="a minute until MLflow's server is up: runs in `make test-full`")
def test_a_version_is_registered_found_and_kept_for_when_the_server_is_gone(
    mlflow_server, postgres, generated, trained, tmp_path, monkeypatch
):
    settings = replace(generated[0], state_dir=tmp_path / ".tenure")
    settings.state_dir.mkdir()

    made = log_and_register(trained, settings)

    assert (made.version, made.alias) == ("1", "champion")
    assert aliases(settings) == {"champion": "1"}
    assert [row["artefact"] for row in versions(settings)] == [made.artefact]
    assert load_champion(settings).artefact == made.artefact
    assert not (settings.state_dir / "mlflow.db").exists(), "the company's own server is the only store"

    mlflow_server.kill()
    mlflow_server.wait()
    postgres.stop()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")

    assert load_champion(settings).artefact == made.artefact
