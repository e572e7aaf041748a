"""The pages: who may open them, that they show what the list says, and that no text of a customer becomes markup."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.applications import Starlette

from features.settings import read_settings
from serving.access import Token
from serving.answers import Answers
from serving.champion import load_champion
from serving.console import pages
from serving.console.charts import moved_by, risk_over_time
from serving.console.pages import Pages
from serving.guard import SESSION, Guard
from serving.ledger import open_ledger
from serving.ledger.lists import keep_list
from serving.published import published, read_list
from serving.timeline import TIMELINE, _published, timeline_bytes, timeline_of
from tests.servers import serving_app

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

NOW = datetime(2025, 5, 2, 6, tzinfo=UTC)
BASE = "http://tenure"
HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "'><b>x</b>",
    "{{ 7 * 7 }}", "{% raw %}", "javascript:alert(1)", "</td></table><form action=//x>", "&lt;b&gt;", "<!-- ", "]]>",
    "\u202eevil",
]  # fmt: skip


@pytest.fixture(scope="module")
def company(trained_world, tmp_path_factory):
    """A copy of the company whose ledger holds two lists, the later one with changes and with hostile names."""
    folder = tmp_path_factory.mktemp("console") / "world"
    shutil.copytree(trained_world, folder)
    settings = read_settings(folder / "tenure.toml")
    found = read_list(published(settings))
    earlier = {**found, "as_of": "2025-04-01"}
    rows = [
        {**row, "name": HOSTILE[place] if place < len(HOSTILE) else row["name"]}
        for place, row in enumerate(found["rows"])
    ]
    moved = {"log_odds": 0.5, "features": 0.4, "model": 0.1, "calibration": 0.0, "groups": {"usage": 0.3}}
    change = {"kind": "up", "probability_before": 0.01, "band_before": "low", "rank_before": 90, "moved_by": moved}
    rows[0] = {**rows[0], "change": change}
    later = {**found, "rows": rows, "before": {"as_of": "2025-04-01", "list_id": "earlier"}}
    with open_ledger(settings).writing() as connection:
        keep_list(connection, earlier, list_id="earlier")
        keep_list(connection, later, list_id="later")
    return settings


@pytest.fixture(scope="module")
def today(company):
    return read_list(published(company))


@pytest.fixture(scope="module")
def owner(today):
    return next(row["csm_id"] for row in today["rows"] if row["csm_id"])


@pytest.fixture(scope="module")
def tokens(owner):
    """Secret to token, as a store would verify them."""

    def token(role, csm_id=None):
        return Token(id="0" * 8, role=role, csm_id=csm_id, created_at=NOW, expires_at=NOW + timedelta(days=1))

    return {"all": token("manager"), "own": token("csm", owner)}


@pytest.fixture
def app(company, tokens):
    """The pages behind the guard."""
    champion = load_champion(company)
    answers = Answers(company, champion)
    routes = Pages(lambda: answers, tokens.get, lambda: NOW).routes()
    return Guard(
        Starlette(routes=routes), verify=tokens.get, paths={**pages.PATHS, **pages.OPEN_PATHS},
        open_paths=frozenset(pages.OPEN_PATHS), pages=frozenset(pages.PATHS), forms=pages.FORMS,
    )  # fmt: skip


@pytest.fixture
def ask(app):
    def asked(method, path, secret="all", **more):
        async def answer():
            cookies = {SESSION: secret} if secret else {}
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE, cookies=cookies) as client:
                return await client.request(method, path, **more)

        return asyncio.run(answer())

    return asked


class Elements(HTMLParser):
    """What a browser would find in a page: its tags, the attributes that run code, its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.running, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.running += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]

    def handle_data(self, data):
        self.text += data


# Who may open them


@pytest.mark.parametrize("path", ["/", "/list", "/list/export", "/accounts/acc-00001"])
@pytest.mark.parametrize("secret", [None, "wrong"])
def test_a_stranger_is_sent_to_sign_in(ask, path, secret):
    answer = ask("GET", path, secret)

    assert answer.status_code == 303
    assert answer.headers["location"] == "/login"


