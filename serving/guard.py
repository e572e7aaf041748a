"""The guard before the service: known paths, known callers, bounded bodies, bounded load.

Plain ASGI that stands outermost, so that what it refuses costs neither memory nor a metric label.
Standing inside another guard, it lets pass what that one has admitted. The order of its checks: path
and method (404, 405), token (401), role (403), rate (429), content type (415), length (400, 413), body (413, 408),
place (429). What became of each request is told to `observe`, by its route and never by what was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from http import HTTPStatus
from math import ceil
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.errors import ConfigurationError, DependencyDown
from serving.access import Token
from serving.line import Line

_log = logging.getLogger(__name__)

UNMATCHED = "unmatched"
SESSION = "tenure_session"
"""Cookie of who has signed in to the pages: the secret of a token."""
SIGN_IN = "/login"
FORM = "application/x-www-form-urlencoded"
MAX_FORM = 16 * 2**10
"""Bytes of a form."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Parameters must look like parameters: "application/json; application/x-pickle" is not JSON.
_JSON = re.compile(r'application/json([ \t]*;[ \t]*[\w.+-]+=([\w.+-]+|"[\w.+ -]*"))*[ \t]*', re.I | re.ASCII)
_FORM = re.compile(_JSON.pattern.replace("application/json", re.escape(FORM)), re.I | re.ASCII)
# One segment of a path. Dots that climb and control characters never name anything of ours.
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f]+"

# How long the rest of a refused body is thrown away. Closing a connection with unread bytes resets
# it, and the reset can overtake the answer to a caller who sends everything before reading anything.
_LINGER_S = 0.5


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


