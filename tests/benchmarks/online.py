"""Online: one row of features at a time over HTTP, beside a bare Starlette around the booster on the same machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from features.settings import Settings
from serving.access import token_store
from serving.champion import load_champion
from tests.benchmarks.served import served_company
from tests.benchmarks.table import at_least, at_most, figure, report

SECONDS = 8

_BARE = """
import json, sys
from pathlib import Path
import numpy as np, uvicorn
from lightgbm import Booster
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
booster = Booster(model_file=sys.argv[1]); names = booster.feature_name()
async def score(request):
    row = json.loads(await request.body())["rows"][0]["features"]
    matrix = np.array([[row[name] if row[name] is not None else np.nan for name in names]])
    return JSONResponse({"probability": float(booster.predict(matrix, num_threads=1)[0])})
async def ready(_): return JSONResponse({})
routes = [Route("/v1/score", score, methods=["POST"]), Route("/readyz", ready)]
uvicorn.run(Starlette(routes=routes), port=int(sys.argv[2]), log_level="error")
"""


def benchmark(folder: Path) -> bool:
    """Both get the same bodies; client and server share the machine's two cores."""
    settings = served_company(folder / "console", accounts=5_000, events=1_000_000)
    _raise_the_rate(settings)
    champion = load_champion(settings)
    _, secret = token_store(settings).create(role="ds", now=datetime.now(UTC), days=1)
    golden = champion.model.golden[list(champion.model.features)]
    rows = golden.astype(object).where(golden.notna(), None).to_dict("records")
    bodies = [json.dumps({"rows": [{"account_id": "a", "features": row}]}).encode() for row in rows]
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    artefact = settings.state_dir / "models" / champion.artefact / "model.txt"
    tenure = [Path(sys.executable).with_name("tenure"), "serve", f"--config={settings.path}", "--port"]
    rows_told, found = [], {}
    for name, command in (("bare", [sys.executable, "-c", _BARE, str(artefact)]), ("tenure", tenure)):
        with _serving(command) as port:
            for connections in (1, 16):
                rate, slowest = _load(port, bodies, headers, connections)
                found[name, connections] = rate
                rows_told += [
                    figure(f"{name}, {connections} connections", rate, "1/s"),
                    figure(f"{name}, {connections} connections, 99th percentile", 1000 * slowest, "ms"),
                ]
                found[name, connections, "p99"] = slowest
    rows_told += [
        at_least("tenure / bare at 16 connections", found["tenure", 16] / found["bare", 16], 0.6),
        at_most("99th percentile, tenure / bare at 16", found["tenure", 16, "p99"] / found["bare", 16, "p99"], 2.0),
    ]
    return report("online", rows_told)


def _raise_the_rate(settings: Settings) -> None:
    text = settings.path.read_text()
    if "[serve]" not in text:
        settings.path.write_text(text + "\n[serve]\nrequests_per_s = 100000\nburst = 100000\n")


@contextmanager
def _serving(command: list[str | Path]) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([*command, str(port)], env=os.environ | {"BENTOML_DO_NOT_TRACK": "True"})
    try:
        for _ in range(600):
            if _is_ready(port):
                break
            time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait()


def _is_ready(port: int) -> bool:
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def _load(port: int, bodies: list[bytes], headers: dict[str, str], connections: int) -> tuple[float, float]:
    """Requests a second and the 99th percentile of their times, over kept connections."""
    taken: list[float] = []
    end = time.perf_counter() + SECONDS

    def ask() -> None:
        connection, number = HTTPConnection("127.0.0.1", port, timeout=10), 0
        while time.perf_counter() < end:
            start = time.perf_counter()
            connection.request("POST", "/v1/score", bodies[number % len(bodies)], headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            taken.append(time.perf_counter() - start)
            number += 1

    threads = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(taken) / SECONDS, float(np.quantile(taken, 0.99))