def test_signing_in_sets_a_cookie_that_no_script_and_no_other_site_can_use(ask):
    answer = ask("POST", "/login", None, data={"secret": "all", "next": "/list?band=high"}, headers={"origin": BASE})
    cookie = answer.headers["set-cookie"].lower()

    assert (answer.status_code, answer.headers["location"]) == (303, "/list?band=high")
    assert all(word in cookie for word in ("httponly", "samesite=strict", "max-age="))


@pytest.mark.parametrize("after", ["//evil.example", "https://evil.example", "/\\evil", "javascript:alert(1)", ""])
def test_signing_in_leads_nowhere_else(ask, after):
    answer = ask("POST", "/login", None, data={"secret": "all", "next": after}, headers={"origin": BASE})
    assert answer.headers["location"] == "/list"


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", BASE + ".evil.example"])
@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_a_form_from_elsewhere_is_refused(ask, origin, path):
    answer = ask("POST", path, data={"secret": "all"}, headers={"origin": origin} if origin else {})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_the_eleventh_wrong_token_within_five_minutes_has_to_wait(ask):
    said = [ask("POST", "/login", None, data={"secret": "guess"}, headers={"origin": BASE}) for _ in range(11)]

    assert [answer.status_code for answer in said] == [401] * 10 + [429]
    assert said[-1].headers["retry-after"] == "300"
    assert ask("POST", "/login", None, data={"secret": "all"}, headers={"origin": BASE}).status_code == 429


def test_signing_out_takes_the_cookie_away(ask):
    answer = ask("POST", "/logout", headers={"origin": BASE})
    assert answer.headers["location"] == "/login"
    assert "max-age=0" in answer.headers["set-cookie"].lower()


def test_a_csm_sees_the_own_accounts_alone_on_every_page(ask, today, owner):
    everyone = [row for part in ("rows", "leaving", "excluded") for row in today[part]]
    foreign = {row["account_id"] for row in everyone if row["csm_id"] != owner}
    shown = ask("GET", "/list", "own").text + ask("GET", "/list?q=acc", "own").text
    sheet = ask("GET", "/list/export?format=csv", "own").text
    unknown = ask("GET", "/accounts/nobody", "own")

    assert len(foreign) > 20
    assert not [account for account in foreign if account in shown or account in sheet]
    for account in sorted(foreign)[:20]:
        answer = ask("GET", f"/accounts/{account}", "own")
        assert (answer.status_code, answer.text) == (unknown.status_code, unknown.text) == (404, unknown.text)


# What they show


def test_the_list_shows_its_rows_in_their_order(ask, today):
    shown = re.findall(r'href="/accounts/([^"]+)"', ask("GET", "/list").text.split("</table>")[0])
    assert shown == [row["account_id"] for row in today["rows"][: pages.PAGE_ROWS]]


def test_the_pages_of_the_list_hold_every_account_once(ask, today):
    path, seen = "/list", []
    while path:
        html = ask("GET", path).text
        seen += re.findall(r'<th scope="row"><a href="/accounts/([^"]+)"', html)
        found = re.search(r'href="([^"]+)" rel="next"', html)
        path = found and found[1].replace("&amp;", "&")
    assert sorted(seen) == sorted(row["account_id"] for row in today["rows"])


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_the_export_holds_what_is_shown(ask, today, form):
    answer = ask("GET", f"/list/export?format={form}&band=high,critical&sort=name")
    wanted = sum(row["band"] in ("high", "critical") for row in today["rows"])

    assert f".{form}" in answer.headers["content-disposition"]
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert len(rows) == wanted
        assert {row["band"] for row in rows} <= {"high", "critical"}


