"""`tenure serve`: the service under our own uvicorn, the guard outermost.

BentoML's own server opens a control port on this machine that anyone here could use; uvicorn does not.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from features.errors import ConfigurationError, DependencyDown
from features.settings import Settings
from serving.access import token_store
from serving.champion import load_champion
from serving.observing import COUNTS_VARIABLE
from serving.problems import OneErrorShape, Readiness
from serving.quick_scores import QuickScores
from serving.service import CONFIG_VARIABLE, answers, guarded, not_ready, score_parts, service
from serving.workers import run_workers

_WRAPS = {"OpenTelemetryMiddleware", "AccessLogMiddleware", "TimeoutMiddleware"}


def app() -> ASGIApp:
    """The guarded service of one worker."""
    typed = Readiness(OneErrorShape(_without_wraps(service.to_asgi())), not_ready)
    # All that was made so far stays: the collector would stop every request to look through it again and again.
    gc.collect()
    gc.freeze()
    return guarded(QuickScores(typed, answer=score_parts))


def _without_wraps(typed: Starlette) -> Starlette:
    """The service without what BentoML puts around it to trace, log and time its requests, which the guard does here.

    Each costs more than the model, and its timer keeps five KiB of every answered request until it would have ended.
    """
    typed.user_middleware = [
        each for each in typed.user_middleware if getattr(each.cls, "__name__", None) not in _WRAPS
    ]
    return typed


def serve(settings: Settings, *, host: str, port: int, workers: int, now: datetime) -> None:
    """Serve until stopped.

    Raises
    ------
    ConfigurationError
        Nobody holds a token yet, or there is no champion to answer with.
    DependencyDown
        The service did not start, or lost workers that did not come back.
    """
    if token_store(settings).is_empty(now):
        raise ConfigurationError(
            "Somebody must hold a token before tenure serves; found none. "
            f"Make one: tenure token create --role admin --config {settings.path}"
        )
    os.environ[CONFIG_VARIABLE] = str(settings.path)
    if workers > 1:
        load_champion(settings)
    else:
        answers()  # Kept for the one worker, which is this process.
    # Stopping is what a stop asks for: uvicorn hands the signal on when all have their answers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = _config(host, port, workers)
    if workers > 1:
        with tempfile.TemporaryDirectory(prefix="tenure-metrics-") as counts:
            os.environ[COUNTS_VARIABLE] = counts
            run_workers(config, counts=Path(counts))
    else:
        _run_one(config)


def _run_one(config: uvicorn.Config) -> None:
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise DependencyDown("The service must start; the log says why it did not. Start it again when that is mended.")


def _config(host: str, port: int, workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        "serving.server:app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http="serving.connections:Connection",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
        timeout_worker_healthcheck=10,
        server_header=False,
        log_level="warning",
    )
