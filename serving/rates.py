"""How often a caller may ask: a bucket of requests per token that fills up again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from serving.access import Token


class Rates:
    """`per_second` requests of each token in the long run, `burst` at once."""

    def __init__(self, *, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, token: Token) -> float | None:
        """Count one request; the seconds to wait where the bucket is empty, else None."""
        with self._lock:
            now = self._clock()
            left, then = self._left.pop(token.id, (float(self._burst), now))
            left = min(float(self._burst), left + (now - then) * self._per_second)
            self._left[token.id] = (left - 1 if left >= 1 else left, now)
            while len(self._left) > 10_000:
                self._left.popitem(last=False)  # The one that asked longest ago: its bucket is full by now.
            return None if left >= 1 else (1 - left) / self._per_second
