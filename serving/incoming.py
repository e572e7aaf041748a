"""What a request brings, each part within its bounds: headers, its id, its body; and the refusal of one that is not.

Headers are taken apart once, into every value under the lower-case name: two values where one belongs are a fault.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from starlette.types import Message, Receive, Scope

Sent = Mapping[str, list[str]]
"""The values of every header, by lower-case name."""

FORM = "application/x-www-form-urlencoded"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Parameters must look like parameters: "application/json; application/x-pickle" is not JSON.
JSON_TYPE = re.compile(r'application/json([ \t]*;[ \t]*[\w.+-]+=([\w.+-]+|"[\w.+ -]*"))*[ \t]*', re.I | re.ASCII)
FORM_TYPE = re.compile(JSON_TYPE.pattern.replace("application/json", re.escape(FORM)), re.I | re.ASCII)

# How long the rest of a refused body is thrown away. Closing a connection with unread bytes resets
# it, and the reset can overtake the answer to a caller who sends everything before reading anything.
_LINGER_S = 0.5


class Refusal(Exception):
    """An answer to the caller, not an error of ours."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def headers_of(scope: Scope) -> Sent:
    """The headers of a request."""
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def state_of(scope: Scope) -> Mapping[str, object]:
    """What those outside have noted of a request."""
    return scope.get("state") or {}


def request_id_of(scope: Scope, headers: Sent) -> str:
    """The outer guard's id, else a sane one of the caller, else a new one."""
    given = [state_of(scope).get("request_id"), *headers.get("x-request-id", ())]
    sane = (text for text in given if isinstance(text, str) and _REQUEST_ID.fullmatch(text))
    return next(sane, None) or os.urandom(16).hex()


def cookies(headers: Sent, name: str) -> list[str]:
    """The values of all cookies of a name."""
    pairs = (part.strip().partition("=") for line in headers.get("cookie", ()) for part in line.split(";"))
    return [value for given, _, value in pairs if given == name]


def check_type(method: str, headers: Sent, kind: re.Pattern[str], *, has_body: bool) -> None:
    """Refuse a body that is compressed or of another type than `kind`."""
    if any(coding.strip().lower() != "identity" for coding in headers.get("content-encoding", ())):
        raise Refusal(415, "The body must not be compressed; leave out Content-Encoding.")
    given = headers.get("content-type", [])
    is_right = len(given) == 1 and kind.fullmatch(given[0].strip())
    if not is_right and (has_body or (method == "POST" and given)):
        said = "JSON, sent with 'Content-Type: application/json'" if kind is JSON_TYPE else f"a form, sent as {FORM}"
        raise Refusal(415, f"The body must be {said}.")


def check_length(headers: Sent, *, limit: int) -> None:
    """Refuse a length that is none, or beyond `limit` bytes."""
    lengths = headers.get("content-length", [])
    if lengths and "transfer-encoding" in headers:
        # Two readers may disagree on where such a request ends; the second part is then smuggled.
        raise Refusal(400, "A request must have Content-Length or Transfer-Encoding, not both.")
    if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,20}", length) for length in lengths):
        raise Refusal(400, "Content-Length must be one whole number.")
    if lengths and int(lengths[0]) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"The body must have at most {limit} bytes; send it in several requests.")


class Body:
    """The body of one request, and how far it has been read."""

    def __init__(self, headers: Sent, receive: Receive) -> None:
        self.receive = receive
        self.is_declared = headers.get("content-length", ["0"])[0] != "0" or "transfer-encoding" in headers
        self.is_finished = not self.is_declared
        self._whole: list[Message] = []
        self._is_late = False

    async def read(self, *, limit: int, timeout_s: float) -> int | None:
        """Take in the whole body and tell its length; None if the caller left before its end."""
        content = bytearray()
        self.is_finished = False
        reader = cast("asyncio.Task[Any]", asyncio.current_task())
        # Of the two ways to bound a wait the lighter one: nearly every body is there already.
        timer = asyncio.get_running_loop().call_later(timeout_s, self._give_up, reader)
        try:
            while not self.is_finished:
                message = await self._next()
                if message["type"] == "http.disconnect":
                    return None
                content += message.get("body", b"")
                if len(content) > limit:
                    raise _too_large(limit)
        except asyncio.CancelledError:
            if not self._is_late or reader.uncancel() > 0:  # Somebody else ended the task.
                raise
            raise Refusal(408, f"The body must arrive within {timeout_s:g} seconds.") from None
        finally:
            timer.cancel()
        self._whole.append({"type": "http.request", "body": bytes(content), "more_body": False})
        return len(content)

    def _give_up(self, reader: asyncio.Task[Any]) -> None:
        self._is_late = True
        reader.cancel()

    async def replay(self) -> Message:
        """Give the app the whole body in one message, then whatever the server still has."""
        return self._whole.pop() if self._whole else await self.receive()

    async def discard(self) -> None:
        """Throw the rest away for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while not self.is_finished:
                    await self._next()

    async def _next(self) -> Message:
        message = await self.receive()
        self.is_finished = not message.get("more_body", False)
        return message
