"""Real servers for the tests: started on a free port, ended with all that they started."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import uvicorn

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


@contextmanager
def serving_app(app):
    """The port of a real server of an ASGI app, in a thread until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


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
    # Of its background jobs we ask nothing; the processes for them take all cores in the first quarter of a minute.
    environment = {
        **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # fmt: skip
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


class Postgres:
    """A PostgreSQL server of its own, on a free port of this machine, with a password."""

    user, password = "tenure", "s3cret-word"

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        word = self.folder / "word"
        word.write_text(self.password)
        self._run("initdb", "-D", "data", "-U", self.user, f"--pwfile={word}", "-A", "scram-sha-256", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """As a machine does that loses its power: nobody is asked, no connection is closed in order."""
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def kill(self) -> None:
        """Every process of the server at once, as the kernel does that is out of memory."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        for process in [first, *descendants(first)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def is_running(self) -> bool:
        ask = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ask, check=False).returncode == 0

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def _run(self, program: str, *arguments: str) -> None:
        # The server refuses to run as root.
        as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        command = [*as_user, str(self.programs / program), *arguments]
        # What the server inherits it keeps open: a pipe would never end.
        with (self.folder / "said").open("w+") as said:
            done = subprocess.run(command, cwd=self.folder, stdout=said, stderr=said, check=False)
            said.seek(0)
            assert done.returncode == 0, said.read()


def postgres_programs() -> Path | None:
    """Where PostgreSQL's programs lie, the newest first; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else (None if on_path is None else Path(on_path).resolve().parent)
