"""Online: one row of features at a time over HTTP, beside a bare Starlette around the booster and two stock servers.

`wrk` sends the requests where it is installed; otherwise threads of Python do, which take a core of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import mlflow
import numpy as np

from features.settings import Settings
from serving.access import token_store
from serving.champion import load_champion
from tests.benchmarks.served import served_company
from tests.benchmarks.table import at_least, at_most, figure, report
from tests.servers import descendants

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

_BENTO = """
import bentoml, numpy as np
from lightgbm import Booster

@bentoml.service
class Scorer:
    def __init__(self): self.booster = Booster(model_file={model!r})

    @bentoml.api
    def predict(self, rows: np.ndarray) -> np.ndarray: return self.booster.predict(rows, num_threads=1)
"""


def benchmark(folder: Path) -> bool:
    """Both get the same bodies, in turns: the ratio of a round is of neighbours. Client and server share two cores."""
    settings = served_company(folder / "console", accounts=5_000, events=1_000_000)
    _raise_the_rate(settings)
    with ExitStack() as stack:
        asked = {
            name: (server, stack.enter_context(_serving(server)))
            for name, server in _servers(settings, folder / "console").items()
        }
        rounds = [
            {
                (name, connections): _load(*given, connections)
                for connections in (1, 16)
                for name, given in asked.items()
            }
            for _ in range(ROUNDS)
        ]

    rows_told = []
    for name, connections in rounds[0]:
        found = [each[name, connections] for each in rounds]
        said = f"{name}, {connections} connections"
        rows_told += [
            figure(said, float(np.median([rate for rate, _ in found])), "1/s"),
            figure(f"{said}, 99th percentile", 1000 * float(np.median([slowest for _, slowest in found])), "ms"),
        ]
    rows_told += [
        at_least("tenure / bare at 16 connections", _beside(rounds, "bare", 0), 0.6),
        at_least("tenure / mlflow models serve at 16", _beside(rounds, "mlflow models serve", 0), 4.0),
        at_least("tenure / BentoML's quick start at 16", _beside(rounds, "BentoML's quick start", 0), 4.0),
        at_most("99th percentile, tenure / bare at 16", _beside(rounds, "bare", 1), 2.0),
    ]
    return report("online", rows_told)


def _beside(rounds: list[dict[tuple[str, int], tuple[float, float]]], peer: str, place: int) -> float:
    """Median over the rounds of tenure's figure as a multiple of a peer's: of the rate (0) or the slowest (1)."""
    return float(np.median([each["tenure", 16][place] / each[peer, 16][place] for each in rounds]))


# MLflow starts uvicorn by its name alone.
_ENVIRONMENT = {"BENTOML_DO_NOT_TRACK": "True", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@dataclass(frozen=True)
class _Server:
    """One that is asked: its command without the port, where it takes rows, and what it says when it can."""

    command: Sequence[str | Path]
    path: str
    ready: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str]


def _servers(settings: Settings, folder: Path) -> dict[str, _Server]:
    """The bare one, the two stock servers around the same booster, and ours."""
    champion = load_champion(settings)
    model = settings.state_dir / "models" / champion.artefact / "model.txt"
    golden = champion.model.golden[list(champion.model.features)]
    features = golden.astype(object).where(golden.notna(), None).to_dict("records")
    bodies = [json.dumps({"rows": [{"account_id": "a", "features": row}]}).encode() for row in features]
    # The stock servers take no missing values as JSON; what a value is costs them nothing.
    filled = golden.fillna(0.0)
    arrays = [json.dumps({"rows": [row]}).encode() for row in filled.to_numpy().tolist()]
    frames = [
        json.dumps({"dataframe_split": {"columns": list(filled), "data": [row]}}).encode()
        for row in filled.to_numpy().tolist()
    ]
    (folder / "quick_start.py").write_text(_BENTO.format(model=str(model)))
    shutil.rmtree(folder / "mlflow_model", ignore_errors=True)
    mlflow.lightgbm.save_model(champion.model.booster, folder / "mlflow_model")
    _, secret = token_store(settings).create(role="ds", now=datetime.now(UTC), days=1)
    kind, programs = {"content-type": "application/json"}, Path(sys.executable).parent
    stock = [programs / "mlflow", "models", "serve", "--env-manager=local", "-m", folder / "mlflow_model", "--port"]
    return {
        "bare": _Server([sys.executable, "-c", _BARE, model], "/v1/score", "/readyz", bodies, kind),
        "mlflow models serve": _Server(stock, "/invocations", "/ping", frames, kind),
        "BentoML's quick start": _Server(
            [programs / "bentoml", "serve", f"--working-dir={folder}", "quick_start:Scorer", "--port"],
            "/predict", "/readyz", arrays, kind,
        ),
        "tenure": _Server(
            [programs / "tenure", "serve", f"--config={settings.path}", "--port"],
            "/v1/score", "/readyz", bodies, {**kind, "authorization": f"Bearer {secret}"},
        ),
    }  # fmt: skip


def _raise_the_rate(settings: Settings) -> None:
    text = settings.path.read_text()
    if "[serve]" not in text:
        settings.path.write_text(text + "\n[serve]\nrequests_per_s = 100000\nburst = 100000\n")


@contextmanager
def _serving(server: _Server) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*server.command, str(port)], env=os.environ | _ENVIRONMENT)
    try:
        for _ in range(1200):
            if _is_ready(server, port):
                break
            time.sleep(0.1)
        else:
            raise TimeoutError(f"{server.command} is not ready after two minutes")
        yield port
    finally:
        for each in (*descendants(process.pid), process.pid):
            os.kill(each, signal.SIGKILL)
        process.wait()


def _is_ready(server: _Server, port: int) -> bool:
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", server.ready)
        return connection.getresponse().status == 200
    except OSError:
        return False


def _load(server: _Server, port: int, connections: int) -> tuple[float, float]:
    """Requests a second and the 99th percentile of their times in seconds, over kept connections."""
    if wrk := shutil.which("wrk"):
        return _load_by_wrk(wrk, server, port, connections)
    return _load_by_threads(server, port, connections)


def _load_by_wrk(wrk: str, server: _Server, port: int, connections: int) -> tuple[float, float]:
    sent = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in server.headers.items())
    kept = ", ".join(f"[==[{body.decode()}]==]" for body in server.bodies)
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
        url = f"http://127.0.0.1:{port}{server.path}"
        command = [wrk, "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", file.name, url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    told = next(line for line in said.splitlines() if line.startswith("told "))
    requests, duration, slowest, bad = (int(word) for word in told.split()[1:])
    assert bad == 0, f"{bad} of {requests} requests failed"
    return requests / (duration / 1e6), slowest / 1e6


def _load_by_threads(server: _Server, port: int, connections: int) -> tuple[float, float]:
    taken: list[float] = []
    end = time.perf_counter() + SECONDS

    def ask() -> None:
        connection, number = HTTPConnection("127.0.0.1", port, timeout=10), 0
        while time.perf_counter() < end:
            start = time.perf_counter()
            connection.request("POST", server.path, server.bodies[number % len(server.bodies)], dict(server.headers))
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
