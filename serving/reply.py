"""What goes back to the caller: our headers, one shape for every error (RFC 9457), one answer and no second one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

from starlette.responses import JSONResponse, Response
from starlette.types import Message, Scope, Send

from serving.incoming import Body, Refusal


def problem(
    status: int,
    detail: str,
    *,
    instance: str,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error in the shape all our errors have (RFC 9457); `instance` is the path that was asked for."""
    content: dict[str, object] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    content |= {"detail": detail, "instance": instance}
    if request_id is not None:
        content["request_id"] = request_id
    return JSONResponse(content, status, headers=headers, media_type="application/problem+json")


@dataclass(eq=False)
class Reply:
    """The way back to the caller: adds our headers and knows whether an answer has begun."""

    send: Send
    request_id: str
    is_started: bool = False
    is_ended: bool = False
    """Whether the caller has had the last word from elsewhere."""
    status: int = 0
    held: list[Message] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        """Send a part of the answer."""
        if self.is_ended:
            return
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._with_ours(message.get("headers", ()))}
            self.status = message["status"]
        # Held until the app has ended: frameworks send a 500 of their own and then raise.
        if self.held or message.get("status") == 500:
            self.held.append(message)
            return
        self.is_started = True
        await self.send(message)

    def _with_ours(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        ours = {b"x-request-id": self.request_id.encode(), b"x-content-type-options": b"nosniff"}
        lowered = [(name.lower(), value) for name, value in given]
        # Only what is named by its hash may be kept.
        if not any(name == b"cache-control" and b"immutable" in value for name, value in lowered):
            ours[b"cache-control"] = b"no-store"
        return [*(pair for pair in lowered if pair[0] not in ours), *ours.items()]

    def ended_with(self, status: int) -> Reply:
        """The way for a last answer of this status; whatever else comes by this one is dropped."""
        self.is_ended, self.status = True, status
        self.held.clear()
        return Reply(self.send, self.request_id)

    async def release(self) -> None:
        """Send what was held back."""
        for message in self.held:
            await self.send(message)


async def refuse(scope: Scope, refusal: Refusal, body: Body, reply: Reply) -> None:
    """Send a refusal, and throw away what is still to come of the body."""
    instance, request_id = quote(scope["path"], errors="replace"), scope["state"]["request_id"]
    response = problem(
        refusal.status, refusal.detail, instance=instance, request_id=request_id, headers=refusal.headers
    )
    if body.is_finished:
        await response(scope, body.receive, reply)
        return
    response.headers["connection"] = "close"
    await reply({"type": "http.response.start", "status": refusal.status, "headers": response.raw_headers})
    # The answer is complete for its reader; the message stays open only until the rest is gone.
    await reply({"type": "http.response.body", "body": bytes(response.body), "more_body": True})
    await body.discard()
    await reply({"type": "http.response.body", "body": b"", "more_body": False})
