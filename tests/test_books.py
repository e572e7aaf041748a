"""Another's book: what a CSM may not see is answered, on every route and export, as what does not exist."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import openpyxl
import pytest

from serving.access import Cover, cover, token_store
from serving.contract import OPENAPI_PATH
from serving.guard import SESSION, SIGN_IN
from serving.ledger import open_ledger
from serving.ledger.lists import keep_list
from serving.paths import OPEN_PATHS, PATHS, ROLES
from serving.published import published, read_list
from tests.load import Client, request, unlimited
from tests.servers import TENURE, free_port, running

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
INTERLEAVED, CANARIES = (10_000, 200) if FULL else (200, 20)
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
UNKNOWN, NOBODY = "acc-99999", "csm-nobody"
UNKNOWN_NAME = "Nobody Ltd"
JSON = {"content-type": "application/json"}


def canary(number):
    """A name and an address that occur nowhere else."""
    return f"Kanarie{number:03}x anna{number:03}x@canary.example"


@pytest.fixture(scope="module")
def world(trained_world, tmp_path_factory):
    """A running service whose accounts bear canaries as names; two books, `mine` and `theirs`, and their holders."""
    folder = tmp_path_factory.mktemp("books")
    company = unlimited(shutil.copytree(trained_world, folder / "world") / "tenure.toml")
    today = read_list(published(company))
    for number, row in enumerate(today["rows"]):
        row["name"] = canary(number)
    ledger, store = open_ledger(company), token_store(company)
    with ledger.writing() as connection:
        keep_list(connection, today, list_id=published(company).name)
    owners = Counter(row["csm_id"] for row in today["rows"] if row["csm_id"])
    (me, _), (other, _), *_ = owners.most_common()
    secrets = {
        "mine": store.create(role="csm", csm_id=me, now=NOW)[1],
        "theirs": store.create(role="csm", csm_id=other, now=NOW)[1],
        "admin": store.create(role="admin", now=NOW)[1],
        "expired": store.create(role="csm", csm_id=other, days=1, now=NOW - 2 * DAY)[1],
        "covered_yesterday": store.create(role="csm", csm_id="csm-sub-1", now=NOW)[1],
        "covers_today": store.create(role="csm", csm_id="csm-sub-2", now=NOW)[1],
    }
    revoked, secrets["revoked"] = store.create(role="csm", csm_id=other, now=NOW)
    store.revoke(revoked.id, now=NOW)
    day = NOW.date()
    for who, first, last in (("csm-sub-1", day - 9 * DAY, day - DAY), ("csm-sub-2", day - DAY, day + DAY)):
        cover(ledger, Cover(csm_id=other, covered_by=who, first=first, last=last), now=NOW, by="test")
    ledger.close()
    port, log = free_port(), folder / "log"
    with (
        running([TENURE, "serve", f"--port={port}", f"--config={company.path}"], port, log) as base,
        httpx.Client(base_url=base, timeout=60) as client,
    ):
        yield SimpleNamespace(
            client=client, port=port, log=log, secrets=secrets, me=me, other=other, day=today["as_of"],
            mine=[row for row in today["rows"] if row["csm_id"] == me],
            theirs=[row for row in today["rows"] if row["csm_id"] == other],
        )  # fmt: skip


def ask(world, who, method, path, **more):
    """One request, as a program and as a browser at once: each route takes the one it knows."""
    secret = world.secrets.get(who, who)
    headers = {"authorization": f"Bearer {secret}", "cookie": f"{SESSION}={secret}", **more.pop("headers", {})}
    return world.client.request(method, path, headers=headers, **more)


def text_of(answer):
    """What a reader finds in an answer, a workbook too."""
    if "spreadsheetml" in answer.headers.get("content-type", ""):
        book = openpyxl.load_workbook(io.BytesIO(answer.content))
        return str([row for sheet in book for row in sheet.iter_rows(values_only=True)])
    return answer.text.replace(answer.headers["x-request-id"], "")


def attempts(account, name, owner, tag):
    """Route, method, path and body of every way to ask for an account, by its id, its name or its owner."""
    views = [f"q={account}", f"q={account[2:].upper()}", f"q={name}", f"csm={owner}", f"csm={owner}&q={account}",
             f"csm={owner}&sort=name&order=desc", f"q={account}&listed=true", f"q={name.split()[0]}&offset=0&limit=1",
             f"csm={owner}&band=critical,high,medium,low"]  # fmt: skip
    plain = ("", {}), ("", {"if-none-match": tag}), ("", {"if-none-match": "*"}), ("?csm=" + owner, {})
    routes = [route for route in PATHS if "{account_id}" in route]
    for method in ("GET", "HEAD"):
        for query, headers in plain:
            for route in routes:
                yield route, method, route.replace("{account_id}", account) + query, {"headers": headers}
    for view in views:
        for place in ("latest", "2025-05-01"):
            yield "/v1/lists/{as_of}", "GET", f"/v1/lists/{place}?{view}", {}
        page = view.replace("&limit=1", "")
        yield "/list", "GET", f"/list?{page}", {}
        for form in ("csv", "xlsx"):
            yield "/list/export", "GET", f"/list/export?{page}&format={form}", {}
    for more in ({}, {"reasons": True}, {"as_of": "2025-05-01"}):
        yield "/v1/score_accounts", "POST", "/v1/score_accounts", {"json": {"account_ids": [account], **more}}


SHOWS_NO_ACCOUNT = {
    "/v1/score", "/v1/lists", "/v1/features", "/v1/model", "/metrics", "/v1/openapi.json", "/", *OPEN_PATHS,
}  # fmt: skip
"""Routes that answer nothing about accounts that were not sent along."""


def test_every_route_is_either_tried_with_foreign_accounts_or_shows_none():
    tried = {route for route, *_ in attempts("a-1", "n", "o", '"t"')}

    assert tried | SHOWS_NO_ACCOUNT == {*PATHS, *OPEN_PATHS}
    assert not tried & SHOWS_NO_ACCOUNT


def test_a_foreign_account_is_answered_as_one_that_does_not_exist(world):
    row = world.theirs[0]
    tag = ask(world, "theirs", "GET", f"/v1/accounts/{row['account_id']}").headers["etag"]
    foreign = [*attempts(row["account_id"], row["name"], world.other, tag)]
    unknown = [*attempts(UNKNOWN, UNKNOWN_NAME, NOBODY, tag)]
    refused = 0
    for (route, method, path, more), (_, _, other_path, other_more) in zip(foreign, unknown, strict=True):
        found, nothing = ask(world, "mine", method, path, **more), ask(world, "mine", method, other_path, **other_more)
        said = text_of(found)
        for here, there in ((row["account_id"], UNKNOWN), (row["account_id"][2:].upper(), UNKNOWN[2:].upper())):
            said = said.replace(here, there)
        for here, there in ((row["name"], UNKNOWN_NAME), (row["name"].split()[0], "Nobody"), (world.other, NOBODY)):
            said = said.replace(here, there).replace(quoted(here), quoted(there))
        assert found.status_code == nothing.status_code, path
        assert found.status_code == (404 if "{account_id}" in route else 200), path
        assert said == text_of(nothing), path
        assert row["name"].split()[1] not in said, path
        refused += 1

    print(f"{refused} attempts, all refused")
    assert refused >= 40


def quoted(text):
    """As it stands in the links of a page."""
    return text.replace(" ", "+").replace("@", "%40")


def test_the_owner_of_the_same_account_gets_it_on_every_route(world):
    """So that the refusals above are not those of a service that answers nobody."""
    row = world.theirs[0]
    for route, method, path, more in attempts(row["account_id"], row["name"], world.other, '"another"'):
        answer = ask(world, "theirs", method, path, **more)
        assert answer.status_code == 200, path
        if method != "HEAD" and "csm=" not in path and "listed" not in path:
            assert row["account_id"] in text_of(answer), (route, path)


def test_what_shows_no_account_shows_none(world):
    ids, names = ([row[column] for row in world.theirs] for column in ("account_id", "name"))
    for route in sorted(SHOWS_NO_ACCOUNT):
        words = names if route == OPENAPI_PATH else [*names, *ids]  # Its examples are written by hand.
        for method in sorted({**dict.fromkeys(OPEN_PATHS, frozenset({"GET"})), **PATHS}[route]):
            answer = ask(world, "mine", method, route)
            assert not [word for word in words if word in answer.text], route
            if "csm" not in ROLES.get(route, {"csm"}):
                assert answer.status_code == 403, route


def test_the_tag_of_anothers_list_tells_nothing(world):
    theirs = ask(world, "theirs", "GET", "/v1/lists/latest")
    mine = ask(world, "mine", "GET", "/v1/lists/latest", headers={"if-none-match": theirs.headers["etag"]})

    assert mine.status_code == 200
    assert {row["csm_id"] for row in mine.json()["rows"]} == {world.me}
    assert mine.json()["counts"] != theirs.json()["counts"]


@pytest.mark.parametrize("who", ["expired", "revoked", "tnr_00000000_" + "x" * 43])
def test_a_dead_token_opens_no_route(world, who):
    row = world.theirs[0]
    for _, method, path, more in attempts(row["account_id"], row["name"], world.other, '"t"'):
        answer = ask(world, who, method, path, **more)
        is_page = not path.startswith("/v1/")
        assert answer.status_code == (303 if is_page else 401), path
        assert not is_page or answer.headers["location"] == SIGN_IN
        assert row["name"] not in answer.text


def test_a_cover_shows_the_book_while_it_lasts_and_not_after(world):
    path = f"/v1/accounts/{world.theirs[0]['account_id']}"

    assert ask(world, "covers_today", "GET", path).status_code == 200
    assert ask(world, "covered_yesterday", "GET", path).status_code == 404
    assert ask(world, "covered_yesterday", "GET", "/v1/lists/latest").json()["rows"] == []


def test_two_callers_who_share_two_connections_never_get_each_others_answers(world):
    books = {"mine": (world.me, world.mine, world.theirs), "theirs": (world.other, world.theirs, world.mine)}

    async def call(client, first):
        wrong = []
        for number in range(first, INTERLEAVED, 2):
            who = ("mine", "theirs")[number // 2 % 2]
            owner, own, foreign = books[who]
            seen, hidden = own[number % len(own)]["account_id"], foreign[number % len(foreign)]["account_id"]
            path, status = (
                (f"/v1/accounts/{seen}", 200), (f"/v1/accounts/{hidden}", 404), ("/v1/lists/latest?limit=5", 200),
            )[number // 4 % 3]  # fmt: skip
            answer = await client.ask(request("GET", path, world.secrets[who]))
            other = world.me if owner == world.other else world.other
            if answer.status != status or f'"{other}"'.encode() in answer.body:
                wrong.append((who, path, answer))
        return wrong

    async def run():
        client = Client(world.port)
        wrong = await asyncio.gather(call(client, 0), call(client, 1))
        kept = len(client.idle)
        await client.close()
        return wrong, kept

    wrong, kept = asyncio.run(run())

    print(f"{INTERLEAVED} interleaved requests, {sum(map(len, wrong))} wrong")
    assert kept == 2
    assert wrong == [[], []]


def test_personal_data_reach_no_error_no_metric_and_no_log(world):
    """What callers send as values, and what the company holds, is told to nobody who should not have it."""
    said = [found.text for number in range(CANARIES) for found in _refused(world, canary(number), number)]
    metrics = ask(world, "admin", "GET", "/metrics").text
    log = world.log.read_text()

    assert len(said) >= 8 * CANARIES
    for secret in world.secrets.values():
        assert secret not in "".join(said) + metrics + log
    assert "canary.example" not in "".join(said)
    assert "canary.example" not in metrics + log
    assert "Kanarie" not in "".join(said) + metrics + log
    assert "tenure_requests_total" in metrics


def _refused(world, word, number):
    """The errors that somebody gets who sends `word` wherever a value goes."""
    row = {"account_id": word, "features": {"tenure_days": word}}
    foreign = world.theirs[number % len(world.theirs)]["account_id"]
    plain = word.split()[1]
    found = [
        ask(world, f"tnr_{word}", "GET", "/v1/lists", headers={"user-agent": word, "x-request-id": word}),
        ask(world, "mine", "GET", f"/v1/accounts/{foreign}", params={"q": word}),
        ask(world, "mine", "GET", "/v1/lists/latest", params={"sort": word}),
        ask(world, "mine", "GET", "/v1/lists/latest", params={"offset": word}),
        ask(world, "mine", "GET", "/list", params={"band": word}),
        ask(world, "mine", "GET", "/list/export", params={"format": word}),
        ask(world, "mine", "POST", "/v1/score", json={"rows": [row], "partial": word}),
        ask(world, "mine", "POST", "/v1/score", content=f'{{"rows": "{word}'.encode(), headers=JSON),
        ask(world, "mine", "POST", "/v1/score_accounts", json={"account_ids": [word], "as_of": word}),
        ask(world, "mine", "POST", SIGN_IN, data={"token": word, "next": word}),
    ]
    assert [answer.status_code // 100 for answer in found] == [4] * len(found), [str(each) for each in found]
    ask(world, "mine", "GET", f"/v1/accounts/{plain}")
    ask(world, "mine", "GET", f"/junk/{plain}")
    return found
