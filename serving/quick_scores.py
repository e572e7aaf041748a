"""The quick way to score: `POST /v1/score` answered before BentoML takes the request apart.

The typed route costs many times what the model does. What is answered here is checked by the same types and scored by
the same function; anything out of the ordinary, such as a body that breaks a rule, is left to the typed route.

All is done by the event loop itself, a few rows in each of its turns: threads would take the time of those who have to
be told that they must come back, and would save none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.contract import MAX_ROWS, ScoreRequest
from serving.deadline import require_time_left
from serving.incoming import Refusal
from serving.line import LINE

PATH = "/v1/score"
AT_ONCE, AT_ONCE_WITH_REASONS = 32, 16
"""Rows in one turn: more of them would keep the event loop from other requests for longer than a few milliseconds."""
MOST_BYTES = 4 * 2**20
"""Of a body: as many rows as there may be, with all features, are shorter."""
TRIED = "quick_scores"
"""Of a request that this way has looked at: it stands under `tenure serve` and, for other servers, in the service."""


class QuickScores:
    """ASGI middleware; `answer` gives the body of the response in parts of so many rows."""

    def __init__(self, app: ASGIApp, answer: Callable[[ScoreRequest, int], Iterator[dict[str, Any]]]) -> None:
        self.app, self.answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app behind answer."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST" or TRIED in scope["state"]:
            await self.app(scope, receive, send)
            return
        scope["state"][TRIED] = True
        first = await receive()
        request = _request(first)
        if request is None:
            await self.app(scope, _again(first, receive), send)
            return
        answer = Response(orjson.dumps(await self._scored(request)), media_type="application/json")
        await answer(scope, receive, send)

    async def _scored(self, request: ScoreRequest) -> dict[str, Any]:
        parts = self.answer(request, AT_ONCE_WITH_REASONS if request.reasons else AT_ONCE)
        whole = next(parts)
        while len(whole["rows"]) < len(request.rows):
            await LINE.gives_way()
            require_time_left()
            whole["rows"] += next(parts)["rows"]
        return whole


def _request(message: Message) -> ScoreRequest | None:
    """The request of a whole body; None of one that the typed route is to judge."""
    body = message.get("body", b"")
    if message["type"] != "http.request" or message.get("more_body") or len(body) > MOST_BYTES:
        return None
    try:
        return ScoreRequest.model_validate_json(body)
    except ValidationError as error:
        if error.errors(include_input=False)[0]["type"] == "too_long":
            raise Refusal(413, f"At most {MAX_ROWS} rows may be sent at once. Send them in parts.") from None
        return None


def _again(first: Message, receive: Receive) -> Receive:
    """`receive` that begins with the message already taken."""
    waiting = [first]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