def test_a_search_tells_why_an_account_is_not_on_the_list(ask, today):
    gone = today["excluded"][0]
    answer = Elements(ask("GET", f"/list?q={gone['account_id']}").text)
    page = Elements(ask("GET", f"/accounts/{gone['account_id']}").text)

    assert gone["reason"] in answer.text
    assert f"It is not ranked: {gone['reason']}." in page.text


def test_an_account_shows_its_reasons_its_play_and_its_past(ask, today):
    row = next(row for row in today["rows"] if row["reasons"] and row["play"]) if any(
        row["reasons"] for row in today["rows"]
    ) else today["rows"][0]  # fmt: skip
    page = Elements(ask("GET", f"/accounts/{row['account_id']}").text)

    assert all(reason["text"] in page.text for reason in row["reasons"])
    assert row["play"] is None or row["play"]["step"] in page.text
    assert "2025-04-01" in page.text
    assert "svg" in page.tags


def test_a_change_is_split_on_the_page_of_the_account(ask, today):
    page = Elements(ask("GET", f"/accounts/{today['rows'][0]['account_id']}").text)
    assert all(word in page.text for word in ("usage", "+0.30", "other features", "+0.10", "another model"))


@pytest.mark.parametrize("query", ["sort=mood", "limit=5", "order=x", "offset=-1"])
def test_a_link_that_means_nothing_is_a_page_that_says_so(ask, query):
    answer = ask("GET", f"/list?{query}")
    assert answer.status_code == (200 if query == "limit=5" else 400)
    assert answer.headers["content-type"].startswith("text/html")


def test_an_account_shows_its_use_and_what_happened(ask, company, today):
    account = today["rows"][0]["account_id"]
    told = timeline_of(company, account, today["as_of"])
    html = ask("GET", f"/accounts/{account}").text
    page = Elements(html)

    assert told["events"]
    assert all(event["text"] in page.text and event["date"] in page.text for event in told["events"])
    assert all(week["begins"] in page.text for week in told["weeks"])
    assert 'aria-label="Use in 26 weeks' in html


def test_every_link_of_a_reason_leads_to_a_place_on_the_page(ask, today):
    followed = 0
    for row in today["rows"][:40]:
        html = ask("GET", f"/accounts/{row['account_id']}").text
        links = set(re.findall(r'href="#([^"]+)"', html.partition("<main")[2]))
        places = re.findall(r' id="([^"]+)"', html)
        assert links <= set(places)
        assert len(places) == len(set(places)), "an id is there once"
        followed += len(links)

    assert followed > 20


def test_ids_of_what_happened_are_shown_as_they_are(ask, company, today, tmp_path):
    """Ids come from the sources: whoever names a ticket may try to name it in markup."""
    folder = published(company)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    rows = pq.read_table(folder / TIMELINE)
    ids = pa.array([HOSTILE[place % len(HOSTILE)] for place in range(rows.num_rows)])
    content = timeline_bytes(rows.set_column(rows.column_names.index("id"), "id", ids))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / TIMELINE).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps({**manifest, TIMELINE: hashlib.sha256(content).hexdigest()}))
    _published.cache_clear()
    try:
        pages_of = [Elements(ask("GET", f"/accounts/{row['account_id']}").text) for row in today["rows"][:20]]
    finally:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        _published.cache_clear()

    assert all(not {"script", "img", "b"} & set(page.tags) and page.running == [] for page in pages_of)
    assert any(HOSTILE[0] in page.text.partition("What happened")[2] for page in pages_of)


def test_an_account_of_a_list_without_timeline_opens_and_says_so(ask, company, today, tmp_path):
    folder = published(company)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[TIMELINE]
    (folder / TIMELINE).unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    _published.cache_clear()
    try:
        answer = ask("GET", f"/accounts/{today['rows'][0]['account_id']}")
    finally:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        _published.cache_clear()

    assert answer.status_code == 200
    assert "No timeline on this list" in answer.text


# What they hold


