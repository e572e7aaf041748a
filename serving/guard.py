"""The guard before the service: known paths, known callers, bounded bodies, bounded load.

Plain ASGI that stands outermost, so that what it refuses costs neither memory nor a metric label.
Standing inside another guard, it lets pass what that one has admitted. The order of its checks: path
and method (404, 405), token (401), role (403), rate (429), content type (415), length (400, 413), body (413, 408),
place (429), time (504). What became of each request is told to `observe`, by its route and never by what was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from math import ceil

from starlette.types import ASGIApp, Receive, Scope, Send

from features.errors import ConfigurationError, DependencyDown
from serving import deadline
from serving.access import Token
from serving.deadline import TooLate
from serving.incoming import (
    FORM_TYPE,
    JSON_TYPE,
    Body,
    Refusal,
    Sent,
    check_length,
    check_type,
    cookies,
    headers_of,
    request_id_of,
    state_of,
)
from serving.line import Line
from serving.reply import Reply, refuse

_log = logging.getLogger(__name__)

UNMATCHED = "unmatched"
SESSION = "tenure_session"
"""Cookie of who has signed in to the pages: the secret of a token."""
SIGN_IN = "/login"
MAX_FORM = 16 * 2**10
"""Bytes of a form."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# One segment of a path. Dots that climb and control characters never name anything of ours.
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f]+"


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
    line: Line = field(default_factory=Line)
    """In which requests wait for their turn and for a place to be worked for; health never waits."""
    body_timeout_s: float = 10.0
    """Seconds from the first look at a body to its end."""
    answer_timeout_s: float = 60.0
    """Seconds from the request's headers in which an answer must begin."""

    def __post_init__(self) -> None:
        methods = {**dict.fromkeys(self.open_paths, frozenset({"GET", "HEAD"})), **self.paths}
        # Paths without a variable segment come first: `/lists/latest` before `/lists/{as_of}`.
        ordered = sorted(methods, key=lambda path: "{" in path)
        self._routes = [(_path_pattern(path), path, methods[path]) for path in ordered]
        self._last_words: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let the app answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "No websockets here."})
        elif isinstance(state_of(scope).get("token"), Token):
            await self.app(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline.begin(self.answer_timeout_s)
        start, headers = time.perf_counter(), headers_of(scope)
        request_id = request_id_of(scope, headers)
        # A fresh dict: some servers share one state between the requests of a connection.
        scope["state"] = {**state_of(scope), "request_id": request_id}
        reply = Reply(send, request_id)
        await self._settle(scope, headers, Body(headers, receive), reply)
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

    async def _settle(self, scope: Scope, headers: Sent, body: Body, reply: Reply) -> None:
        """Let the request in, or say why not; whatever fails, the caller gets one shape."""
        try:
            await self._admit(scope, headers, body, reply)
        except Refusal as refusal:
            await refuse(scope, refusal, body, reply)
        except TooLate:
            _log.warning("Request %s took too long; its caller was told, and nothing of it was kept", reply.request_id)
        except DependencyDown as error:
            _log.warning("Request %s: %s", reply.request_id, error)
            down = Refusal(503, "Something that tenure depends on is down; the log says what.", {"retry-after": "5"})
            await _fail(scope, down, body, reply)
        except Exception as error:  # noqa: BLE001 - whatever the app raises, the caller gets one shape
            _log_failure(error, reply.request_id)
            await _fail(scope, Refusal(500, "The service failed; the log has the reason."), body, reply)

    async def _admit(self, scope: Scope, headers: Sent, body: Body, reply: Reply) -> None:
        path = self._known_path(scope)
        scope["state"]["route"] = path
        is_open = path in self.open_paths
        if not is_open:
            scope["state"]["token"] = token = self._signed_in(headers) if path in self.pages else self._caller(headers)
            if token.role not in self.roles.get(path, {token.role}):
                raise Refusal(403, f"The role {token.role} may not ask this.")
            if wait := self.rate(token):
                raise Refusal(429, "Too many requests of this token.", {"retry-after": str(ceil(wait))})
        kind, limit = (FORM_TYPE, MAX_FORM) if path in self.forms else (JSON_TYPE, self.max_body)
        check_type(scope["method"], headers, kind, has_body=body.is_declared)
        check_length(headers, limit=limit)
        length = await body.read(limit=limit, timeout_s=self.body_timeout_s)
        if length is None:
            return
        if length and not body.is_declared:
            check_type(scope["method"], headers, kind, has_body=True)
        if is_open:  # health is asked most urgently when all places are taken
            await self._answer_in_time(scope, body, reply)
        else:
            await self._answer_in_turn(scope, body, reply)

    async def _answer_in_turn(self, scope: Scope, body: Body, reply: Reply) -> None:
        if not await self.line.enters():
            self.line.turn_away()
            raise Refusal(429, "All places are taken; try again in a second.", {"retry-after": "1"})
        try:
            await self._answer_in_time(scope, body, reply)
        finally:
            self.line.leaves()

    async def _answer_in_time(self, scope: Scope, body: Body, reply: Reply) -> None:
        left = max(0.0, deadline.seconds_left())
        timer = asyncio.get_running_loop().call_later(left, self._give_up, scope, body, reply)
        try:
            # A thread at work for the app cannot be stopped: its place is free when it has ended, not before.
            await self.app(scope, body.replay, reply)
        finally:
            timer.cancel()

    def _give_up(self, scope: Scope, body: Body, reply: Reply) -> None:
        if reply.is_started:
            return
        said = (
            f"The answer must be ready within {self.answer_timeout_s:g} seconds; it was not, and nothing was changed."
        )
        refusal = Refusal(504, f"{said} Ask for fewer rows at once, or try again later.")
        telling = asyncio.get_running_loop().create_task(refuse(scope, refusal, body, reply.ended_with(504)))
        self._last_words.add(telling)
        telling.add_done_callback(self._last_words.discard)

    def _known_path(self, scope: Scope) -> str:
        """The pattern in `paths` that the request meets."""
        asked = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        for pattern, path, methods in self._routes:
            if not pattern.fullmatch(asked):
                continue
            if scope["method"] in methods:
                return path
            allowed = ", ".join(sorted(methods))
            raise Refusal(405, f"The method must be one of: {allowed}.", {"allow": allowed})
        raise Refusal(404, "There is nothing at this path.")

    def _signed_in(self, headers: Sent) -> Token:
        secrets = cookies(headers, SESSION)
        token = self.verify(secrets[0]) if len(secrets) == 1 else None
        if token is None:
            raise Refusal(303, "Sign in first.", {"location": SIGN_IN})
        return token

    def _caller(self, headers: Sent) -> Token:
        given = headers.get("authorization", [])
        # Two headers could mean one caller to us and another to the app.
        scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        token = self.verify(secret.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            detail = "The request must carry a live token as 'Authorization: Bearer …'."
            raise Refusal(401, detail, {"www-authenticate": "Bearer"})
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


async def _fail(scope: Scope, refusal: Refusal, body: Body, reply: Reply) -> None:
    if not reply.is_started:
        reply.held.clear()
        await refuse(scope, refusal, body, reply)


def _path_pattern(path: str) -> re.Pattern[str]:
    if not path.startswith("/"):
        raise ValueError(f"A path must start with '/'; got {path!r}.")
    is_variable = re.compile(r"\{.*\}").fullmatch
    return re.compile("/".join(_SEGMENT if is_variable(part) else re.escape(part) for part in path.split("/")))


def _log_failure(error: Exception, request_id: str) -> None:
    # The message of an error often quotes what was sent, so the frames alone show where it broke.
    # A refused setting quotes nothing of a caller's, and names the file to mend.
    reason = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("Request %s failed: %s\n%s", request_id, reason, frames)
