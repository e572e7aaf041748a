"""More requests than can be answered: some are answered as ever, the others are told at once to come back."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import time
from datetime import UTC, datetime
from statistics import median
from types import SimpleNamespace

import pytest

from serving.access import token_store
from tests.load import Client, closed_loop, open_loop, p99, request, statuses, unlimited, use
from tests.servers import TENURE, free_port, running

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
SECONDS = 30 if FULL else 2
CALLERS = 16
BACK_S = 5
FACTORS = {"8 rows": (2, 5), "64 rows": (2, 5, 10), "64 rows with reasons": (2, 5, 10)}
"""Times the capacity; ten times the light ones are more than one core can send."""


def body(kind):
    rows = [{"account_id": f"a{each}", "features": {"tenure_days": 400 + each}} for each in range(int(kind.split()[0]))]
    return {"rows": rows, "partial": True, "reasons": kind.endswith("reasons")}


@pytest.fixture(scope="module")
def server(trained_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("overload")
    company = unlimited(shutil.copytree(trained_world, folder / "world") / "tenure.toml")
    _, secret = token_store(company).create(role="ds", now=datetime.now(UTC))
    port, log, started = free_port(), folder / "log", []
    with running([TENURE, "serve", f"--port={port}", f"--config={company.path}"], port, log, started):
        if FULL:  # So that the callers do not take the time of what they measure.
            os.sched_setaffinity(started[0].pid, {max(os.sched_getaffinity(0))})
        yield SimpleNamespace(port=port, log=log, secret=secret, pid=started[0].pid)


def test_of_an_answered_request_nothing_is_kept(server):
    contents = [request("GET", path, server.secret) for path in ("/livez", "/v1/features", "/v1/model")]

    async def asked(seconds):
        client = Client(server.port)
        answers = await closed_loop(client, contents, callers=CALLERS, seconds=seconds)
        await client.close()
        return statuses(answers)

    asyncio.run(asked(1))
    before = use(server.pid)
    found = asyncio.run(asked(4))
    grown = use(server.pid).rss_mib - before.rss_mib

    assert set(found) == {200}
    assert 1024 * grown / found[200] < 1, "KiB for each"


async def beside_batches(server, batch):
    """Seconds of the answers to steady requests of one row with reasons, and of those to a batch caller beside them."""
    steady, batches = Client(server.port), Client(server.port)
    one = request("POST", "/v1/score", server.secret, body("1 row with reasons"))
    asking = asyncio.create_task(closed_loop(batches, [batch], callers=1, seconds=SECONDS + 1))
    await asyncio.sleep(0.5)
    answers = await open_loop(steady, [one], rate=50, seconds=SECONDS)
    whole = await asking
    await steady.close()
    await batches.close()
    return answers, whole


@pytest.mark.parametrize("kind", ["1000 rows", "1000 rows with reasons"])
def test_a_large_batch_keeps_nobody_from_an_answer(server, kind):
    answers, batches = asyncio.run(beside_batches(server, request("POST", "/v1/score", server.secret, body(kind))))
    print(f"{kind}: p99 of one row with reasons {p99(answers):.3f} s, of the batches {p99(batches):.3f} s")

    assert set(statuses(answers)) == set(statuses(batches)) == {200}
    assert median(each.seconds for each in answers) < median(each.seconds for each in batches) / 2
    if FULL:
        assert p99(answers) < 0.05


async def overloaded(server, kind):
    """Requests a second that can be answered; the answers to many times as many; the answers some seconds after."""
    client = Client(server.port)
    content = request("POST", "/v1/score", server.secret, body(kind))
    gc.disable()  # The caller's own pauses would be taken for the service's.
    peak = statuses(await closed_loop(client, [content], callers=CALLERS, seconds=SECONDS))[200] / SECONDS
    rounds = []
    for factor in FACTORS[kind] if FULL else (5,):
        answers = await open_loop(client, [content], rate=factor * peak, seconds=SECONDS)
        await asyncio.sleep(BACK_S)
        after = await closed_loop(client, [content], callers=1, seconds=1)
        rounds.append((factor, answers, after))
    gc.enable()
    await client.close()
    return peak, rounds


@pytest.mark.parametrize("kind", FACTORS)
def test_an_overload_is_refused_in_good_order_and_passes(server, kind):
    if FULL:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    start = time.monotonic()
    before = len(server.log.read_text())
    peak, rounds = asyncio.run(overloaded(server, kind))
    took = time.monotonic() - start
    said = server.log.read_text()[before:]

    for factor, answers, after in rounds:
        good, refused = ([each for each in answers if (each.status == 200) == is_good] for is_good in (True, False))
        goodput = len(good) / SECONDS / peak
        print(
            f"{kind}, {factor} x {peak:.0f}/s: {dict(statuses(answers))}, goodput {goodput:.0%}, "
            f"p99 of accepted {p99(good):.3f} s, of refused {p99(refused):.3f} s"
        )
        assert set(statuses(answers)) <= {200, 429, 503}
        assert refused, "it was no overload"
        assert all(int(each.headers["retry-after"]) >= 1 for each in refused)
        assert set(statuses(after)) == {200}
        if FULL:
            assert goodput >= 0.8
            assert p99(refused) <= 0.05
            assert p99(good) <= 0.5
    assert "Traceback" not in said
    assert 1 <= said.count("turned away") <= took + 1, "it is said once a second at most"
    assert len(said.splitlines()) <= said.count("turned away") + 5
