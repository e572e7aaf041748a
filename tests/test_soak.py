"""A long day: good and bad requests on every route leave memory, files and threads as they were."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from datetime import UTC, datetime

import pytest

from serving.access import token_store
from serving.guard import SESSION, SIGN_IN
from serving.paths import OPEN_PATHS, PATHS
from serving.published import published, read_list
from tests.load import Client, closed_loop, request, statuses, unlimited, use
from tests.servers import TENURE, free_port, running

WARM_UP_S, SECONDS, LEAKING_S = 60, 600, 60
CALLERS = 4

pytestmark = pytest.mark.long("a quarter of an hour")
MOST_GROWTH_MIB, MOST_FDS, MOST_THREADS = 20, 5, 2
ROW = {"account_id": "a", "features": {"tenure_days": 400}}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def world(trained_world, tmp_path_factory):
    """A company, the secret of somebody who may ask, and an account."""
    folder = tmp_path_factory.mktemp("soak")
    company = unlimited(shutil.copytree(trained_world, folder / "world") / "tenure.toml")
    _, secret = token_store(company).create(role="admin", now=datetime.now(UTC))
    return company, secret, read_list(published(company))["rows"][0]["account_id"]


def requests_of_all_kinds(secret, account):
    """Good and bad requests on every route."""
    cookie = {"cookie": f"{SESSION}={secret}"}
    filled = [path.replace("{account_id}", account).replace("{as_of}", "latest") for path in (*PATHS, *OPEN_PATHS)]
    good = [request("GET", path, secret, **cookie) for path in filled]  # Some of them 405.
    good += [
        request("POST", "/v1/score", secret, {"rows": [ROW] * 5, "partial": True}),
        request("POST", "/v1/score", secret, {"rows": [ROW] * 100, "partial": True, "reasons": True}),
        request("POST", "/v1/score_accounts", secret, {"account_ids": [account, "acc-99999"]}),
        request("GET", "/list/export?format=xlsx", **cookie),
    ]
    bad = [
        request("POST", "/v1/score", secret, b"[" * 300_000),
        request("POST", "/v1/score", secret, {"rows": [{**ROW, "features": {"mood": 1}}]}),
        request("POST", "/v1/score", "tnr_00000000_" + "x" * 43, {"rows": [ROW]}),
        request("POST", "/v1/score", secret, b"<a/>", content_type="text/xml"),
        request("POST", SIGN_IN, None, b"token=wrong", content_type=FORM),
        request("GET", "/v1/lists/latest?sort=mood", secret),
        request("GET", "/v1/accounts/acc-99999", secret),
        *(request("GET", f"/junk/{number}") for number in range(50)),
    ]
    return good + bad


def soaked(port, pid, contents, seconds):
    """What the server holds after a warm-up and after the time that followed, and the statuses of all answers."""

    async def run(for_s):
        client = Client(port)
        found = await closed_loop(client, contents, callers=CALLERS, seconds=for_s)
        await client.close()
        return statuses(found)

    asyncio.run(run(WARM_UP_S))
    time.sleep(1)
    before = use(pid)
    found = asyncio.run(run(seconds))
    time.sleep(1)
    return before, use(pid), found


def faults(before, after):
    """What a server has more of than it may."""
    grown = {
        "memory": after.rss_mib - before.rss_mib > MOST_GROWTH_MIB,
        "files": abs(after.fds - before.fds) > MOST_FDS,
        "threads": after.threads - before.threads > MOST_THREADS,
    }
    return [name for name, is_grown in grown.items() if is_grown]


def test_nothing_grows_while_good_and_bad_requests_are_answered(world, tmp_path):
    company, secret, account = world
    port, started = free_port(), []
    command = [TENURE, "serve", f"--port={port}", f"--config={company.path}"]
    with running(command, port, tmp_path / "log", started):
        before, after, found = soaked(port, started[0].pid, requests_of_all_kinds(secret, account), SECONDS)

    print(f"{sum(found.values())} requests in {SECONDS} s, {dict(found)}: {before} -> {after}")
    assert faults(before, after) == []
    assert {200, 400, 401, 404, 405, 415} <= set(found)
    assert all(status in range(200, 430) for status in found), "neither lost connections nor failures"


def test_a_planted_leak_is_noticed(world, tmp_path):
    company, secret, account = world
    port, started = free_port(), []
    command = [sys.executable, "-m", "uvicorn", "tests.leaking:app", "--factory", f"--port={port}", "--log-level=error"]
    with running(command, port, tmp_path / "log", started, TENURE_CONFIG=str(company.path)):
        before, after, found = soaked(port, started[0].pid, requests_of_all_kinds(secret, account), LEAKING_S)

    print(f"{sum(found.values())} requests: {before} -> {after}")
    assert faults(before, after) == ["memory"]