@dataclass(eq=False, repr=False)
class Guard:
    """ASGI middleware that lets only well-formed requests of known callers through to `app`.

    The app finds the caller's `Token` in `scope["state"]["token"]`, unless the path is open, and
    the request's id in `scope["state"]["request_id"]`.
    """

    app: ASGIApp
    _: KW_ONLY
    verify: Callable[[str], Token | None]
    """Gives the token of a secret, or None if it opens nothing."""
    paths: Mapping[str, frozenset[str]]
    """Allowed methods by path; a segment `{name}` stands for any one segment."""
    open_paths: frozenset[str] = frozenset({"/livez", "/readyz"})
    """Paths without token and place; GET and HEAD unless `paths` says otherwise."""
    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Roles that may ask, by path; all of them where a path is not named."""
    rate: Callable[[Token], float | None] = lambda _: None
    """Seconds that a caller must wait, or None."""
    observe: Callable[[Observed], None] = lambda _: None
    pages: frozenset[str] = frozenset()
    """Paths for people: the caller is known by a cookie, and a stranger is sent to `SIGN_IN`."""
    forms: frozenset[str] = frozenset()
    """Paths that take a form in place of JSON."""
    max_body: int = 8 * 2**20
    """Bytes."""
    max_concurrency: int = 64
    longest_line: int = 32
    """Requests that may wait for their turn at once; health never waits."""
    body_timeout_s: float = 10.0
    """Seconds from the first look at a body to its end."""

    def __post_init__(self) -> None:
        methods = {**dict.fromkeys(self.open_paths, frozenset({"GET", "HEAD"})), **self.paths}
        # Paths without a variable segment come first: `/lists/latest` before `/lists/{as_of}`.
        ordered = sorted(methods, key=lambda path: "{" in path)
        self._routes = [(_path_pattern(path), path, methods[path]) for path in ordered]
        self._places = asyncio.Semaphore(self.max_concurrency)
        self._line = Line(self.longest_line)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let the app answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "No websockets here."})
        elif isinstance(_state(scope).get("token"), Token):
            await self.app(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, start = _request_id(scope), time.perf_counter()
        # A fresh dict: some servers share one state between the requests of a connection.
        scope["state"] = {**_state(scope), "request_id": request_id}
        reply = _Reply(send, request_id)
        body = _Body(Headers(scope=scope), receive)
        try:
            await self._admit(scope, body, reply)
        except _Refusal as refusal:
            await _refuse(scope, refusal, body, reply)
        except DependencyDown as error:
            _log.warning("Request %s: %s", request_id, error)
            if not reply.is_started:
                reply.held.clear()
                down = _Refusal(
                    503, "Something that tenure depends on is down; the log says what.", {"retry-after": "5"}
                )
                await _refuse(scope, down, body, reply)
        except Exception as error:  # noqa: BLE001 - whatever the app raises, the caller gets one shape
            _log_failure(error, request_id)
            if not reply.is_started:
                reply.held.clear()
                await _refuse(scope, _Refusal(500, "The service failed; the log has the reason."), body, reply)
        await reply.release()
        state = scope["state"]
        self.observe(
            Observed(
                route=state.get("route", UNMATCHED),
                method=scope["method"] if scope["method"] in _METHODS else "OTHER",
                status=reply.status,
                seconds=time.perf_counter() - start,
                request_id=request_id,
                token_id=state["token"].id if "token" in state else None,
            )
        )

    async def _admit(self, scope: Scope, body: _Body, reply: _Reply) -> None:
        headers = Headers(scope=scope)
        path = self._known_path(scope)
        scope["state"]["route"] = path
        is_open = path in self.open_paths
        if not is_open:
            scope["state"]["token"] = token = self._signed_in(headers) if path in self.pages else self._caller(headers)
            if token.role not in self.roles.get(path, {token.role}):
                raise _Refusal(403, f"The role {token.role} may not ask this.")
            if wait := self.rate(token):
                raise _Refusal(429, "Too many requests of this token.", {"retry-after": str(ceil(wait))})
        kind, limit = (_FORM, MAX_FORM) if path in self.forms else (_JSON, self.max_body)
        _check_type(scope["method"], headers, kind, has_body=body.is_declared)
        _check_length(headers, limit=limit)
        length = await body.read(limit=limit, timeout_s=self.body_timeout_s)
        if length is None:
            return
        _check_type(scope["method"], headers, kind, has_body=length > 0)
        if is_open:  # health is asked most urgently when all places are taken
            await self.app(scope, body.replay, reply)
        elif self._places.locked() or not await self._line.enters():
            self._line.turn_away()
            raise _Refusal(429, "All places are taken; try again in a second.", {"retry-after": "1"})
        else:
            async with self._places:
                await self.app(scope, body.replay, reply)

    def _known_path(self, scope: Scope) -> str:
        """The pattern in `paths` that the request meets."""
        asked = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        for pattern, path, methods in self._routes:
            if not pattern.fullmatch(asked):
                continue
            if scope["method"] in methods:
                return path
            allowed = ", ".join(sorted(methods))
            raise _Refusal(405, f"The method must be one of: {allowed}.", {"allow": allowed})
        raise _Refusal(404, "There is nothing at this path.")

    def _signed_in(self, headers: Headers) -> Token:
        secrets = [part.partition("=")[2] for part in _cookies(headers) if part.partition("=")[0] == SESSION]
        token = self.verify(secrets[0]) if len(secrets) == 1 else None
        if token is None:
            raise _Refusal(303, "Sign in first.", {"location": SIGN_IN})
        return token

    def _caller(self, headers: Headers) -> Token:
        given = headers.getlist("authorization")
        # Two headers could mean one caller to us and another to the app.
        scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        token = self.verify(secret.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            detail = "The request must carry a live token as 'Authorization: Bearer …'."
            raise _Refusal(401, detail, {"www-authenticate": "Bearer"})
        return token


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What became of one request: for logs and metrics, so without anything that a caller sent."""

    route: str
    """A path of ours with its variables unfilled, or `UNMATCHED`."""
    method: str
    status: int
    """0 where the caller left before an answer."""
    seconds: float
    request_id: str
    token_id: str | None


