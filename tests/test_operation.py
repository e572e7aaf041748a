"""A service in operation: versions swapped under load, a ledger that goes away, an end in good order, counts."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import mlflow
import pytest

from features.service_settings import LedgerSettings
from features.settings import read_settings
from serving.access import TokenStore, token_store
from serving.ledger import Ledger
from tests.load import Client, request
from tests.servers import TENURE, free_port, mlflow_server, running
from training.tracking import connect

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, of SQLAlchemy and pandas

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
SWAPS, RATE = (20, 50) if FULL else (3, 20)
WITHOUT_MLFLOW_S = 600 if FULL else 60
START_S = 15 if FULL else 60
"""Within which a service starts without its registry; the reduced tests run beside others."""
NOW = datetime.now(UTC)
ROW = {"rows": [{"account_id": "a", "features": {"tenure_days": 400}}], "partial": True}


@pytest.fixture
def company(trained_world, tmp_path):
    """A copy of the company, whose service looks at the alias twice a second and lets a test ask as fast as it can."""
    shutil.copytree(trained_world, tmp_path / "world")
    config = tmp_path / "world" / "tenure.toml"
    config.write_text(config.read_text() + "\n[serve]\nfollow_s = 0.5\nrequests_per_s = 10000\nburst = 10000\n")
    return read_settings(config)


def registry(company):
    return connect(company)


def second_version(company):
    """The first version registered once more."""
    client = registry(company)
    first = client.get_model_version("tenure-churn", "1")
    return client.create_model_version("tenure-churn", first.source, first.run_id, model_id=first.model_id).version


def ask_steadily(base, headers, answers, stop, rate=RATE):
    """An open loop: a request begins every 1/rate seconds, whether the ones before have been answered or not."""
    with httpx.Client(base_url=base, headers=headers, timeout=10) as client, ThreadPoolExecutor(16) as pool:

        def one():
            try:
                found = client.post("/v1/score", json=ROW)
                version = found.json().get("model_version") if found.status_code == 200 else None
                answers.append((found.status_code, version, time.monotonic()))
            except httpx.TransportError as error:
                answers.append((type(error).__name__, None, time.monotonic()))

        following = time.monotonic()
        while not stop.is_set():
            pool.submit(one)
            following += 1 / rate
            time.sleep(max(0.0, following - time.monotonic()))


@contextmanager
def asked_steadily(base, headers):
    """The answers so far, as (status, version, when), of a service that is asked until the block ends."""
    answers, stop = [], threading.Event()
    asking = threading.Thread(target=ask_steadily, args=(base, headers, answers, stop))
    asking.start()
    try:
        yield answers
    finally:
        stop.set()
        asking.join()


def until(holds, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return False


def test_no_request_fails_while_versions_are_swapped_under_load(company, tmp_path, record_property):
    _, secret = token_store(company).create(role="ds", now=NOW)
    headers = {"authorization": f"Bearer {secret}"}
    other, client = second_version(company), registry(company)
    port, moves = free_port(), []
    command = [TENURE, "serve", f"--port={port}", f"--config={company.path}", "--workers=2"]
    with running(command, port, tmp_path / "log") as base, asked_steadily(base, headers) as answers:
        for number in range(SWAPS):
            version = str(other if number % 2 == 0 else 1)
            moves.append((version, time.monotonic()))
            client.set_registered_model_alias("tenure-churn", "champion", version)
            assert until(lambda: answers and answers[-1][1] == version, 20), f"swap {number}: {answers[-1]}"  # noqa: B023
            time.sleep(1)

    slowest = max(seconds_to_change(answers, moves))
    record_property("requests", len(answers))
    record_property("slowest_swap_s", round(slowest, 2))
    assert Counter(status for status, *_ in answers) == {200: len(answers)}
    assert {version for _, version, _ in answers} == {"1", str(other)}
    assert slowest <= 20


def seconds_to_change(answers, moves):
    """Of each move of the alias: until the last answer by another version than it names."""
    ends = [at for _, at in moves[1:]] + [float("inf")]
    for (version, moved), end in zip(moves, ends, strict=True):
        yield max((at - moved for _, said, at in answers if moved <= at < end and said != version), default=0.0)


def test_a_version_that_is_not_as_it_was_signed_is_not_taken_and_said(company, tmp_path):
    _, secret = token_store(company).create(role="admin", now=NOW)
    headers = {"authorization": f"Bearer {secret}"}
    client = registry(company)
    first = client.get_model_version("tenure-churn", "1")
    good = mlflow.artifacts.download_artifacts(first.source)
    shutil.copytree(good, tmp_path / "changed")
    next((tmp_path / "changed").rglob("calibrator.json")).write_text('{"slope": 9.0, "intercept": 0.0}')
    other = client.create_model_version("tenure-churn", str(tmp_path / "changed")).version
    port = free_port()
    with running([TENURE, "serve", f"--port={port}", f"--config={company.path}"], port, tmp_path / "log") as base:
        client.set_registered_model_alias("tenure-churn", "champion", other)
        failed = until(lambda: httpx.get(f"{base}/v1/model", headers=headers).json()["swap"]["failed"], 20)
        answer = httpx.post(f"{base}/v1/score", json=ROW, headers=headers)
        metrics = httpx.get(f"{base}/metrics", headers=headers).text

    assert failed
    assert (answer.status_code, answer.json()["model_version"]) == (200, "1")
    assert "tenure_champion_swap_failed 1.0" in metrics


def test_the_service_starts_and_answers_while_the_registry_is_gone(company, tmp_path):
    _, secret = token_store(company).create(role="ds", now=NOW)
    (company.state_dir / "mlflow.db").unlink()
    shutil.rmtree(company.state_dir / "mlartifacts")
    port = free_port()
    with running([TENURE, "serve", f"--port={port}", f"--config={company.path}"], port, tmp_path / "log") as base:
        found = httpx.post(f"{base}/v1/score", json=ROW, headers={"authorization": f"Bearer {secret}"})

    assert (found.status_code, found.json()["model_version"]) == (200, "1")


def test_the_service_starts_and_answers_while_nobody_listens_where_the_registry_was(company, tmp_path, record_property):
    _, secret = token_store(company).create(role="ds", now=NOW)
    port, start = free_port(), time.monotonic()
    command = [TENURE, "serve", f"--port={port}", f"--config={company.path}"]
    gone = f"http://127.0.0.1:{free_port()}"
    with running(command, port, tmp_path / "log", MLFLOW_TRACKING_URI=gone) as base:
        took = time.monotonic() - start
        found = httpx.post(f"{base}/v1/score", json=ROW, headers={"authorization": f"Bearer {secret}"})

    record_property("start_s", round(took, 2))
    assert (found.status_code, found.json()["model_version"]) == (200, "1")
    assert took <= START_S


@pytest.mark.long("a minute with MLflow's server")
def test_no_request_fails_while_mlflow_is_stopped_and_the_last_champion_comes_back_without_it(
    company, tmp_path, record_property
):
    _, secret = token_store(company).create(role="ds", now=NOW)
    headers = {"authorization": f"Bearer {secret}"}
    other, port = second_version(company), free_port()
    command = [TENURE, "serve", f"--port={port}", f"--config={company.path}"]
    with mlflow_server(f"sqlite:///{company.state_dir / 'mlflow.db'}", tmp_path) as (address, server):
        with (
            running(command, port, tmp_path / "log", MLFLOW_TRACKING_URI=address) as base,
            asked_steadily(base, headers) as answers,
        ):
            mlflow.MlflowClient(address).set_registered_model_alias("tenure-churn", "champion", other)
            assert until(lambda: answers and answers[-1][1] == str(other), 20)
            os.killpg(server.pid, signal.SIGKILL)
            stopped = time.monotonic()
            time.sleep(WITHOUT_MLFLOW_S)
        start = time.monotonic()
        with running(command, port, tmp_path / "log", MLFLOW_TRACKING_URI=address) as base:
            took = time.monotonic() - start
            again = httpx.post(f"{base}/v1/score", json=ROW, headers=headers)

    without = Counter((status, version) for status, version, at in answers if at > stopped)
    record_property("requests_without_mlflow", sum(without.values()))
    record_property("start_s", round(took, 2))
    assert {status for status, *_ in answers} == {200}
    assert without == {(200, str(other)): sum(without.values())}
    assert sum(without.values()) > 0.8 * RATE * WITHOUT_MLFLOW_S
    assert (again.status_code, again.json()["model_version"]) == (200, str(other))
    assert took <= START_S


@pytest.mark.parametrize("round_", range(50 if FULL else 1))
def test_a_start_answers_when_it_is_ready_and_a_stop_lets_what_has_begun_end_and_hangs_nobody(
    company, tmp_path, round_, record_property
):
    _, secret = token_store(company).create(role="ds", now=NOW)
    port, started = free_port(), []
    command = [TENURE, "serve", f"--port={port}", f"--config={company.path}"]
    with running(command, port, tmp_path / "log", started=started):
        asked, stopped = asyncio.run(asked_through_a_stop(started[0], port, request("POST", "/v1/score", secret, ROW)))
        started[0].wait(timeout=15)
        took = time.monotonic() - stopped

    before = [answer.status for begun, answer in asked if begun < stopped - 0.02]
    after = [answer for begun, answer in asked if begun >= stopped - 0.02]
    record_property("stop_s", round(took, 2))
    record_property("after_the_stop", str(Counter(answer.status for answer in after)))
    assert started[0].returncode == 0
    assert took <= 10
    assert set(before) == {200}, "from the first look on, and in flight to the end"
    assert {answer.status for answer in after} <= {200, 503, "ConnectionRefusedError", "ConnectionResetError"}
    assert max(answer.seconds for answer in after) <= (1 if FULL else 5)


async def asked_through_a_stop(process, port, content):
    """When each request began with its answer, and when the service was told to stop."""
    client, tasks, clock = Client(port), [], time.monotonic

    async def ask():
        begun = clock()
        return begun, await client.ask(content)

    async def ask_for(seconds):
        start = clock()
        for number in range(int(seconds * RATE)):
            await asyncio.sleep(max(0.0, start + number / RATE - clock()))
            tasks.append(asyncio.create_task(ask()))

    await ask_for(1.5)
    stopped = clock()
    process.terminate()
    await ask_for(1.5)
    answers = await asyncio.gather(*tasks)
    await client.close()
    return answers, stopped


def test_requests_are_counted_by_route_and_nothing_that_was_asked_for_becomes_a_label(company, tmp_path):
    _, secret = token_store(company).create(role="admin", now=NOW)
    port = free_port()
    rows = [*ROW["rows"], {"account_id": "b", "features": {"mood": 1}}]
    with (
        running([TENURE, "serve", f"--port={port}", f"--config={company.path}"], port, tmp_path / "log") as base,
        httpx.Client(base_url=base, headers={"authorization": f"Bearer {secret}"}) as client,
    ):
        for number in range(300):
            client.get(f"/junk/{number}")
            client.get(f"/v1/accounts/acc-{number:05}")
        client.post("/v1/score", json={**ROW, "rows": rows})
        text = client.get("/metrics").text

    assert 'tenure_requests_total{method="GET",route="unmatched",status="404"} 300.0' in text
    assert 'route="/v1/accounts/{account_id}"' in text
    assert 'tenure_rows_total{outcome="scored"} 1.0' in text
    assert 'tenure_rows_total{outcome="unknown_feature"} 1.0' in text
    assert "acc-00001" not in text
    assert len(text) < 256_000


def test_a_token_that_asks_too_often_is_told_when_to_come_back(company, tmp_path):
    config = company.path
    config.write_text(
        config.read_text().replace("requests_per_s = 10000\nburst = 10000", "requests_per_s = 1\nburst = 3")
    )
    _, secret = token_store(company).create(role="admin", now=NOW)
    _, other = token_store(company).create(role="admin", now=NOW)
    port = free_port()
    with running([TENURE, "serve", f"--port={port}", f"--config={config}"], port, tmp_path / "log") as base:
        found = [httpx.get(f"{base}/v1/lists", headers={"authorization": f"Bearer {secret}"}) for _ in range(5)]
        neighbour = httpx.get(f"{base}/v1/lists", headers={"authorization": f"Bearer {other}"})

    assert [answer.status_code for answer in found] == [200, 200, 200, 429, 429]
    assert int(found[-1].headers["retry-after"]) >= 1
    assert neighbour.status_code == 200


@pytest.mark.long("a service started for it")
def test_a_ledger_on_postgresql_that_goes_away_is_503_and_comes_back(company, postgres, tmp_path):
    config = company.path
    config.write_text(config.read_text() + f'\n[ledger]\nurl = "{postgres.url}"\n')
    settings = replace(company, ledger=LedgerSettings(url=postgres.url))
    ledger = Ledger(postgres.url, settings.state_dir)
    _, secret = TokenStore(ledger).create(role="admin", now=NOW)
    ledger.close()
    port = free_port()
    with running([TENURE, "serve", f"--port={port}", f"--config={config}"], port, tmp_path / "log") as base:
        headers = {"authorization": f"Bearer {secret}"}
        before = httpx.get(f"{base}/v1/lists", headers=headers).status_code
        postgres.stop()
        time.sleep(1.1)
        gone = httpx.get(f"{base}/v1/lists", headers=headers, timeout=15)
        ready, alive = (httpx.get(f"{base}{path}", timeout=15).status_code for path in ("/readyz", "/livez"))
        postgres.start()
        back = until(lambda: httpx.get(f"{base}/v1/lists", headers=headers, timeout=15).status_code == 200, 10)

    assert before == 200
    assert (gone.status_code, ready, alive) == (503, 503, 200)
    assert gone.headers["retry-after"] == "5"
    assert postgres.password not in (tmp_path / "log").read_text()
    assert back