@pytest.mark.parametrize("path", ["/list", "/list?q=alert", "/list?csm=%3Cscript%3E", "/login?next=%22%3E%3Cscript%3E"])
def test_no_text_becomes_markup(ask, path):
    answer = ask("GET", path)
    found = Elements(answer.text)

    assert not {"script", "img", "b"} & set(found.tags)
    assert found.running == []
    assert "49" not in re.findall(r"\b49\b", found.text.split("#")[0])


def test_hostile_names_are_shown_as_they_are(ask, today):
    found = Elements(ask("GET", "/list").text)
    assert all(name.strip() in found.text for name in HOSTILE)
    for row in today["rows"][: len(HOSTILE)]:
        page = Elements(ask("GET", f"/accounts/{row['account_id']}").text)
        assert not {"script", "img", "b"} & set(page.tags)
        assert page.running == []


@pytest.mark.parametrize("path", ["/list", "/login", "/accounts/nobody", "/list?sort=mood"])
def test_every_page_forbids_what_it_does_not_need(ask, path):
    policy = ask("GET", path).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_is_loaded_from_elsewhere(ask):
    html = ask("GET", "/list").text
    assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', html)
    style = re.search(r'href="(/static/[^"]+)"', html)[1]
    answer = ask("GET", style, None)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert "url(" not in answer.text


def test_charts_say_in_words_what_they_show():
    history = [
        {"as_of": "2025-02-01", "probability": 0.2, "model_version": "1"},
        {"as_of": "2025-01-01", "probability": 0.1, "model_version": "1"},
    ]
    newer = [{"as_of": "2025-03-01", "probability": 0.3, "model_version": "2"}, *history]
    assert 'aria-label="Risk from 10.0% on 2025-01-01 to 20.0% on 2025-02-01"' in risk_over_time(history)
    assert "to 30.0% on 2025-03-01; model 2 from 2025-03-01" in risk_over_time(newer)
    assert [chart.count(">model 2<") for chart in map(risk_over_time, (history, newer))] == [0, 1]
    assert "One list so far" in risk_over_time(history[:1])
    assert "no list yet" in risk_over_time([{"as_of": "2025-01-01", "probability": None}])
    assert "usage +0.30, support -0.10" in moved_by({"usage": 0.3, "support": -0.1})


# In a real browser


@pytest.fixture
def browser():
    """Debian's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        assert os.environ.get("CI") != "true", "Chromium must be installed where CI=true; found none."
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


def test_a_csm_signs_in_finds_an_account_and_reads_why(app, browser, today):
    with serving_app(app) as port:
        base = f"http://127.0.0.1:{port}"
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.goto(base)
        page.locator("#secret:focus").wait_for()  # A browser gives the focus with its first frame, not with the load.
        page.keyboard.type("all")
        page.keyboard.press("Enter")
        page.wait_for_url("**/list")
        shown = page.locator("tbody tr").count()
        page.get_by_role("link", name="MRR at risk").click()
        sorted_by = page.locator("th[aria-sort]").inner_text()
        page.get_by_label("Account").fill(today["rows"][20]["account_id"])
        page.keyboard.press("Enter")
        page.locator("tbody tr th a").first.click()
        heading = page.locator("h1").inner_text()
        picture = page.screenshot(full_page=True)
        if folder := os.environ.get("TENURE_RENDERED"):
            with open(os.path.join(folder, "account.png"), "wb") as file:
                file.write(picture)
        page.keyboard.press("Tab")
        skip = page.evaluate("document.activeElement.textContent")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/login")
        page.goto(f"{base}/list")

        assert page.url.endswith("/login"), "who has signed out is a stranger"
    assert shown == pages.PAGE_ROWS
    assert sorted_by.startswith("MRR at risk")
    assert heading == (today["rows"][20]["name"] or today["rows"][20]["account_id"])
    assert skip == "Skip to content"
    assert all(url.startswith((base, "data:")) for url in asked)
    assert said == []
