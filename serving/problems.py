"""One shape for every error, what BentoML answers in its own too (RFC 9457); and whether we can answer at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.reply import problem


class OneErrorShape:
    """ASGI middleware that holds back an error body and sends the problem in its place."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass good answers through as they come."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_foreign(message):
                held.append(message)
            elif held:
                held.append(message)
                if not message.get("more_body"):
                    await _told_again(held)(scope, receive, send)
            else:
                await send(message)

        def _told_again(messages: list[Message]) -> ASGIApp:
            body = b"".join(message.get("body", b"") for message in messages[1:])
            state = scope.get("state", {})
            return problem(
                messages[0]["status"], _detail(body), instance=scope["path"], request_id=state.get("request_id")
            )

        await self.app(scope, receive, hold)


class Readiness:
    """ASGI middleware that answers `/readyz` with 503 while `not_ready` has a reason."""

    def __init__(self, app: ASGIApp, not_ready: Callable[[], str | None]) -> None:
        self.app, self.not_ready = app, not_ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask off the loop, for a database may be slow to say that it is gone."""
        app = self.app
        if (
            scope["type"] == "http"
            and scope["path"] == "/readyz"
            and (reason := await run_in_threadpool(self.not_ready))
        ):
            request_id = scope.get("state", {}).get("request_id")
            app = problem(503, reason, instance="/readyz", request_id=request_id, headers={"retry-after": "5"})
        await app(scope, receive, send)


def _is_foreign(start: Message) -> bool:
    kind = Headers(raw=start["headers"]).get("content-type", "")
    return start["status"] >= 400 and not kind.startswith("application/problem+json")


def _detail(body: bytes) -> str:
    """What was wrong, without the reader having to know pydantic."""
    try:
        found: Any = json.loads(body)
    except ValueError:
        return "The request could not be answered."
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return "The request could not be answered."
    faults = found.get("detail")
    if isinstance(faults, list):
        return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults[:5])
    return str(found.get("error", "The request could not be answered."))
