"""The BentoML service: typed scoring routes, and the published lists mounted beside them.

The guard stands inside it too, so that plain `bentoml serve` refuses what `tenure serve` refuses. BentoML makes the
service without arguments: the company is named by TENURE_CONFIG, else it is the one of the bento, else that of the
nearest tenure.toml.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import bentoml
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from features.errors import DataError, TenureError
from features.settings import Settings, find_config, read_settings
from serving import rest
from serving.access import Token, TokenStore, token_store
from serving.answers import Answers, TooOld
from serving.champion import load_champion
from serving.console import pages
from serving.console.pages import Pages
from serving.contract import MAX_ROWS, OPENAPI_PATH, AccountsRequest, Row, ScoreRequest, openapi
from serving.guard import Guard
from serving.ledger import open_ledger
from serving.ledger.lists import list_days, list_head, probabilities
from serving.line import LINE
from serving.observing import COUNTS_VARIABLE, LIST_AGE, ROWS, SWAP_FAILED, WORKERS, observe
from serving.observing import metrics as counted
from serving.paths import OPEN_PATHS, PATHS, ROLES
from serving.quick_scores import QuickScores
from serving.rates import Rates
from serving.workers import is_short

CONFIG_VARIABLE = "TENURE_CONFIG"
BUNDLED = Path(__file__).parent.parent / "company" / "tenure.toml"
"""The company of a bento, beside the code."""
EARLIEST = date(1970, 1, 1)
"""No company has tables of a day before."""

_log = logging.getLogger(__name__)


@cache
def settings() -> Settings:
    """The company this process serves, read once."""
    if given := os.environ.get(CONFIG_VARIABLE):
        return read_settings(Path(given))
    return read_settings(BUNDLED if BUNDLED.is_file() else find_config(Path.cwd()))


@cache
def answers() -> Answers:
    """The champion and the company, loaded once."""
    return Answers(settings(), load_champion(settings()))


@cache
def _tokens() -> TokenStore:
    return token_store(settings())


@cache
def _rates() -> Rates:
    return Rates(per_second=settings().serve.requests_per_s, burst=settings().serve.burst)


def not_ready() -> str | None:
    """Why this process cannot answer now; None where it can."""
    if (counts := os.environ.get(COUNTS_VARIABLE)) and is_short(Path(counts)):
        return "Workers are missing and do not come back; the service ends. The log says why."
    try:
        answers()
        with open_ledger(settings()).reading() as connection:
            list_days(connection)
    except TenureError as error:
        _log.warning("not ready: %s", error)
        return "Something that tenure depends on is down; the log says what."
    return None


def verify(secret: str) -> Token | None:
    """The live token behind a secret."""
    return _tokens().verify(secret, now=now())


def guarded(app: ASGIApp) -> Guard:
    """`app` behind the guard, as it stands under both servers."""
    return Guard(
        app, verify=verify, paths=PATHS, open_paths=OPEN_PATHS, pages=frozenset(pages.PATHS), forms=pages.FORMS,
        roles=ROLES, rate=lambda token: _rates()(token), observe=observe, line=LINE,
    )  # fmt: skip


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def _follow() -> None:
    """Look every few seconds which version is champion and which list the latest, for as long as the process lives."""
    _tried(_follow_list)
    while True:
        time.sleep(settings().serve.follow_s)
        _tried(_follow_champion)
        _tried(_follow_list)


def _tried(look: Callable[[], None]) -> None:
    try:
        look()
    except Exception as error:  # noqa: BLE001 - what goes wrong once must not end the looking
        _log.warning("the champion or the list could not be looked up: %s", error)


def _follow_champion() -> None:
    answers().follow(now())
    SWAP_FAILED.set(answers().swap.failed is not None)


def _follow_list() -> None:
    with open_ledger(settings()).reading() as connection:
        head = list_head(connection)
        if head is not None:
            LIST_AGE.set((now().date() - date.fromisoformat(head["as_of"])).days)
            answers().compare_with(
                head["list_id"], head["model_version"], lambda: probabilities(connection, head["as_of"])
            )


def start_following() -> None:
    """Begin to follow the alias, once a process."""
    Thread(target=_follow, name="follow", daemon=True).start()


async def openapi_document(_: Request) -> Response:
    """GET /v1/openapi.json."""
    return JSONResponse(openapi(version("tenure")))


async def metrics(_: Request) -> Response:
    """GET /metrics."""
    return await run_in_threadpool(counted)


_ROUTES = [
    Route("/metrics", metrics),
    Route(OPENAPI_PATH, openapi_document),
    *rest.routes(lambda: answers(), now),
    *Pages(lambda: answers(), lambda secret: verify(secret), now).routes(),
]


@bentoml.service(name="tenure", threads=4, traffic={"timeout": 65}, metrics={"enabled": False})
@bentoml.asgi_app(Starlette(routes=_ROUTES), path="/", name="rest")
class TenureService:
    """Probabilities of churn, with reasons."""

    def __init__(self) -> None:
        answers()
        WORKERS.set(1)
        start_following()

    @bentoml.api(route="/v1/score", input_spec=ScoreRequest)
    def score(self, ctx: bentoml.Context, rows: list[Row], reasons: bool, partial: bool) -> dict[str, Any]:
        """Score rows of features; a bad row fails alone."""
        return next(score_parts(ScoreRequest(rows=rows, reasons=reasons, partial=partial), len(rows)))

    @bentoml.api(route="/v1/score_accounts", input_spec=AccountsRequest)
    def score_accounts(
        self, ctx: bentoml.Context, account_ids: list[str], as_of: date | None, reasons: bool
    ) -> dict[str, Any]:
        """Score accounts from the features of the latest list, or of an earlier day."""
        _refuse_excess(len(account_ids))
        moment = now()
        if as_of is not None and not EARLIEST <= as_of <= moment.date():
            said = f"as_of must be from {EARLIEST} to {moment:%Y-%m-%d}; found {as_of}."
            raise bentoml.exceptions.InvalidArgument(said)
        try:
            return _counted(
                answers().score_accounts(
                    account_ids, as_of=as_of, with_reasons=reasons, token=rest.token_of(ctx.request), now=moment
                )
            )
        except TooOld as error:
            raise StaleFeatures(str(error)) from error
        except DataError as error:
            raise bentoml.exceptions.NotFound(str(error)) from error


def score_parts(request: ScoreRequest, size: int) -> Iterator[dict[str, Any]]:
    """The answer to rows that were checked, `size` rows after `size` rows."""
    given = [(row.account_id, row.features) for row in request.rows]
    parts = answers().score_parts(given, size=size, with_reasons=request.reasons, partial=request.partial)
    return map(_counted, parts)


def _counted(found: dict[str, Any]) -> dict[str, Any]:
    for row in found["rows"]:
        ROWS.labels("scored" if row["error"] is None else row["error"]["code"]).inc()
    return found


def _refuse_excess(rows: int) -> None:
    if rows > MAX_ROWS:
        raise TooManyRows(f"At most {MAX_ROWS} rows may be sent at once; found {rows}. Send them in parts.")


class TooManyRows(bentoml.exceptions.BentoMLException):
    """More rows than one request may hold."""

    error_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class StaleFeatures(bentoml.exceptions.BentoMLException):
    """Features too old to score by."""

    error_code = HTTPStatus.CONFLICT


class _Answered(logging.Filter):
    """Drops the traceback that BentoML logs for every bad request, with the caller's values in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep failures of ours; the caller was told of its own."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, bentoml.exceptions.BentoMLException):
            return bool(error.error_code.value >= HTTPStatus.INTERNAL_SERVER_ERROR)
        return not isinstance(error, ValidationError)


logging.getLogger("bentoml._internal.server.http_app").addFilter(_Answered())

service: Any = TenureService
"""What BentoML made of the class."""

service.add_asgi_middleware(guarded)
service.add_asgi_middleware(QuickScores, answer=score_parts)
