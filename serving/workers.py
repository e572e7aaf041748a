"""Several workers behind one port: the dead are replaced and no longer counted; a service that stays short gives up.

Uvicorn's supervisor starts a dead worker again, but leaves its counts among those of the living, ends everything when
one new worker cannot start, and calls that a success.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import time
from contextlib import suppress
from pathlib import Path
from socket import socket

from prometheus_client.multiprocess import mark_process_dead
from uvicorn import Config
from uvicorn._subprocess import subprocess_started
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from features.errors import DependencyDown

_log = logging.getLogger(__name__)

SHORT_S = 30.0
"""Seconds in which all workers must answer again."""
LEAVING_S = 5.0
"""Seconds from the first 503 of `/readyz` to the end, for whoever sends the requests to turn elsewhere."""
SHORT = "short-of-workers"
"""A file beside the counts while the service is about to give up."""


_COPIES = multiprocessing.get_context("forkserver")
_IMPORTED = "serving.server"


class Worker(Process):
    """A worker that begins as a copy of a process with everything imported: it answers in a moment."""

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        given = {"config": config, "target": self.target, "sockets": sockets, "stdin_fileno": None}
        self.process = _COPIES.Process(target=subprocess_started, kwargs=given)  # type: ignore[assignment]

    def _healthcheck(self, timeout: float) -> bool | None:
        """As uvicorn's, but one that dies while it is asked is not waited for."""
        end = time.monotonic() + timeout
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            self.parent_conn.send(b"ping")
            while self.process.is_alive() and time.monotonic() < end:
                if self.parent_conn.poll(0.1):
                    return bool(self.parent_conn.recv())
        return None


class Workers(Multiprocess):
    """The workers of one service; `counts` is the folder in which their metrics meet."""

    def __init__(self, config: Config, sockets: list[socket], *, counts: Path) -> None:
        super().__init__(config, sockets)
        self._counts = counts
        self._whole_at: float | None = None
        """When all workers were last seen to answer; a first start may take as long as it takes."""
        self._said_at: float | None = None
        """When `/readyz` was told that the service is about to give up."""
        self.gave_up = False

    def init_processes(self) -> None:
        """Start all workers."""
        self.processes = [self._started() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Replace who died or hangs; give up where that has not helped for `SHORT_S`."""
        if self.should_exit.is_set():
            return
        patience = self.config.timeout_worker_healthcheck
        for place, worker in enumerate(self.processes):
            if not worker.is_alive(timeout=patience) and not self._is_stillborn(worker):
                self.processes[place] = self._replaced(worker)
        if all(worker.is_ready(timeout=patience) for worker in self.processes):
            self._whole_at = time.monotonic()
            self._said_at = None
            (self._counts / SHORT).unlink(missing_ok=True)
        if self._whole_at is not None:
            self._judge(self._whole_at, time.monotonic())
        elif any(self._is_stillborn(worker) for worker in self.processes):
            self._give_up()

    def _replaced(self, worker: Process) -> Process:
        worker.kill()  # One that hangs is still there.
        worker.join()
        if worker.pid is not None:
            mark_process_dead(worker.pid, self._counts)  # type: ignore[no-untyped-call]
        _log.warning("worker %s ended with %s; another one starts", worker.pid, worker.exitcode)
        return self._started()

    def _started(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker

    def _is_stillborn(self, worker: Process) -> bool:
        return self._whole_at is None and worker.exitcode == STARTUP_FAILURE

    def _judge(self, whole_at: float, now: float) -> None:
        if self._said_at is None and now - whole_at >= SHORT_S:
            (self._counts / SHORT).touch()
            self._said_at = now
        # From when it was said: one look at all workers may have taken many seconds.
        elif self._said_at is not None and now - self._said_at >= LEAVING_S:
            self._give_up()

    def _give_up(self) -> None:
        self.gave_up = True
        self.should_exit.set()


def run_workers(config: Config, *, counts: Path) -> None:
    """Serve with several workers until stopped.

    Raises
    ------
    DependencyDown
        A worker could not start, or not all of them answered for longer than `SHORT_S`.
    """
    _COPIES.set_forkserver_preload([_IMPORTED])
    workers = Workers(config, [config.bind_socket()], counts=counts)
    workers.run()
    if workers.gave_up:
        raise DependencyDown(
            f"All {config.workers} workers must start, and be back within {SHORT_S:g} seconds; some were not. "
            "The log says why they ended; start tenure again when that is mended."
        )


def is_short(counts: Path) -> bool:
    """Whether the service whose metrics meet in `counts` is about to give up."""
    return (counts / SHORT).exists()
