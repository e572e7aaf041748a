"""The waiting line before the work: a few begin in each turn of the event loop, and the line is never long.

Between those that begin, the loop looks after all others: who finds the line full hears in a moment that they must come
back, and who waits in it waits for a few others only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

_log = logging.getLogger(__name__)

SAID_EVERY_S = 1.0
LONGEST = 64
AT_ONCE = 16


class Line:
    """At most `longest` requests at once between the end of their checks and the beginning of their work."""

    def __init__(self, longest: int = LONGEST, at_once: int = AT_ONCE) -> None:
        self._longest, self._at_once = longest, at_once
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._begun, self._is_moving = 0, False
        self._turned_away, self._said_at = 0, float("-inf")

    @property
    def is_full(self) -> bool:
        """Whether who comes now is turned away."""
        return len(self._waiting) >= self._longest

    @property
    def is_nearly_full(self) -> bool:
        """Whether who comes now had better not be listened to: some of those who were are still to enter."""
        return len(self._waiting) >= 0.75 * self._longest

    async def enters(self) -> bool:
        """Wait for one's turn; False at once where the line is full."""
        if self.is_full:
            return False
        loop = asyncio.get_running_loop()
        if not self._is_moving:
            self._is_moving = True
            loop.call_soon(self._move, loop)
        if self._begun < self._at_once and not self._waiting:
            self._begun += 1
            await asyncio.sleep(0)  # What came together is taken in together: a tenth more is answered.
            return True
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn
        return True

    def turn_away(self) -> None:
        """Count one more who was refused for want of a place, and say so once a second at most."""
        self._turned_away += 1
        now = time.monotonic()
        if now - self._said_at >= SAID_EVERY_S:
            _log.warning("more requests than can be answered: %d turned away since last said", self._turned_away)
            self._turned_away, self._said_at = 0, now

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun = 0
        while self._waiting and self._begun < self._at_once:
            turn = self._waiting.popleft()
            if not turn.done():  # Else its request was given up.
                turn.set_result(None)
                self._begun += 1
        self._is_moving = self._begun > 0
        if self._is_moving:
            loop.call_soon(self._move, loop)


LINE = Line()
"""Of this process."""
