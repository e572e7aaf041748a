"""The console: a page of the risk list of 5,000 accounts, sorted and filtered, beside its SQL alone."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from playwright.sync_api import sync_playwright
from starlette.applications import Starlette

from features.tables import open_tables
from serving.access import Token
from serving.answers import Answers
from serving.champion import load_champion
from serving.console import pages
from serving.console.pages import Pages
from serving.guard import SESSION, Guard
from serving.ledger import open_ledger
from serving.ledger.lists import View, list_rows
from serving.ledger.tables import account_scores
from serving.nightly import make_list
from serving.publication import publish
from tests.benchmarks.served import AS_OF, served_company
from tests.benchmarks.table import at_most, figure, report

ACCOUNTS, REQUESTS = 5_000, 200
NOW = datetime(2024, 4, 1, 6, tzinfo=UTC)
ASKED = (
    "/list",
    "/list?sort=mrr_at_risk&order=desc",
    "/list?band=high,critical",
    "/list?q=a0001&offset=50",
    "/list?offset=2500",
)


def benchmark(folder: Path) -> bool:
    """Each request goes through guard, query and template in this process, one at a time."""
    settings = served_company(folder / "console", accounts=ACCOUNTS, events=1_000_000)
    tables = open_tables(settings, now=AS_OF)
    publish(*make_list(tables, settings, AS_OF), settings)
    token = Token(id="0" * 8, role="manager", csm_id=None, created_at=NOW, expires_at=NOW + timedelta(days=1))
    answers = Answers(settings, load_champion(settings))
    app = Guard(
        Starlette(routes=Pages(lambda: answers, lambda _: token, lambda: NOW).routes()), verify=lambda _: token,
        paths=pages.PATHS, pages=frozenset(pages.PATHS),
    )  # fmt: skip
    served, alone, painted = asyncio.run(_asked(app)), _queried(settings), _painted(app)
    return report("console", [
        figure(f"the query of a page of {ACCOUNTS:,}, median", 1000 * float(np.median(alone)), "ms"),
        figure("the page, median", 1000 * float(np.median(served)), "ms"),
        at_most("the page, 95th percentile", 1000 * float(np.quantile(served, 0.95)), 50, "ms"),
        *([at_most("first paint in Chromium, median", float(np.median(painted)) / 1000, 1.0, "s")] if painted else []),
    ])  # fmt: skip


async def _asked(app: Guard) -> list[float]:
    taken = []
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://tenure", cookies={SESSION: "x"}) as client:
        for number in range(REQUESTS + 10):
            start = time.perf_counter()
            answer = await client.get(ASKED[number % len(ASKED)])
            assert answer.status_code == 200
            taken.append(time.perf_counter() - start)
    return taken[10:]


def _painted(app: Guard) -> list[float]:
    """Milliseconds to the first paint of something, each time in a browser that has nothing kept; none without one."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        return []
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    taken = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(5):
            context = browser.new_context()
            context.add_cookies([{"name": SESSION, "value": "x", "url": f"http://127.0.0.1:{port}"}])
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}/list")
            taken.append(page.evaluate(_FIRST_PAINT))
            context.close()
        browser.close()
    server.should_exit = True
    thread.join()
    return taken


_FIRST_PAINT = """new Promise(told => new PerformanceObserver(
    seen => seen.getEntriesByName("first-contentful-paint").forEach(paint => told(paint.startTime))
).observe({type: "paint", buffered: true}))"""


def _queried(settings) -> list[float]:
    taken = []
    for number in range(REQUESTS):
        start = time.perf_counter()
        with open_ledger(settings).reading() as connection:
            list_rows(connection, f"{AS_OF:%Y-%m-%d}", account_scores.c.rank > 0, View(offset=50 * (number % 20)))
        taken.append(time.perf_counter() - start)
    return taken
