"""Metrics and the request log: counted by route, status and error code, and never by account, owner or caller.

With several workers `tenure serve` makes a folder in which their counts meet.
"""

from __future__ import annotations

import json
import logging
import os
from functools import cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)  # fmt: skip
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response

from serving.guard import Observed

COUNTS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which the counts of several workers meet."""

_log = logging.getLogger("tenure.requests")

REQUESTS = Counter("tenure_requests_total", "Requests by route, method and status.", ("route", "method", "status"))
SECONDS = Histogram(
    "tenure_request_seconds", "Time to the end of the answer.", ("route",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip
ROWS = Counter("tenure_rows_total", "Rows by what became of them: scored, or the code of their error.", ("outcome",))
SWAP_FAILED = Gauge(
    "tenure_champion_swap_failed", "1 while a newer champion could not be taken.", multiprocess_mode="livemax"
)
LIST_AGE = Gauge("tenure_list_age_days", "Days since the instant of the latest list.", multiprocess_mode="livemax")
WORKERS = Gauge("tenure_workers_alive", "Workers that answer.", multiprocess_mode="livesum")


# Looking a label up costs more than counting; there are as many as routes, methods and statuses.
requests_of, _seconds_of = cache(REQUESTS.labels), cache(SECONDS.labels)


def observe(seen: Observed) -> None:
    """Count one request and write its line."""
    requests_of(seen.route, seen.method, seen.status).inc()
    _seconds_of(seen.route).observe(seen.seconds)
    if not _log.isEnabledFor(logging.INFO):
        return
    line = {
        "request_id": seen.request_id, "route": seen.route, "method": seen.method, "status": seen.status,
        "ms": round(1000 * seen.seconds, 1), "token": seen.token_id,
    }  # fmt: skip
    _log.info(json.dumps(line))


def metrics() -> Response:
    """All counts in the text format of Prometheus."""
    registry: CollectorRegistry = REGISTRY
    if os.environ.get(COUNTS_VARIABLE):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
