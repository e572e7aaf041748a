"""Signing in to the pages with a token, and out again; whoever guesses has to wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from serving.access import Token
from serving.console.frame import Frame
from serving.guard import SESSION, SIGN_IN

SIGN_OUT = "/logout"
WRONG_SECRETS, WRONG_WITHIN = 10, timedelta(minutes=5)


class SignIn:
    """The form of the console, and the cookie it gives."""

    def __init__(self, frame: Frame, verify: Callable[[str], Token | None], clock: Callable[[], datetime]) -> None:
        self._frame, self._verify, self._clock = frame, verify, clock
        self._wrong: dict[str, deque[datetime]] = {}

    def routes(self) -> list[Route]:
        """The form, and the way out."""
        return [
            Route(SIGN_IN, self._show_form, methods=["GET"]),
            Route(SIGN_IN, self._sign_in, methods=["POST"]),
            Route(SIGN_OUT, self._sign_out, methods=["POST"]),
        ]

    async def _show_form(self, request: Request) -> Response:
        return self._frame.shown("login.html", next=_inside(request.query_params.get("next")), fault=None)

    async def _sign_in(self, request: Request) -> Response:
        if not _is_own(request):
            return self._frame.message(request, 403, "Not from here", "The form must be sent from tenure's own page.")
        now, who = self._clock(), request.client.host if request.client else "unknown"
        wrong = self._wrong.setdefault(who, deque())
        while wrong and now - wrong[0] > WRONG_WITHIN:
            wrong.popleft()
        if len(wrong) >= WRONG_SECRETS:
            fault = "Too many wrong tokens. Wait five minutes."
            return self._frame.shown("login.html", 429, next="/list", fault=fault, headers={"retry-after": "300"})
        form = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=4)
        secret, after = form.get("secret", [""])[0].strip(), _inside(form.get("next", [None])[0])
        token = await run_in_threadpool(self._verify, secret)
        if token is None:
            wrong.append(now)
            return self._frame.shown(
                "login.html", 401, next=after, fault="No live token. Ask an administrator for one."
            )
        answer = RedirectResponse(after, 303)
        seconds = int((token.expires_at - now).total_seconds())
        answer.set_cookie(
            SESSION, secret, max_age=seconds, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    async def _sign_out(self, request: Request) -> Response:
        if not _is_own(request):
            return self._frame.message(request, 403, "Not from here", "The form must be sent from tenure's own page.")
        answer = RedirectResponse(SIGN_IN, 303)
        answer.delete_cookie(SESSION, httponly=True, samesite="strict")
        return answer


def _inside(path: str | None) -> str:
    """A path of ours to go on to; anything else leads to the list."""
    is_ours = path is not None and path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours and path is not None else "/list"


def _is_own(request: Request) -> bool:
    """Whether a form was sent from a page of ours: browsers say where from."""
    origin = request.headers.get("origin")
    return origin is not None and origin == f"{request.url.scheme}://{request.headers.get('host', '')}"
