"""The pages: the risk list, one account. They show what the REST routes tell, to the same callers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from features.errors import Misuse
from serving.access import Token, sees, visible_to
from serving.answers import Answers
from serving.console.charts import moved_by, risk_over_time, use_by_week
from serving.console.evidence import evidence, split
from serving.console.frame import STYLE_NAME, Frame, style
from serving.console.sign_in import SIGN_OUT, SignIn
from serving.exports import exported
from serving.guard import SIGN_IN
from serving.ledger import open_ledger
from serving.ledger.lists import (
    View,
    account,
    account_history,
    counts,
    list_head,
    list_rows,
    other_rows,
    owners,
)  # fmt: skip
from serving.ledger.tables import account_scores
from serving.rest import MOST_DAYS, token_of, view_of
from serving.retention.playbooks import Play, read_playbooks
from serving.timeline import timeline_of

PAGE_ROWS = 50
MOST_EXPORTED = 100_000
BAND_CHOICES = (
    ("critical", "critical"), ("high and above", "high,critical"), ("medium and above", "medium,high,critical"),
)  # fmt: skip
COLUMNS = (
    ("#", "rank", True), ("Account", "name", False), ("Owner", "csm_id", False), ("Risk", "probability", True),
    ("Since last", None, False), ("MRR at risk", "mrr_at_risk", True), ("Renewal", "days_to_renewal", True),
    ("Why", None, False), ("Do first", None, False),
)  # fmt: skip
_FALLING_FIRST = {"probability", "mrr_at_risk"}

PATHS: Mapping[str, frozenset[str]] = {
    "/": frozenset({"GET", "HEAD"}),
    "/list": frozenset({"GET", "HEAD"}),
    "/list/export": frozenset({"GET", "HEAD"}),
    "/accounts/{account_id}": frozenset({"GET", "HEAD"}),
}
"""Pages for who has signed in."""
OPEN_PATHS: Mapping[str, frozenset[str]] = {
    SIGN_IN: frozenset({"GET", "HEAD", "POST"}),
    SIGN_OUT: frozenset({"POST"}),
    f"/static/{STYLE_NAME}": frozenset({"GET", "HEAD"}),
}
FORMS = frozenset({SIGN_IN, SIGN_OUT})
"""Paths that take a form."""


class Pages:
    """The console of one company."""

    def __init__(
        self, answers: Callable[[], Answers], verify: Callable[[str], Token | None], clock: Callable[[], datetime]
    ) -> None:
        self._answers, self._clock = answers, clock
        self._frame = Frame()
        self._sign_in = SignIn(self._frame, verify, clock)

    def routes(self) -> list[Route]:
        """All paths of `PATHS` and `OPEN_PATHS`."""
        return [
            Route("/", self._home),
            Route("/list", self._in_thread(self._list)),
            Route("/list/export", self._in_thread(self._export)),
            Route("/accounts/{account_id}", self._in_thread(self._account)),
            *self._sign_in.routes(),
            Route(f"/static/{STYLE_NAME}", style),
        ]

    def _in_thread(self, page: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await run_in_threadpool(page, request)
            except Misuse as error:
                return self._frame.message(request, 400, "That link means nothing here", str(error))

        return answer

    async def _home(self, _: Request) -> Response:
        return RedirectResponse("/list", 303)

    def _list(self, request: Request) -> Response:
        token, answers, given = token_of(request), self._answers(), _given(request)
        view = _view(given)
        visible = visible_to(token, account_scores)
        with open_ledger(answers.settings).reading() as connection:
            head = list_head(connection)
            if head is None:
                said = "No list was published yet: `tenure run` makes one."
                return self._frame.message(request, 200, "No list yet", said)
            rows, total = list_rows(connection, head["as_of"], visible, view)
            others = other_rows(connection, head["as_of"], visible)
            ours = counts(connection, head["as_of"], visible)
            owned = owners(connection, head["as_of"], visible)
        links = {name: value for name, value in given.items() if name != "offset"}
        is_plain = not (view.text or view.csm_id or view.bands or view.only_listed)
        return self._frame.shown(
            "list.html", page="list", token=token, warnings=answers.warnings_of(head["as_of"], now=self._clock()),
            head=head, counts=ours, rows=rows, total=total, view=view, owners=owned, band=given.get("band", ""),
            band_choices=BAND_CHOICES, order=given.get("order", "asc"), is_filtered=not is_plain,
            columns=[_column(name, sort, is_number, view, links) for name, sort, is_number in COLUMNS],
            before_link=_page(links, max(0, view.offset - PAGE_ROWS)) if view.offset else None,
            next_link=_page(links, view.offset + len(rows)) if view.offset + len(rows) < total else None,
            export=lambda form: "/list/export?" + urlencode({**links, "format": form}),
            others=_matching(others, view.text) if view.text else [],
            leaving=others["leaving"] if is_plain and not view.offset else [],
            left=others["left"] if is_plain and not view.offset else [],
        )  # fmt: skip

    def _export(self, request: Request) -> Response:
        token, answers, given = token_of(request), self._answers(), _given(request)
        form = given.pop("format", "csv")
        if form not in ("csv", "xlsx"):
            raise Misuse("format must be csv or xlsx.")
        view = _view(given, limit=MOST_EXPORTED)
        with open_ledger(answers.settings).reading() as connection:
            head = list_head(connection)
            if head is None:
                return self._frame.message(request, 404, "No list yet", "There is nothing to export.")
            rows, _ = list_rows(connection, head["as_of"], visible_to(token, account_scores), view)
        content, kind = exported(rows, form)
        name = f"risk-list-{head['as_of']}.{form}"
        return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})

    # One account

    def _account(self, request: Request) -> Response:
        token, answers = token_of(request), self._answers()
        with open_ledger(answers.settings).reading() as connection:
            row = account(connection, request.path_params["account_id"])
            if row is None or not sees(token, row["csm_id"]):
                said = "There is no such account, or it is not one of yours."
                return self._frame.message(request, 404, "No such account", said)
            head = list_head(connection, row["as_of"])
            past = account_history(connection, row["account_id"], limit=MOST_DAYS)
        change = row["change"] or {}
        told = timeline_of(answers.settings, row["account_id"], row["as_of"])
        places = evidence(told)
        return self._frame.shown(
            "account.html", page="account", token=token, row=row, head=head, history=past,
            warnings=answers.warnings_of(row["as_of"], now=self._clock()), chart=risk_over_time(past),
            levers=answers.levers_of(row["account_id"], model_version=row["model_version"]),
            moves=moved_by(_moves(change.get("moved_by"))), steps=_steps(row["play"]),
            told=told, use=use_by_week(told["weeks"]), evidence=places, happened=split(told["events"], places),
        )  # fmt: skip


def _given(request: Request) -> dict[str, str]:
    """The query without what was left empty."""
    return {name: value for name, value in request.query_params.items() if value}


def _view(given: Mapping[str, str], limit: int = PAGE_ROWS) -> View:
    view = view_of({name: value for name, value in given.items() if name != "limit"})
    return View(**{**vars(view), "limit": limit})


def _column(name: str, sort: str | None, is_number: bool, view: View, links: Mapping[str, str]) -> dict[str, Any]:
    if sort is None:
        return {"name": name, "is_number": is_number, "sorted": None, "link": None}
    is_sorted = view.sort == sort
    falls = not view.is_descending if is_sorted else sort in _FALLING_FIRST
    link = "/list?" + urlencode({**links, "sort": sort, "order": "desc" if falls else "asc"})
    how = None if not is_sorted else ("descending" if view.is_descending else "ascending")
    return {"name": name, "is_number": is_number, "sorted": how, "link": link}


def _page(links: Mapping[str, str], offset: int) -> str:
    return "/list?" + urlencode({**links, "offset": offset})


def _matching(others: Mapping[str, list[dict[str, Any]]], text: str) -> list[dict[str, Any]]:
    """Accounts that are not ranked and match a search: the answer to "why is it not on my list?"."""
    rows = [*others["leaving"], *others["excluded"]]
    return [row for row in rows if text.lower() in f"{row['account_id']} {row['name'] or ''}".lower()][:PAGE_ROWS]


def _steps(play: Mapping[str, Any] | None) -> list[str]:
    """The whole play, a line a step; nothing where the book knows it no more."""
    found = next((known for known in _plays() if play and known.id == play["play"]), None)
    if found is None:
        return []
    when = "Day {}" if found.deadline is None else "{} days before the deadline"
    return [f"{when.format(step.day)}: {step.do}" for step in found.steps]


@cache
def _plays() -> tuple[Play, ...]:
    return read_playbooks()


def _moves(parts: Mapping[str, Any] | None) -> dict[str, float]:
    """The parts of a move to show: the groups, what else features did, model and calibrator where they did anything."""
    if not parts:
        return {}
    groups = dict(parts["groups"])
    rest = parts["features"] - sum(groups.values())
    named = {**groups, "other features": rest, "another model": parts["model"], "its calibration": parts["calibration"]}
    return {name: value for name, value in named.items() if abs(value) >= 0.005}
