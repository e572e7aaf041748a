"""Connections that end: uvicorn's HTTP with a deadline for headers and for answers that nobody takes.

Uvicorn waits for ever for the rest of a request's headers, and for a client that takes no answer; and beyond
`limit_concurrency` it refuses without saying when to come back. The guard bounds bodies, this what is around them.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from urllib.parse import quote

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.line import LINE
from serving.load_shedding import path_of_whole_score, turned_away
from serving.observing import requests_of
from serving.reply import problem

HEADERS_S = 5.0
"""Seconds in which the headers of a request must be complete, counted from the connection or from their first byte."""
TAKING_S = 10.0
"""Seconds in which a client must take at least some of the answer that waits for it."""
MAX_CONNECTIONS = 2_000
"""Of one process; those beyond are answered 503."""


class Connection(H11Protocol):
    """One connection of a client."""

    _turned_away_at: float = float("-inf")
    _headers_due: TimerHandle | None = None
    _taking_due: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Count it, and begin to wait for its first request."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self.app = full
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Take in some bytes: the deadline stands from the first byte of a request to the end of its headers."""
        if self._is_between_requests() and LINE.is_nearly_full and self._turns_away(data):
            return
        before = self.cycle
        super().data_received(data)
        if self._is_between_requests():
            self._await_headers()
        else:
            self._headers_came()
        # Who has sent half a request does not come to the line yet, and must not keep others from it.
        if self.cycle is not before and self.cycle is not None and not self.cycle.more_body:
            LINE.expect(self.loop)

    def on_response_complete(self) -> None:
        """Look after what the client has not yet taken; uvicorn's own deadline is for the next request to begin."""
        super().on_response_complete()
        self._headers_came()
        self._await_taking(left=self.transport.get_write_buffer_size())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        super().connection_lost(exc)
        self._headers_came()
        if self._taking_due is not None:
            self._taking_due.cancel()

    def _turns_away(self, data: bytes) -> bool:
        """Answer a request for scores in place of the app; whether it was one, and nothing before or after it."""
        is_all = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        path = path_of_whole_score(data) if is_all else None
        if path is None:
            return False
        LINE.turn_away()
        requests_of(path, "POST", 429).inc()
        self.transport.write(turned_away(path))
        self._turned_away_at = self.loop.time()
        self._unset_keepalive_if_required()
        self._await_headers()
        return True

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_headers(self) -> None:
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(HEADERS_S, self._require_headers)

    def _require_headers(self) -> None:
        # Counted anew from the last request that was turned away: a timer for each of those would cost too much.
        left = self._turned_away_at + HEADERS_S - self.loop.time()
        if left <= 0:
            self.transport.close()
        else:
            self._headers_due = self.loop.call_later(left, self._require_headers)

    def _headers_came(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _await_taking(self, left: int) -> None:
        if self._taking_due is not None:
            self._taking_due.cancel()
        if left:
            self._taking_due = self.loop.call_later(TAKING_S, self._require_taking, left)

    def _require_taking(self, left: int) -> None:
        still_left = self.transport.get_write_buffer_size()
        if still_left >= left:
            self.transport.abort()
        else:
            self._await_taking(still_left)


async def full(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI app that answers while there are too many connections."""
    headers = {"retry-after": "1", "connection": "close"}
    said = f"At most {MAX_CONNECTIONS} connections may be open at once; try again in a second."
    answer = problem(503, said, instance=quote(scope["path"], errors="replace"), headers=headers)
    await answer(scope, receive, send)
