"""`tenure serve`: the service under our own uvicorn, the guard outermost.

BentoML's own server opens a control port on this machine that anyone here could use; uvicorn does not.
"""

from __future__ import annotations

import os
import tempfile
from datetime import datetime

import uvicorn
from starlette.types import ASGIApp

from features.errors import ConfigurationError
from features.settings import Settings
from serving.access import token_store
from serving.champion import load_champion
from serving.problems import OneErrorShape, Readiness
from serving.service import CONFIG_VARIABLE, guarded, not_ready, service

MAX_CONNECTIONS = 256


def app() -> ASGIApp:
    """The guarded service of one worker."""
    return guarded(Readiness(OneErrorShape(service.to_asgi()), not_ready))


def serve(settings: Settings, *, host: str, port: int, workers: int, now: datetime) -> None:
    """Serve until stopped.

    Raises
    ------
    ConfigurationError
        Nobody holds a token yet, or there is no champion to answer with.
    """
    if token_store(settings).is_empty(now):
        raise ConfigurationError(
            "Somebody must hold a token before tenure serves; found none. "
            f"Make one: tenure token create --role admin --config {settings.path}"
        )
    load_champion(settings)
    os.environ[CONFIG_VARIABLE] = str(settings.path)
    if workers > 1:  # Where the counts of all workers meet.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="tenure-metrics-")
    uvicorn.run(
        "serving.server:app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
        server_header=False,
        log_level="warning",
    )
