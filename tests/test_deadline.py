"""Who waits too long hears so in time, and what was still at work for them changes nothing."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serving.access import TokenStore
from serving.guard import Guard
from serving.ledger import Ledger, record
from serving.ledger.tables import audit
from serving.line import Line
from tests.load import Client, request, statuses
from tests.servers import serving_app

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
LIMIT_S, WORK_S, QUICK, CALLS = 0.5, 1.5, 4, 50
LATE_S = 0.2 if FULL else 2.0
"""Beyond the limit; the reduced tests run beside others."""
POOL = 40
"""Threads that Starlette works in."""


@pytest.fixture
def ledger(tmp_path):
    return Ledger(None, tmp_path)


@pytest.fixture
def secret(ledger):
    return TokenStore(ledger).create(role="admin", now=NOW)[1]


def lines_of(ledger):
    with ledger.reading() as connection:
        return connection.execute(select(func.count()).where(audit.c.action == "worked")).scalar_one()


def worker(ledger, seen):
    """An app whose `/v1/work/{seconds}` works in a thread, and then writes a line of the audit."""

    def work(seconds):
        seen.append(threading.active_count())
        time.sleep(seconds)
        with ledger.writing() as connection:
            record(connection, at=NOW, by="worker", action="worked")

    async def answer(request):
        await run_in_threadpool(work, float(request.path_params["seconds"]))
        return PlainTextResponse("worked")

    return Starlette(routes=[Route("/v1/work/{seconds}", answer, methods=["GET"])])


def guarded(ledger, seen):
    store = TokenStore(ledger)
    return Guard(
        worker(ledger, seen), verify=lambda secret: store.verify(secret, now=NOW),
        paths={"/v1/work/{seconds}": frozenset({"GET"})}, answer_timeout_s=LIMIT_S, line=Line(CALLS),
    )  # fmt: skip


async def asked(port, secret, *rounds):
    """The answers to each round of calls at once, given by their number and how long each works."""
    client, answers = Client(port), []
    for calls, seconds in rounds:
        content = request("GET", f"/v1/work/{seconds}", secret)
        answers.append(await asyncio.gather(*(client.ask(content) for _ in range(calls))))
    await client.close()
    return answers


def test_fifty_slow_calls_are_told_in_time_leave_no_effect_and_a_bounded_number_of_threads(ledger, secret):
    sys.setswitchinterval(0.0005)  # Caller and service are threads of one process here.
    seen, before = [], threading.active_count()
    with serving_app(guarded(ledger, seen)) as port:
        quick, slow = asyncio.run(asked(port, secret, (QUICK, 0), (CALLS, WORK_S)))
        deadline = time.monotonic() + 30
        while len(seen) < QUICK + CALLS and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(WORK_S + 0.5)
        ((last,),) = asyncio.run(asked(port, secret, (1, 0)))

    assert dict(statuses(quick)) == {200: QUICK}
    assert dict(statuses(slow)) == {504: CALLS}
    assert max(each.seconds for each in slow) <= LIMIT_S + LATE_S
    assert all(each.headers["content-type"] == "application/problem+json" for each in slow)
    assert len(seen) == QUICK + CALLS + 1, "each of them began"
    assert max(seen) <= before + 1 + POOL + 2
    assert (last.status, lines_of(ledger)) == (200, QUICK + 1)


def test_an_answer_in_time_is_kept(ledger, secret):
    with serving_app(guarded(ledger, [])) as port:
        (answers,) = asyncio.run(asked(port, secret, (3, 0.05)))

    assert (dict(statuses(answers)), lines_of(ledger)) == ({200: 3}, 3)
