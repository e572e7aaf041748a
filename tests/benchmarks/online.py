"""Online: one row of features at a time over HTTP, beside a bare Starlette around the booster on the same machine.

`wrk` sends the requests where it is installed; otherwise threads of Python do, which take a core of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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

SECONDS, ROUNDS = 4, 5

_BARE = """
import sys
import numpy as np, orjson, uvicorn
from lightgbm import Booster
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
booster = Booster(model_file=sys.argv[1]); names = booster.feature_name()
async def score(request):
    row = orjson.loads(await request.body())["rows"][0]["features"]
    matrix = np.array([[row[name] if row[name] is not None else np.nan for name in names]])
    said = {"probability": float(booster.predict(matrix, num_threads=1)[0])}
    return Response(orjson.dumps(said), media_type="application/json")
async def ready(_): return JSONResponse({})
routes = [Route("/v1/score", score, methods=["POST"]), Route("/readyz", ready)]
uvicorn.run(Starlette(routes=routes), port=int(sys.argv[2]), log_level="error")
"""


def benchmark(folder: Path) -> bool:
    """Both get the same bodies, in turns: the ratio of a round is of neighbours. Client and server share two cores."""
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
    with _serving([sys.executable, "-c", _BARE, str(artefact)]) as bare, _serving(tenure) as ours:
        rounds = [
            {(name, connections): _load(port, bodies, headers, connections)
             for connections in (1, 16) for name, port in (("bare", bare), ("tenure", ours))}
            for _ in range(ROUNDS)
        ]  # fmt: skip

    def median(of: Callable[[dict[tuple[str, int], tuple[float, float]]], float]) -> float:
        return float(np.median([of(each) for each in rounds]))

    rows_told = []
    for asked in rounds[0]:
        said = f"{asked[0]}, {asked[1]} connections"
        rows_told += [
            figure(said, median(lambda each: each[asked][0]), "1/s"),  # noqa: B023
            figure(f"{said}, 99th percentile", 1000 * median(lambda each: each[asked][1]), "ms"),  # noqa: B023
        ]
    rate = median(lambda each: each["tenure", 16][0] / each["bare", 16][0])
    slowest = median(lambda each: each["tenure", 16][1] / each["bare", 16][1])
    rows_told += [
        at_least("tenure / bare at 16 connections", rate, 0.6),
        at_most("99th percentile, tenure / bare at 16", slowest, 2.0),
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
    """Requests a second and the 99th percentile of their times in seconds, over kept connections."""
    if wrk := shutil.which("wrk"):
        return _load_by_wrk(wrk, port, bodies, headers, connections)
    return _load_by_threads(port, bodies, headers, connections)


def _load_by_wrk(
    wrk: str, port: int, bodies: list[bytes], headers: dict[str, str], connections: int
) -> tuple[float, float]:
    sent = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
    kept = ", ".join(f"[==[{body.decode()}]==]" for body in bodies)
    script = f"""
wrk.method = "POST"
{sent}
local bodies, number = {{{kept}}}, 0
request = function() number = number % #bodies + 1; return wrk.format(nil, nil, nil, bodies[number]) end
done = function(summary, latency)
    local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
    io.write(string.format("told %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(99), bad))
end
"""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        url = f"http://127.0.0.1:{port}/v1/score"
        command = [wrk, "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", file.name, url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    told = next(line for line in said.splitlines() if line.startswith("told "))
    requests, duration, slowest, bad = (int(word) for word in told.split()[1:])
    assert bad == 0, f"{bad} of {requests} requests failed"
    return requests / (duration / 1e6), slowest / 1e6


def _load_by_threads(port: int, bodies: list[bytes], headers: dict[str, str], connections: int) -> tuple[float, float]:
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
