"""What the reading routes say: the published list whole and in pages, one account and its past, to whom it belongs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from features.settings import read_settings
from serving.access import Token
from serving.answer_types import Timeline
from serving.answers import Answers
from serving.champion import load_champion
from serving.ledger import open_ledger
from serving.ledger.lists import SORTS, View, keep_list, list_rows
from serving.ledger.tables import account_scores
from serving.published import published, read_list
from serving.rest import BANDS, PATHS, routes
from serving.timeline import timeline_of

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

NOW = datetime(2025, 5, 2, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(trained_world):
    return read_settings(trained_world / "tenure.toml")


@pytest.fixture(scope="module")
def today(settings):
    return read_list(published(settings))


@pytest.fixture(scope="module")
def app(settings):
    answers = Answers(settings, load_champion(settings))
    return Starlette(routes=routes(lambda: answers, lambda: NOW))


def token(role, csm_id=None):
    return Token(id="0" * 8, role=role, csm_id=csm_id, created_at=NOW, expires_at=NOW + timedelta(days=1))


@pytest.fixture(scope="module")
def ask(app):
    """Ask as a caller whom the guard has let through."""

    def asked(path, caller=None, **headers):
        async def admitted(scope, receive, send):
            scope["state"] = {"token": caller or token("admin"), "request_id": "r1"}
            await app(scope, receive, send)

        async def answer():
            transport = httpx.ASGITransport(admitted)
            async with httpx.AsyncClient(transport=transport, base_url="http://tenure") as client:
                return await client.get(path, headers=headers)

        return asyncio.run(answer())

    return asked


@pytest.fixture(scope="module")
def owner(today):
    return next(row["csm_id"] for row in today["rows"] if row["csm_id"])


def test_the_ledger_gives_back_the_list_that_was_published(ask, today):
    found = ask("/v1/lists/latest").json()

    assert {name: found[name] for name in today} == today
    assert found["next"] is None
    assert ask("/v1/lists/2025-05-01").json() == found
    assert ask("/v1/lists").json() == {"days": ["2025-05-01"]}


def test_pages_follow_each_other_without_gap_or_repeat(ask, today):
    path, seen = "/v1/lists/latest?limit=37&sort=probability&order=desc", []
    while path:
        page = ask(path).json()
        assert len(page["rows"]) <= 37
        seen += page["rows"]
        path = page["next"]

    assert sorted(row["rank"] for row in seen) == [row["rank"] for row in today["rows"]]
    assert [row["probability"] for row in seen] == sorted((row["probability"] for row in seen), reverse=True)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_view_changes_the_order_and_no_rank(ask, today, sort, order):
    found = ask(f"/v1/lists/latest?sort={sort}&order={order}").json()["rows"]
    known = [row[sort] for row in found if row[sort] is not None]

    assert known == sorted(known, reverse=order == "desc")
    assert {row["account_id"]: row["rank"] for row in found} == {
        row["account_id"]: row["rank"] for row in today["rows"]
    }
    assert all(row[sort] is None for row in found[len(known) :]), "what is not known comes last"


def test_filters_keep_what_they_say(ask, today, owner):
    one = today["rows"][3]

    by_text = ask(f"/v1/lists/latest?q={one['account_id'][2:].upper()}").json()["rows"]
    by_band = ask("/v1/lists/latest?band=high,critical").json()["rows"]
    by_csm = ask(f"/v1/lists/latest?csm={owner}").json()["rows"]
    listed = ask("/v1/lists/latest?listed=true").json()["rows"]

    assert one["account_id"] in {row["account_id"] for row in by_text}
    assert all(one["account_id"][2:].lower() in f"{row['account_id']} {row['name']}".lower() for row in by_text)
    assert [row["account_id"] for row in by_band] == [
        row["account_id"] for row in today["rows"] if row["band"] in ("high", "critical")
    ]
    assert {row["csm_id"] for row in by_csm} == {owner}
    assert listed == [row for row in today["rows"] if row["is_listed"]]


@pytest.mark.parametrize("text", ["%", "_", "'", "\\", "x' or '1'='1"])
def test_a_search_is_taken_literally(ask, today, text):
    found = ask("/v1/lists/latest", caller=token("admin")).json()["rows"]
    given = ask("/v1/lists/latest?q=" + text.replace("%", "%25")).json()["rows"]

    assert {row["account_id"] for row in given} == {
        row["account_id"] for row in found if text.lower() in f"{row['account_id']} {row['name']}".lower()
    }


@pytest.mark.parametrize(
    "query",
    ["sort=mood", "order=up", "band=red", "limit=0", "limit=1001", "limit=x", "offset=-1", "listed=1", "page=2"],
)
def test_a_parameter_that_means_nothing_is_refused(ask, query):
    answer = ask(f"/v1/lists/latest?{query}")

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert query.partition("=")[0] in answer.json()["detail"]


def test_an_account_says_where_it_stands_and_why(ask, today):
    row, gone = today["rows"][0], today["excluded"][0]
    found = ask(f"/v1/accounts/{row['account_id']}").json()
    lost = ask(f"/v1/accounts/{gone['account_id']}").json()

    assert {name: found[name] for name in row} == row
    assert found["state"] == "scored"
    assert (lost["state"], lost["because"], lost["probability"]) == ("excluded", gone["reason"], None)


def test_the_history_tells_every_list(ask, settings, today):
    row = today["rows"][0]
    earlier = {**today, "as_of": "2025-04-01"}
    with open_ledger(settings).writing() as connection:
        keep_list(connection, earlier, list_id="earlier")
    try:
        found = ask(f"/v1/accounts/{row['account_id']}/history").json()
    finally:
        with open_ledger(settings).writing() as connection:
            connection.exec_driver_sql("delete from risk_lists where as_of = '2025-04-01'")

    assert [each["as_of"] for each in found["history"]] == ["2025-05-01", "2025-04-01"]
    assert {each["probability"] for each in found["history"]} == {row["probability"]}


def test_the_timeline_tells_what_the_list_was_published_with(ask, settings, today):
    account = today["rows"][0]["account_id"]
    answer = ask(f"/v1/accounts/{account}/timeline")
    found = answer.json()
    again = ask(f"/v1/accounts/{account}/timeline", **{"if-none-match": answer.headers["etag"]})

    assert Timeline(**found).model_dump() == found
    assert found["because"] is None
    assert {name: found[name] for name in ("weeks", "events")} == {
        name: timeline_of(settings, account, "2025-05-01")[name] for name in ("weeks", "events")
    }
    assert len(found["weeks"]) == 26
    assert found["events"]
    assert (again.status_code, again.content) == (304, b"")


def test_a_day_without_a_list_is_404(ask):
    assert ask("/v1/lists/2024-01-01").status_code == 404
    assert ask("/v1/lists/nonsense").status_code == 404


def test_an_answer_one_has_is_not_sent_again(ask):
    first = ask("/v1/lists/latest")
    again = ask("/v1/lists/latest", **{"if-none-match": first.headers["etag"]})
    other = ask("/v1/lists/latest?limit=3", **{"if-none-match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200


def test_the_model_and_its_features_are_told(ask):
    model, features = ask("/v1/model").json(), ask("/v1/features").json()["features"]

    assert model["model_version"] == "1"
    assert model["certificate"]["is_valid"]
    assert model["evaluation"]["metrics"]
    assert all(item["meaning"] for item in features)


# Whose accounts


def test_a_csm_gets_the_own_part_of_the_list(ask, today, owner):
    found = ask("/v1/lists/latest", token("csm", owner)).json()

    for part in ("rows", "leaving", "excluded"):
        assert found[part] == [row for row in today[part] if row["csm_id"] == owner], "ranks stay those of all"
    assert found["counts"]["scored"] == len(found["rows"])


@pytest.mark.parametrize("caller", [token("csm"), token("csm", ""), token("csm", "nobody")])
def test_a_csm_without_a_book_sees_nothing(ask, caller):
    found = ask("/v1/lists/latest", caller).json()

    assert (found["rows"], found["leaving"], found["excluded"]) == ([], [], [])
    assert set(found["counts"].values()) == {0}


@pytest.mark.parametrize("role", ["viewer", "manager", "admin", "ds"])
def test_the_other_roles_see_the_whole_list(ask, today, role):
    assert ask("/v1/lists/latest", token(role, "nobody")).json()["rows"] == today["rows"]


def test_an_account_of_another_book_answers_like_one_that_does_not_exist(ask, today, owner):
    caller = token("csm", owner)
    foreign = [
        row["account_id"] for part in ("rows", "leaving", "excluded") for row in today[part] if row["csm_id"] != owner
    ]
    ways = ["/v1/accounts/{}", "/v1/accounts/{}/history", "/v1/accounts/{}/timeline"]

    for way in ways:
        unknown = ask(way.format("nobody"), caller)
        for account in foreign[:20]:
            answer = ask(way.format(account), caller)
            assert answer.status_code == unknown.status_code == 404
            assert {**answer.json(), "instance": ""} == {**unknown.json(), "instance": ""}
    assert not {row["account_id"] for row in ask("/v1/lists/latest?q=acc", caller).json()["rows"]} & set(foreign)


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    view=st.builds(
        View,
        sort=st.sampled_from(SORTS), is_descending=st.booleans(), text=st.none() | st.text(max_size=3),
        bands=st.lists(st.sampled_from(BANDS), max_size=2, unique=True).map(tuple),
        csm_id=st.none() | st.text(max_size=3), only_listed=st.booleans(), offset=st.integers(0, 300),
        limit=st.integers(1, 50),
    )
)  # fmt: skip
def test_no_view_shows_a_book_that_is_not_ones_own(settings, owner, view):
    with open_ledger(settings).reading() as connection:
        rows, total = list_rows(connection, "2025-05-01", account_scores.c.csm_id.in_([owner]), view)

    assert {row["csm_id"] for row in rows} <= {owner}
    assert len(rows) <= min(view.limit, total)


def test_every_route_is_named_for_the_guard(app):
    assert {route.path for route in app.routes} == set(PATHS)
