"""The REST routes that only read: lists, accounts, features, the model. They answer from the ledger.

Every answer about accounts is cut to what the caller may see; what may not be seen is answered as what is not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from features.catalogue import catalogue_rows
from features.errors import DataError, Misuse
from serving.access import Token, sees, visible_to
from serving.answers import Answers
from serving.ledger import open_ledger
from serving.ledger.lists import (
    SORTS,
    View,
    account,
    account_history,
    counts,
    list_days,
    list_head,
    list_rows,
    other_rows,
)  # fmt: skip
from serving.ledger.tables import account_scores
from serving.reply import problem
from serving.timeline import timeline_of

MOST_ROWS = 1000
MOST_DAYS = 400
BANDS = ("low", "medium", "high", "critical")

Given = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: what, by whom, when."""

    url: URL
    path: Mapping[str, str]
    """The path's variables."""
    query: Given
    token: Token
    now: datetime


Reader = Callable[[Answers, Asked], dict[str, Any]]


class NotThere(DataError):
    """What was asked for is not there, or not for this caller."""


def routes(answers: Callable[[], Answers], clock: Callable[[], datetime]) -> list[Route]:
    """The routes; `answers` gives what they answer from, `clock` an aware time."""
    return [Route(path, _endpoint(reader, answers, clock), methods=["GET"]) for path, reader in _READERS.items()]


