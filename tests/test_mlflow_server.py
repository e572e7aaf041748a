"""Runs and versions in a real `mlflow server` on a real PostgreSQL; scoring that goes on when both are gone.

And what eight writers log while the database is killed under them.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from serving.champion import load_champion
from tests.servers import mlflow_server
from training.tracking import aliases, log_and_register, versions

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, of SQLAlchemy and pandas

WRITERS, STEPS = 8, 5
UNDISTURBED_S, SETTLED_S, DOWN_S = 15, 3, 2
WORST_CALL_S = 1 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 5


@pytest.fixture
def server(postgres, tmp_path, monkeypatch):
    """Its process; its address is in the environment, as a company would set it."""
    store = postgres.url.replace("postgresql://", "postgresql+psycopg://")
    with mlflow_server(store, tmp_path, workers=2) as (address, process):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield process


@pytest.mark.long("a minute until MLflow's server is up")
def test_a_version_is_registered_found_and_kept_for_when_the_server_is_gone(
    server, postgres, generated, trained, tmp_path
):
    settings = replace(generated[0], state_dir=tmp_path / ".tenure")
    settings.state_dir.mkdir()

    made = log_and_register(trained, settings)

    assert (made.version, made.alias) == ("1", "champion")
    assert aliases(settings) == {"champion": "1"}
    assert [row["artefact"] for row in versions(settings)] == [made.artefact]
    assert load_champion(settings).artefact == made.artefact
    assert not (settings.state_dir / "mlflow.db").exists(), "the company's own server is the only store"

    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    postgres.stop()

    assert load_champion(settings).artefact == made.artefact


@dataclass(frozen=True)
class Written:
    """What writers were told."""

    runs: list[tuple[str, float]] = field(default_factory=list)
    """Each run whose last call was answered, and when."""
    calls: list[tuple[float, float]] = field(default_factory=list)
    """Of each call that was answered well: when it began and when it ended."""
    failed: list[float] = field(default_factory=list)
    """When each other call ended."""

    def call(self, do, *given, **named):
        began = time.monotonic()
        found = do(*given, **named)
        self.calls.append((began, time.monotonic()))
        return found


def write_runs(address, experiment, written, stop):
    """Runs one after the other, each finished once all of it was acknowledged; one that failed is left as it is."""
    client = MlflowClient(address)
    while not stop.is_set():
        try:
            run = written.call(client.create_run, experiment).info.run_id
            for step in range(STEPS):
                written.call(client.log_metric, run, "auc", step / STEPS, step=step)
            written.call(client.set_terminated, run)
            written.runs.append((run, time.monotonic()))
        except MlflowException:
            written.failed.append(time.monotonic())
            time.sleep(0.1)


def finished_runs(client, experiment):
    """Each finished run and the steps of it that are there."""
    found = client.search_runs([experiment], "attributes.status = 'FINISHED'", max_results=50_000)
    return {run.info.run_id: len(client.get_metric_history(run.info.run_id, "auc")) for run in found}


@pytest.mark.long("two minutes with MLflow's server")
def test_no_run_that_was_acknowledged_is_lost_when_the_database_is_killed_under_eight_writers(
    postgres, server, monkeypatch, record_property
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address, written, stop = os.environ["MLFLOW_TRACKING_URI"], Written(), threading.Event()
    experiment = MlflowClient(address).create_experiment("written while the database dies")
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write_runs, address, experiment, written, stop) for _ in range(WRITERS)]
        try:
            time.sleep(UNDISTURBED_S)
            killed = time.monotonic()
            postgres.kill()
            time.sleep(DOWN_S)
            restarted = time.monotonic()
            postgres.start()
            time.sleep(UNDISTURBED_S)
        finally:
            stop.set()
    for writer in writers:
        writer.result()
    finished = finished_runs(MlflowClient(address), experiment)
    recovered = min((end for began, end in written.calls if began > restarted), default=float("inf")) - restarted

    record_property("acknowledged", len(written.runs))
    record_property("failed_calls", len(written.failed))
    record_property("recovery_s", round(recovered, 2))
    settled = [
        end - began for began, end in written.calls if killed - UNDISTURBED_S + SETTLED_S < began and end < killed
    ]
    record_property("calls_before", len(settled))
    record_property("worst_call_before_s", round(max(settled), 2))
    assert [any(at < killed for _, at in written.runs), any(at > restarted for _, at in written.runs)] == [True, True]
    assert written.failed, "nobody noticed the kill"
    assert {run for run, _ in written.runs} - set(finished) == set()
    assert set(finished.values()) == {STEPS}
    assert recovered <= 5
    assert max(settled) <= WORST_CALL_S
