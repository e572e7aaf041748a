"""The quick way to score a few rows: `POST /v1/score` answered before BentoML takes the request apart.

The typed route costs many times what the model does. What is answered here is checked by the same types and scored by
the same function; anything out of the ordinary, such as a body that breaks a rule, is left to the typed route.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.contract import ScoreRequest

PATH = "/v1/score"
MOST_ROWS = 8
"""More of them would keep the event loop from other requests for longer than a few milliseconds."""
TRIED = "few_rows"
"""Of a request that this way has looked at: it stands under `tenure serve` and, for other servers, in the service."""
_MOST_BYTES = 64 * 2**10


class FewRows:
    """ASGI middleware; `answer` makes the body of the response."""

    def __init__(self, app: ASGIApp, answer: Callable[[ScoreRequest], dict[str, Any]]) -> None:
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
        answer = Response(orjson.dumps(self.answer(request)), media_type="application/json")
        await answer(scope, receive, send)


def _request(message: Message) -> ScoreRequest | None:
    """The request of a whole body with few rows and no wish for reasons."""
    body = message.get("body", b"")
    if message["type"] != "http.request" or message.get("more_body") or len(body) > _MOST_BYTES:
        return None
    try:
        request = ScoreRequest.model_validate_json(body)
    except ValidationError:
        return None
    return request if len(request.rows) <= MOST_ROWS and not request.reasons else None


def _again(first: Message, receive: Receive) -> Receive:
    """`receive` that begins with the message already taken."""
    waiting = [first]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
