"""How long one request may be at work: what has not ended by then changes nothing any more.

A thread cannot be stopped, so whoever works for a request asks here before what it did is kept.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from math import inf

_DUE: ContextVar[float] = ContextVar("due", default=inf)


class TooLate(Exception):
    """The caller was told that nothing came of the request."""


def begin(seconds: float) -> None:
    """From now on, whatever works for this request has so many seconds."""
    _DUE.set(time.monotonic() + seconds)


def seconds_left() -> float:
    """Until the deadline of this request; negative after it."""
    return _DUE.get() - time.monotonic()


def require_time_left() -> None:
    """Raise TooLate where the deadline has passed; outside a request there is none."""
    if seconds_left() <= 0:
        raise TooLate
