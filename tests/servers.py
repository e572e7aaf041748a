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

TENURE, BENTOML = (Path(sys.executable).with_name(name) for name in ("tenure", "bentoml"))


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
