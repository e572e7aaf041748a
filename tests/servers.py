"""Real servers for the tests: started on a free port, ended with all that they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

TENURE, BENTOML, MLFLOW = (Path(sys.executable).with_name(name) for name in ("tenure", "bentoml", "mlflow"))


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def running(command, port, log, started=None, **variables):
    """The base address of a server that is ready; it and all it started end with the block.

    Its process is put into `started`, for a test that ends it itself.
    """
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", **variables}
    base = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        if started is not None:
            started.append(server)
        try:
            wait_until_ready(server, base, log)
            yield base
        finally:
            for process in [*descendants(server.pid), server.pid] if server.poll() is None else ():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            server.wait()


def descendants(parent):
    """The processes below `parent`: BentoML's workers outlive their master."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        yield from (int(child), *descendants(child))


def wait_until_ready(server, base, log, seconds=90):
    for _ in range(seconds * 5):
        assert server.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            if httpx.get(f"{base}/readyz").status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"not ready after {seconds} seconds: {log.read_text()}")


@contextmanager
def mlflow_server(store, folder, workers=1):
    """The address and the process of an `mlflow server` that answers; it and all it started end with the block."""
    port = free_port()
    command = [
        MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers),
        "--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    log = folder / "mlflow.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
        try:
            wait_until_healthy(server, port, log)
            yield f"http://127.0.0.1:{port}", server
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_until_healthy(server, port, log, seconds=180):
    for _ in range(seconds * 2):
        assert server.poll() is None, log.read_text()[-3000:]
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                return
        time.sleep(0.5)
    raise AssertionError(f"no answer within {seconds} seconds: {log.read_text()[-3000:]}")