class _Refusal(Exception):
    """An answer to the caller, not an error of ours."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


class _Body:
    """The body of one request, and how far it has been read."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        self.receive = receive
        self.is_declared = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self.is_finished = not self.is_declared
        self._whole: list[Message] = []

    async def read(self, *, limit: int, timeout_s: float) -> int | None:
        """Take in the whole body and tell its length; None if the caller left before its end."""
        content = bytearray()
        self.is_finished = False
        try:
            async with asyncio.timeout(timeout_s):
                while not self.is_finished:
                    message = await self._next()
                    if message["type"] == "http.disconnect":
                        return None
                    content += message.get("body", b"")
                    if len(content) > limit:
                        raise _too_large(limit)
        except TimeoutError:
            raise _Refusal(408, f"The body must arrive within {timeout_s:g} seconds.") from None
        self._whole.append({"type": "http.request", "body": bytes(content), "more_body": False})
        return len(content)

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


@dataclass(eq=False)
class _Reply:
    """The way back to the caller: adds our headers and knows whether an answer has begun."""

    send: Send
    request_id: str
    is_started: bool = False
    status: int = 0
    held: list[Message] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=[(name.lower(), value) for name, value in message.get("headers", ())])
            headers.update({"x-request-id": self.request_id, "x-content-type-options": "nosniff"})
            if "immutable" not in headers.get("cache-control", ""):  # Only what is named by its hash may be kept.
                headers["cache-control"] = "no-store"
            message = {**message, "headers": headers.raw}
            self.status = message["status"]
        # Held until the app has ended: frameworks send a 500 of their own and then raise.
        if self.held or message.get("status") == 500:
            self.held.append(message)
            return
        self.is_started = True
        await self.send(message)

    async def release(self) -> None:
        for message in self.held:
            await self.send(message)


async def _refuse(scope: Scope, refusal: _Refusal, body: _Body, reply: _Reply) -> None:
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


def _path_pattern(path: str) -> re.Pattern[str]:
    if not path.startswith("/"):
        raise ValueError(f"A path must start with '/'; got {path!r}.")
    is_variable = re.compile(r"\{.*\}").fullmatch
    return re.compile("/".join(_SEGMENT if is_variable(part) else re.escape(part) for part in path.split("/")))


def _state(scope: Scope) -> Mapping[str, object]:
    return scope.get("state") or {}


def _request_id(scope: Scope) -> str:
    """The outer guard's id, else a sane one of the caller, else a new one."""
    given = [_state(scope).get("request_id"), *Headers(scope=scope).getlist("x-request-id")]
    sane = (text for text in given if isinstance(text, str) and _REQUEST_ID.fullmatch(text))
    return next(sane, None) or uuid.uuid4().hex


def _cookies(headers: Headers) -> list[str]:
    return [part.strip() for line in headers.getlist("cookie") for part in line.split(";")]


def _check_type(method: str, headers: Headers, kind: re.Pattern[str], *, has_body: bool) -> None:
    if any(coding.strip().lower() != "identity" for coding in headers.getlist("content-encoding")):
        raise _Refusal(415, "The body must not be compressed; leave out Content-Encoding.")
    given = headers.getlist("content-type")
    is_right = len(given) == 1 and kind.fullmatch(given[0].strip())
    if not is_right and (has_body or (method == "POST" and given)):
        said = "JSON, sent with 'Content-Type: application/json'" if kind is _JSON else f"a form, sent as {FORM}"
        raise _Refusal(415, f"The body must be {said}.")


def _check_length(headers: Headers, *, limit: int) -> None:
    lengths = headers.getlist("content-length")
    if lengths and "transfer-encoding" in headers:
        # Two readers may disagree on where such a request ends; the second part is then smuggled.
        raise _Refusal(400, "A request must have Content-Length or Transfer-Encoding, not both.")
    if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,20}", length) for length in lengths):
        raise _Refusal(400, "Content-Length must be one whole number.")
    if lengths and int(lengths[0]) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> _Refusal:
    return _Refusal(413, f"The body must have at most {limit} bytes; send it in several requests.")


def _log_failure(error: Exception, request_id: str) -> None:
    # The message of an error often quotes what was sent, so the frames alone show where it broke.
    # A refused setting quotes nothing of a caller's, and names the file to mend.
    reason = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("Request %s failed: %s\n%s", request_id, reason, frames)
