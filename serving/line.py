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
TURN_S = 0.01
"""Seconds that a turn of the loop may take: fewer begin in the next one where it took longer."""
PLACES = 64


class Line:
    """At most `longest` requests between the end of their checks and the beginning of their work, `places` at work."""

    def __init__(self, longest: int = LONGEST, at_once: int = AT_ONCE, places: int = PLACES) -> None:
        self._longest, self._most, self._places = longest, at_once, places
        self._at_once, self._turn_began = at_once, 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._coming, self._begun, self._at_work, self._is_moving = 0, 0, 0, False
        self._turned_away, self._said_at = 0, float("-inf")

    @property
    def is_full(self) -> bool:
        """Whether who comes now is turned away."""
        return len(self._waiting) >= self._longest or self._at_work >= self._places

    @property
    def is_nearly_full(self) -> bool:
        """Whether who comes now had better not be listened to: some of those who were are still to enter."""
        before = len(self._waiting) + self._coming
        return before >= 0.75 * self._longest or before + self._at_work >= self._places

    def expect(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count a request that was listened to until it stands in the line: many are, in one turn of the loop."""
        self._coming += 1
        loop.call_soon(self._has_come)  # After the first step of its task, which began before.

    async def enters(self) -> bool:
        """Wait for one's turn and take a place, which `leaves` gives back; False at once where the line is full."""
        if self.is_full:
            return False
        loop, turn = asyncio.get_running_loop(), None
        self._move_on(loop)
        if self._may_begin and not self._waiting:
            self._begin()
        else:
            turn = loop.create_future()
            self._waiting.append(turn)
        try:
            # Who need not wait gives way once too: what came together is taken in together, and a tenth more answered.
            await (asyncio.sleep(0) if turn is None else turn)
        except asyncio.CancelledError:
            if turn is None or not turn.cancelled():
                self.leaves()
            raise
        return True

    def leaves(self) -> None:
        """Give a place back."""
        self._at_work -= 1
        if self._waiting:
            self._move_on(asyncio.get_running_loop())

    def turn_away(self) -> None:
        """Count one more who was refused for want of a place, and say so once a second at most."""
        self._turned_away += 1
        now = time.monotonic()
        if now - self._said_at >= SAID_EVERY_S:
            _log.warning("more requests than can be answered: %d turned away since last said", self._turned_away)
            self._turned_away, self._said_at = 0, now

    def _has_come(self) -> None:
        self._coming -= 1

    @property
    def _may_begin(self) -> bool:
        return self._begun < self._at_once and self._at_work < self._places

    def _begin(self) -> None:
        self._begun += 1
        self._at_work += 1

    def _move_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_moving:
            self._is_moving, self._turn_began = True, loop.time()
            loop.call_soon(self._move, loop)

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        """A turn of the loop: the first in the line begin."""
        is_slow = loop.time() - self._turn_began > TURN_S
        self._at_once = max(1, self._at_once // 2) if is_slow else min(self._most, self._at_once + 1)
        self._begun, self._is_moving = 0, False
        while self._waiting and self._may_begin:
            turn = self._waiting.popleft()
            if not turn.done():  # Else its request was given up.
                turn.set_result(None)
                self._begin()
        if self._begun:
            self._move_on(loop)


LINE = Line()
"""Of this process."""