def _endpoint(
    reader: Reader, answers: Callable[[], Answers], clock: Callable[[], datetime]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        asked = Asked(
            url=request.url, path=request.path_params, query=request.query_params, token=token_of(request), now=clock()
        )
        try:
            found = await run_in_threadpool(reader, answers(), asked)
        except (NotThere, Misuse) as error:
            status = 404 if isinstance(error, NotThere) else 400
            request_id = request.scope.get("state", {}).get("request_id")
            return problem(status, str(error), instance=request.url.path, request_id=request_id)
        return _tagged(found, request)

    return endpoint


def token_of(request: Request) -> Token:
    """Who asks; the guard has let nobody else through."""
    found = request.scope.get("state", {}).get("token")
    if not isinstance(found, Token):
        raise PermissionError("a request came past the guard without a token")
    return found


def _tagged(found: dict[str, Any], request: Request) -> Response:
    """The answer, or 304 where the caller has it already."""
    body = json.dumps(found, allow_nan=False, default=str).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    given = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if tag in given:
        return Response(status_code=304, headers={"etag": tag})
    return Response(body, media_type="application/json", headers={"etag": tag})


def days(answers: Answers, asked: Asked) -> dict[str, Any]:
    """GET /v1/lists: the days of all lists, latest first."""
    with open_ledger(answers.settings).reading() as connection:
        return {"days": list_days(connection)}


def one_list(answers: Answers, asked: Asked) -> dict[str, Any]:
    """GET /v1/lists/{as_of}, or `latest`: a page of the ranked accounts, and on the first page the others."""
    view, day = view_of(asked.query), asked.path["as_of"]
    visible = visible_to(asked.token, account_scores)
    with open_ledger(answers.settings).reading() as connection:
        head = list_head(connection, None if day == "latest" else day)
        if head is None:
            raise NotThere(
                "No list was published yet. Run `tenure score` first."
                if day == "latest"
                else "There is no list of that day; /v1/lists names the days."
            )
        rows, total = list_rows(connection, head["as_of"], visible, view)
        others = other_rows(connection, head["as_of"], visible) if view.offset == 0 else {}
        ours = counts(connection, head["as_of"], visible)
    ends = view.offset + len(rows)
    return {
        **head,
        "counts": ours,
        "total": total,
        "rows": rows,
        **others,
        "next": f"{asked.url.path}?{asked.url.include_query_params(offset=ends).query}" if ends < total else None,
        "warnings": answers.warnings_of(head["as_of"], now=asked.now),
    }


def view_of(given: Given) -> View:
    """The view that a query asks for.

    Raises
    ------
    Misuse
        A parameter is unknown, or not a value that it may have.
    """
    known = {"sort", "order", "band", "csm", "q", "listed", "offset", "limit"}
    if strangers := sorted(set(given) - known):
        raise Misuse(f"Parameters must be among {sorted(known)}; found {strangers[0][:40]!r}.")
    sort, order = given.get("sort", "rank"), given.get("order", "asc")
    bands = tuple(given["band"].split(",")) if given.get("band") else ()
    _require(sort in SORTS, "sort", f"one of {list(SORTS)}")
    _require(order in ("asc", "desc"), "order", "asc or desc")
    _require(set(bands) <= set(BANDS), "band", f"some of {list(BANDS)}, with commas between")
    _require(given.get("listed", "false") in ("true", "false"), "listed", "true or false")
    return View(
        sort=sort,
        is_descending=order == "desc",
        bands=bands,
        csm_id=given.get("csm") or None,
        text=given.get("q", "")[:100] or None,
        only_listed=given.get("listed") == "true",
        offset=_whole(given, "offset", 0, 10**9),
        limit=_whole(given, "limit", MOST_ROWS, MOST_ROWS, least=1),
    )


def _whole(given: Given, name: str, default: int, most: int, *, least: int = 0) -> int:
    text = given.get(name, str(default))
    right = text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most
    _require(right, name, f"a whole number from {least} to {most}")
    return int(text)


def _require(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise Misuse(f"{name} must be {expected}.")


def one_account(answers: Answers, asked: Asked) -> dict[str, Any]:
    """GET /v1/accounts/{account_id}: what the newest list says of it, and why it is, or is not, ranked."""
    found = _account(answers, asked)
    levers = answers.levers_of(found["account_id"], model_version=found["model_version"])
    return {**found, "levers": levers, "warnings": answers.warnings_of(found["as_of"], now=asked.now)}


def _account(answers: Answers, asked: Asked) -> dict[str, Any]:
    with open_ledger(answers.settings).reading() as connection:
        found = account(connection, asked.path["account_id"])
    if found is None or not sees(asked.token, found["csm_id"]):
        raise NotThere("There is no such account.")
    return found


def history(answers: Answers, asked: Asked) -> dict[str, Any]:
    """GET /v1/accounts/{account_id}/history: what each list said of it, newest first."""
    now = _account(answers, asked)
    with open_ledger(answers.settings).reading() as connection:
        found = account_history(connection, now["account_id"], limit=MOST_DAYS)
    return {"account_id": now["account_id"], "history": found}


def timeline(answers: Answers, asked: Asked) -> dict[str, Any]:
    """GET /v1/accounts/{account_id}/timeline: its use by week, and what happened, as the newest list knew it."""
    now = _account(answers, asked)
    told = timeline_of(answers.settings, now["account_id"], now["as_of"])
    return {**told, "warnings": answers.warnings_of(now["as_of"], now=asked.now)}


def features(answers: Answers, asked: Asked) -> dict[str, Any]:
    """GET /v1/features: the features that the model asks for, with their meaning."""
    names = set(answers.champion.model.features)
    return {"features": [row for row in catalogue_rows({}) if row["name"] in names]}


def model(answers: Answers, asked: Asked) -> dict[str, Any]:
    """GET /v1/model: the version in use, how it was judged, and what was done to show that it sees no future."""
    champion = answers.champion
    chosen = ("metrics", "baselines", "warnings", "learned_until")
    return {
        "model_version": champion.version,
        "artefact": champion.artefact,
        "horizon_days": champion.model.horizon_days,
        "base_rate": champion.model.base_rate,
        "evaluation": {name: champion.model.evaluation.get(name) for name in chosen},
        "certificate": {name: champion.model.certificate.get(name) for name in ("verdict", "is_valid", "trained_at")},
        "swap": asdict(answers.swap),
    }


_READERS: Mapping[str, Reader] = {
    "/v1/lists": days,
    "/v1/lists/{as_of}": one_list,
    "/v1/accounts/{account_id}": one_account,
    "/v1/accounts/{account_id}/history": history,
    "/v1/accounts/{account_id}/timeline": timeline,
    "/v1/features": features,
    "/v1/model": model,
}
PATHS = tuple(_READERS)
"""All paths that this module answers."""
