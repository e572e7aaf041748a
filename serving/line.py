"""The waiting line before the work: those who would wait too long are turned away at once, and cheaply.

Requests that came while the event loop was busy all begin together when it is free again. Each gives way once before
its work is done, so that all of them are counted first: the many beyond the line hear in a moment that they must come
back, and the few in it wait for a few others only.
"""

from __future__ import annotations

import asyncio
import logging
import time

_log = logging.getLogger(__name__)

SAID_EVERY_S = 1.0


class Line:
    """At most `longest` requests at once between the end of their checks and the beginning of their work."""

    def __init__(self, longest: int) -> None:
        self._longest, self._waiting = longest, 0
        self._turned_away, self._said_at = 0, float("-inf")

    async def enters(self) -> bool:
        """Wait until all who came together are counted; False at once where the line is full."""
        if self._waiting >= self._longest:
            return False
        self._waiting += 1
        try:
            await asyncio.sleep(0)
        finally:
            self._waiting -= 1
        return True

    def turn_away(self) -> None:
        """Count one more who was refused for want of a place, and say so once a second at most."""
        self._turned_away += 1
        now = time.monotonic()
        if now - self._said_at >= SAID_EVERY_S:
            _log.warning("more requests than can be answered: %d turned away since last said", self._turned_away)
            self._turned_away, self._said_at = 0, now
