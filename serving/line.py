"""The waiting line before the work: a few begin or go on in each turn of the event loop, and the wait is never long.

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
WAIT_S = 0.2
"""Seconds that who stands in the line may have to wait: it is shorter while requests take longer."""
MOST_UNDER_WAY = 8
"""Who has more to do than fits in one turn keeps nobody from beginning, unless so many have."""
_SHORTEST = 4
_WEIGHT = 0.1
"""Of the newest in the mean time between two that leave."""


class Line:
    """At most `longest` requests between the end of their checks and the beginning of their work, `places` at work.

    Fewer may wait where that would take them longer than `WAIT_S`, judged by those who left lately.
    """

    def __init__(self, longest: int = LONGEST, at_once: int = AT_ONCE, places: int = PLACES) -> None:
        self._longest, self._most, self._places = longest, at_once, places
        self._at_once, self._turn_began = at_once, 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._under_way: deque[asyncio.Future[None]] = deque()
        self._coming, self._begun, self._at_work, self._is_moving = 0, 0, 0, False
        self._room: float = longest
        """How many may wait."""
        self._pace, self._measured, self._left_at = 0.0, 0, 0.0
        self._turned_away, self._said_at = 0, float("-inf")

    @property
    def is_full(self) -> bool:
        """Whether who comes now is turned away."""
        return len(self._waiting) >= self._room or self._at_work >= self._places

    @property
    def is_nearly_full(self) -> bool:
        """Whether who comes now had better not be listened to: some of those who were are still to enter."""
        before = len(self._waiting) + self._coming
        return before >= 0.75 * self._room or before + self._at_work >= self._places

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
        if self._may_begin and not self._waiting and not self._under_way:
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

    async def gives_way(self) -> None:
        """Let the loop look after others in the middle of work."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._under_way.append(turn)
        self._move_on(loop)
        await turn

    def leaves(self) -> None:
        """Give a place back."""
        self._at_work -= 1
        if self._waiting or self._left_at:
            loop = asyncio.get_running_loop()
            self._keep_pace(loop.time())
            self._move_on(loop)

    def turn_away(self) -> None:
        """Count one more who was refused for want of a place, and say so once a second at most."""
        self._turned_away += 1
        now = time.monotonic()
        if now - self._said_at >= SAID_EVERY_S:
            _log.warning("more requests than can be answered: %d turned away since last said", self._turned_away)
            self._turned_away, self._said_at = 0, now

    def _keep_pace(self, now: float) -> None:
        """Note how long the line takes for one; where nobody waits, nothing is known of that."""
        if self._left_at:
            self._measured += 1
            self._pace += max(_WEIGHT, 1 / self._measured) * (now - self._left_at - self._pace)
        if self._waiting:
            self._left_at = now
        else:
            self._pace, self._measured, self._left_at = 0.0, 0, 0.0
        self._room = min(self._longest, max(_SHORTEST, WAIT_S / self._pace)) if self._pace else self._longest

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
        """A turn of the loop: some of those under way go on, and the first in the line begin, one at least of each."""
        is_slow = loop.time() - self._turn_began > TURN_S
        self._at_once = max(1, self._at_once // 2) if is_slow else min(self._most, self._at_once + 1)
        self._begun, self._is_moving = 0, False
        going_on = 0
        while self._under_way and going_on < self._at_once:
            going_on += self._is_given(self._under_way)
        self._begun = min(going_on, self._at_once - 1)
        has_few = going_on + len(self._under_way) < MOST_UNDER_WAY
        while self._waiting and self._may_begin and has_few:
            if self._is_given(self._waiting):
                self._begin()
        if self._begun or going_on:
            self._move_on(loop)

    @staticmethod
    def _is_given(turns: deque[asyncio.Future[None]]) -> bool:
        """Give the next one its turn; False where its request was given up."""
        turn = turns.popleft()
        if turn.done():
            return False
        turn.set_result(None)
        return True


LINE = Line()
"""Of this process."""
