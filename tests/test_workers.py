"""Workers that die: others take over, no client is left without an answer, and the counts tell the truth."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from serving.access import token_store
from serving.workers import LEAVING_S, SHORT_S
from tests.load import Client, open_loop, request, statuses, unlimited
from tests.servers import TENURE, descendants, free_port, running

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
ROUNDS, RATE = (10, 50) if FULL else (1, 20)
BACK_ONE_S, BACK_ALL_S = (10, 15) if FULL else (60, 60)
"""Within which workers are back; the reduced test runs beside others."""
WARM_S = 3 if FULL else 1
"""Of requests before a kill: what is slow once shall not be in flight."""
ROW = {"rows": [{"account_id": "a", "features": {"tenure_days": 400}}], "partial": True}


@pytest.fixture
def company(trained_world, tmp_path):
    return unlimited(shutil.copytree(trained_world, tmp_path / "world") / "tenure.toml")


@pytest.fixture
def secret(company):
    return token_store(company).create(role="admin", now=datetime.now(UTC))[1]


@pytest.fixture
def server(company, secret, tmp_path):
    """Port and process of a service with two workers that both answer."""
    port, started = free_port(), []
    command = [TENURE, "serve", f"--port={port}", "--workers=2", f"--config={company.path}"]
    with running(command, port, tmp_path / "log", started):
        assert until(lambda: alive(port, secret) == 2, 90), (tmp_path / "log").read_text()
        yield port, started[0]


def workers_of(server):
    """The processes that answer: copies of one that multiprocessing keeps beside them."""
    kept = [pid for pid in descendants(server.pid) if "forkserver" in Path(f"/proc/{pid}/cmdline").read_text()]
    return [pid for each in kept for pid in descendants(each)]


def alive(port, secret):
    """What /metrics says of the workers; None while nobody answers."""
    with suppress(httpx.TransportError):
        headers = {"authorization": f"Bearer {secret}"}
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers, timeout=2).text
        found = re.search(r"^tenure_workers_alive (\S+)$", text, re.MULTILINE)
        return None if found is None else float(found[1])
    return None


def readiness(port):
    """The status of /readyz; None where the worker that took the connection was killed."""
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code
    return None


def until(holds, seconds):
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


async def killed_under_load(port, server, secret, victims, *, retries):
    """The answers to steady requests during which workers are killed, and the seconds until all were back."""
    client, took = Client(port), []

    def kill():
        known = workers_of(server)
        for pid in known[:victims]:
            os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()

        def is_whole():
            new = set(workers_of(server)) - set(known[:victims])
            return len(new) == 2 and alive(port, secret) == 2

        took.append(time.monotonic() - killed if until(is_whole, 40) else float("inf"))

    # By a kept connection one loses what one sends while the process ends, which takes a moment: a retry is for that.
    content = request("POST", "/v1/score", secret, ROW, **({} if retries else {"connection": "close"}))
    asking = asyncio.create_task(
        open_loop(client, [content], rate=RATE, seconds=20 if victims == 2 else 14, retries=retries)
    )
    await asyncio.sleep(WARM_S)
    await asyncio.to_thread(kill)
    answers = await asking
    await client.close()
    return answers, took[0]


@pytest.mark.parametrize(("victims", "back_s"), [(1, BACK_ONE_S), *([(2, BACK_ALL_S)] if FULL else [])])
def test_killed_workers_come_back_and_are_no_longer_counted(server, secret, victims, back_s):
    port, process = server
    for number in range(ROUNDS):
        retries = number % 2
        answers, took = asyncio.run(killed_under_load(port, process, secret, victims, retries=retries))
        found = statuses(answers)
        print(f"killed {victims}: {dict(found)} with {retries} retries, back after {took:.1f} s")

        # Those who waited while nobody answered come all at once: some of them are asked to come back.
        failed = len(answers) - found[200] - found[429]
        assert failed <= (0 if retries else victims), found
        assert took <= back_s


@pytest.mark.long("minutes of waiting")
def test_a_service_whose_workers_do_not_come_back_says_so_and_ends_with_69(server, company, tmp_path):
    port, process = server
    started = time.monotonic()
    shutil.move(company.path, tmp_path / "away.toml")  # No new worker can start; the one that is left still answers.
    os.kill(workers_of(process)[0], signal.SIGKILL)
    said = until(lambda: readiness(port) == 503, SHORT_S + 15)
    silent_s = time.monotonic() - started
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=LEAVING_S + 15)
    log = (tmp_path / "log").read_text()

    assert said
    assert silent_s >= SHORT_S
    assert process.returncode == 69
    assert "be back within 30 seconds; some were not." in log
