"""Nothing reaches the service but well-formed requests of known callers, few enough and small enough."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from features.errors import DependencyDown
from serving.access import TokenStore
from serving.guard import Guard
from serving.ledger import Ledger
from serving.line import Line
from serving.reply import problem
from tests.servers import serving_app

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GET, POST = frozenset({"GET"}), frozenset({"POST"})
PATHS = {"/v1/score": POST, "/v1/a/{id}": GET | {"PUT"}, "/v1/a/{id}/b": GET, "/v1/a/top": POST, "/v1/fail": GET}
JSON = {"content-type": "application/json"}


class Service:
    """A small app that writes down what reaches it; `/v1/a/{id}` waits until `gate` opens."""

    def __init__(self):
        self.bodies, self.tokens, self.ids, self.models = [], [], [], []
        self.gate = asyncio.Event()
        score, live = Route("/v1/score", self.score, methods=["POST"]), Route("/livez", self.live)
        self.app = Starlette(routes=[score, live, Route("/v1/a/{id}", self.account), Route("/v1/fail", self.fail)])

    async def score(self, request):
        self.bodies.append(await request.body())
        self.tokens.append(request.state.token)
        self.ids.append(request.state.request_id)
        self.models.append(getattr(request.state, "model", None))
        return PlainTextResponse("scored", headers={"X-Request-Id": "theirs", "cache-control": "public"})

    async def account(self, request):
        await self.gate.wait()
        return PlainTextResponse(request.path_params["id"])

    async def live(self, request):
        self.ids.append(request.state.request_id)
        return PlainTextResponse("known" if hasattr(request.state, "token") else "open")

    async def fail(self, request):
        raise ValueError(request.headers["authorization"] + request.query_params["q"])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return TokenStore(Ledger(None, tmp_path_factory.mktemp("tokens")))


@pytest.fixture(scope="module")
def token_and_secret(store):
    return store.create(role="csm", csm_id="c1", now=NOW)


@pytest.fixture(scope="module")
def auth(token_and_secret):
    return {"authorization": f"Bearer {token_and_secret[1]}"}


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def guarded(service, store):
    """Put the service, or another app, behind a guard."""

    def build(app=None, **limits):
        verify = limits.pop("verify", lambda secret: store.verify(secret, now=NOW))
        return Guard(app or service.app, verify=verify, paths=PATHS, **limits)

    return build


def client_of(guard):
    return httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://test")


def ask(guard, method, path, **request):
    """Send one request in-process and wait for the answer."""

    async def run():
        async with client_of(guard) as client:
            return await client.request(method, path, **request)

    return asyncio.run(run())


def raw(guard, body, *headers, **scope):
    """Call the guard as a server would, with a cut body; afterwards the line stays silent.

    Returns the messages that were sent back and the chunks that nobody took.
    """
    sent, left = [], [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    scope = {"type": "http", "method": "POST", "path": "/v1/score", **scope}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers]
    if body and body[-1] in (b"", None):
        left[-1] = {"type": "http.request", "body": b""} if body[-1] == b"" else {"type": "http.disconnect"}

    async def receive():
        return left.pop(0) if left else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return sent, left


def is_problem(response, status):
    """Whether the answer has the one shape of errors and shows its request id in both places."""
    content = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert sorted(content) == ["detail", "instance", "request_id", "status", "title", "type"]
    assert content["request_id"] == response.headers["x-request-id"]
    assert response.headers["cache-control"] == "no-store"
    return response.status_code == content["status"] == status


def test_a_well_formed_request_reaches_the_service_with_its_body_and_caller(guarded, service, auth, token_and_secret):
    answer = ask(guarded(), "POST", "/v1/score", json={"rows": [1]}, headers=auth)

    assert (answer.status_code, answer.text) == (200, "scored")
    assert [json.loads(body) for body in service.bodies] == [{"rows": [1]}]
    assert service.tokens == [token_and_secret[0]]


def test_every_answer_carries_our_headers_whatever_the_service_says(guarded, service, auth):
    answer = ask(guarded(), "POST", "/v1/score", json={}, headers=auth)

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get_list("x-request-id") == service.ids


@pytest.mark.parametrize("text", ["a", "Az09._-", "x" * 64, "", "x" * 65, "a b", "a\tb", "<b>", "é".encode()])
def test_a_request_id_of_the_caller_is_kept_if_it_is_sane(guarded, text):
    found = ask(guarded(), "GET", "/livez", headers={"x-request-id": text}).headers["x-request-id"]
    is_new = len(found) == 32 and int(found, 16) > 0

    assert is_new != (text in {"a", "Az09._-", "x" * 64} and found == text)


@settings(deadline=None, max_examples=50)
@given(pieces=st.lists(st.binary(min_size=1, max_size=5), max_size=6))
def test_however_a_body_is_cut_the_service_sees_it_whole(store, auth, pieces):
    service = Service()
    guard = Guard(service.app, verify=lambda secret: store.verify(secret, now=NOW), paths=PATHS, max_body=30)
    raw(guard, [*pieces, b""], *JSON.items(), *auth.items(), ("transfer-encoding", "chunked"))

    assert service.bodies == [b"".join(pieces)]


UNKNOWN = (
    "/ /v1 /v1/score/ /v1//score /V1/score /v1/a/ /v1/a/x/y /v1/a/.. /v1/a/x%2Fy /v1/a/%2e%2e/b /v1/a/x%00 /metrics"
)


@pytest.mark.parametrize("path", UNKNOWN.split())
def test_an_unknown_path_is_404_before_anyone_asks_who_is_there(guarded, path):
    assert is_problem(ask(guarded(), "GET", path), 404)


def test_another_method_on_a_known_path_is_405_and_names_the_allowed_ones(guarded):
    answer = ask(guarded(), "POST", "/v1/a/x")

    assert is_problem(answer, 405)
    assert answer.headers["allow"] == "GET, PUT"
    assert ask(guarded(), "GET", "/v1/a/top").headers["allow"] == "POST", "a written path goes first"


def test_a_path_is_found_below_the_root_of_a_proxy(guarded, auth, service):
    raw(guarded(), [b"{}", b""], *JSON.items(), *auth.items(), path="/x/v1/score", root_path="/x")

    assert service.bodies == [b"{}"]


def test_a_path_that_could_never_match_is_refused_at_once():
    with pytest.raises(ValueError, match="must start with '/'; got 'v1'"):
        Guard(Service().app, verify=lambda _: None, paths={"v1": GET})


@pytest.mark.parametrize(
    "value", "- Bearer Bearer_ Bearer_x Basic_{} {} Bearer_{}_x Bearerx_{} Bearer_{},Bearer_{}".split()
)
def test_a_caller_without_exactly_one_live_token_is_401(guarded, service, auth, value):
    secret = auth["authorization"].removeprefix("Bearer ")
    values = [] if value == "-" else [text.replace("_", " ").format(secret) for text in value.split(",")]
    headers = [*JSON.items(), *(("authorization", text) for text in values)]
    answer = ask(guarded(), "POST", "/v1/score", content=b"{}", headers=headers)

    assert is_problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert service.bodies == []


def test_a_revoked_token_stops_working_in_a_running_server(guarded, store):
    token, secret = store.create(role="viewer", now=NOW)
    guard, request = guarded(), {"json": {}, "headers": {"authorization": f"bearer {secret}"}}
    before = ask(guard, "POST", "/v1/score", **request).status_code
    store.revoke(token.id, now=NOW)

    assert (before, ask(guard, "POST", "/v1/score", **request).status_code) == (200, 401)


def test_a_caller_is_forgotten_when_a_connection_shares_its_state(guarded, auth, service):
    shared = {"model": "m7"}
    raw(guarded(), [b"{}", b""], *JSON.items(), *auth.items(), state=shared)
    sent, _ = raw(guarded(), [b"{}", b""], *JSON.items(), state=shared)

    assert (service.models, sent[0]["status"]) == (["m7"], 401)
    assert shared == {"model": "m7"}


WELL = ("application/json", "Application/JSON; charset=utf-8", 'application/json;charset="utf-8"')
ILL = (
    *("", "text/plain", "application/jsonx", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"),
    *("application/json, application/x-pickle", "application/json; application/x-pickle", "Application/X-Pickle"),
)


@pytest.mark.parametrize(("kind", "status"), [*((kind, 200) for kind in WELL), *((kind, 415) for kind in ILL)])
def test_a_body_is_json_or_415(guarded, service, auth, kind, status):
    answer = ask(guarded(), "POST", "/v1/score", content=b"{}", headers=auth | {"content-type": kind})

    assert answer.status_code == status
    assert len(service.bodies) == (status == 200)


@pytest.mark.parametrize(("body", "status"), [([b"{}", b""], 415), ([b""], 200)])
def test_a_body_that_no_header_announces_must_be_json_too(guarded, auth, body, status):
    assert raw(guarded(), body, *auth.items())[0][0]["status"] == status


BAD_LENGTHS = ("-1", "+1", "1.0", "1e3", "0x1", "²", " ", "", "1, 1", "9" * 21)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        *(([("content-encoding", coding)], 415) for coding in ("gzip", "br", "identity, gzip")),
        *(([("content-length", length)], 400) for length in BAD_LENGTHS),
        ([("content-length", "2"), ("content-length", "2")], 400),
        ([("content-length", "2"), ("transfer-encoding", "chunked")], 400),
        ([("content-length", "31")], 413),
        ([("content-length", "30"), ("content-encoding", "Identity")], 200),
    ],
)
def test_a_body_must_be_plain_and_of_a_known_and_bounded_length(guarded, service, auth, headers, status):
    sent, _ = raw(guarded(max_body=30), [b"{}", b""], *JSON.items(), *auth.items(), *headers)

    assert sent[0]["status"] == status
    assert len(service.bodies) == (status == 200)


def test_a_declared_length_over_the_limit_is_answered_before_anything_is_read(guarded, auth):
    seen = []

    async def receive():
        seen.append("read")
        return {"type": "http.disconnect"}

    async def send(message):
        seen.append(message.get("status") or json.loads(message["body"] or "{}").get("title"))

    headers = {**JSON, **auth, "content-length": "9000000"}
    scope = {"type": "http", "method": "POST", "path": "/v1/score"}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(guarded()(scope, receive, send))

    assert seen[0] == 413
    assert seen.index("read") == 2


def test_counting_stops_at_the_limit_and_the_rest_is_thrown_away(guarded, service, auth):
    sent, left = raw(guarded(max_body=30), [*[b"x" * 20] * 50, b""], *JSON.items(), *auth.items())

    assert (sent[0]["status"], left, service.bodies) == (413, [], [])
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_counted_body_of_just_the_limit_is_taken(guarded, service, auth):
    raw(guarded(max_body=30), [b"x" * 20, b"x" * 10, b""], *JSON.items(), *auth.items())

    assert service.bodies == [b"x" * 30]


def test_a_body_that_does_not_end_in_time_is_408(guarded, service, auth):
    sent, _ = raw(guarded(body_timeout_s=0.05), [b"{"], *JSON.items(), *auth.items(), ("content-length", "2"))

    assert (sent[0]["status"], service.bodies) == (408, [])


def test_a_caller_who_leaves_in_the_middle_gets_no_answer(guarded, service, auth):
    sent, _ = raw(guarded(), [b"{", None], *JSON.items(), *auth.items(), ("content-length", "2"))

    assert (sent, service.bodies) == ([], [])


def test_more_callers_than_places_are_429_and_health_still_answers(guarded, service, auth):
    async def run():
        async with client_of(guarded(line=Line(places=2))) as client:
            inside = [asyncio.create_task(client.get("/v1/a/x", headers=auth)) for _ in range(2)]
            await asyncio.sleep(0.05)
            refused, health = await client.get("/v1/a/y", headers=auth), await client.get("/livez", headers=auth)
            service.gate.set()
            return refused, health, [*await asyncio.gather(*inside), await client.get("/v1/a/z", headers=auth)]

    refused, health, others = asyncio.run(asyncio.wait_for(run(), 5))

    assert is_problem(refused, 429)
    assert refused.headers["retry-after"] == "1"
    assert health.text == "open"
    assert [answer.status_code for answer in others] == [200] * 3


def test_of_many_who_come_at_once_some_are_answered_and_the_others_told_when_to_come_back(
    guarded, service, auth, caplog
):
    async def run():
        async with client_of(guarded(line=Line(3, at_once=1))) as client:
            one_each = (client.post("/v1/score", json={}, headers=auth) for _ in range(10))
            return await asyncio.gather(*one_each), await client.post("/v1/score", json={}, headers=auth)

    at_once, later = asyncio.run(run())
    refused = [answer for answer in at_once if answer.status_code != 200]

    assert (len(refused), len(service.bodies), later.status_code) == (6, 5, 200), "one at work, three who wait"
    assert all(is_problem(answer, 429) and answer.headers["retry-after"] == "1" for answer in refused)
    assert caplog.text.count("turned away") == 1


def test_a_failure_is_500_and_only_the_log_tells_where(guarded, auth, caplog):
    answers = [ask(guarded(line=Line(places=1)), "GET", "/v1/fail?q=private", headers=auth) for _ in range(2)]

    assert all(is_problem(answer, 500) for answer in answers)
    assert "ValueError" not in answers[0].text
    assert f"Request {answers[0].headers['x-request-id']} failed: ValueError" in caplog.text
    assert "in fail" in caplog.text
    assert auth["authorization"] not in caplog.text
    assert "private" not in caplog.text


def test_a_failure_in_the_middle_of_an_answer_does_not_pretend_to_finish_it(guarded, auth, caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"public")]})
        raise ValueError(scope["path"])

    sent, _ = raw(guarded(app), [b"{}", b""], *JSON.items(), *auth.items())

    assert [message["type"] for message in sent] == ["http.response.start"]
    assert [value for name, value in sent[0]["headers"] if name.lower() == b"cache-control"] == [b"no-store"]
    assert "failed: ValueError" in caplog.text


def test_an_answer_500_of_the_service_itself_is_passed_on(guarded, auth):
    app = PlainTextResponse("out of order", 500)

    assert ask(guarded(app), "POST", "/v1/score", json={}, headers=auth).text == "out of order"


def test_a_ledger_that_is_gone_is_a_503_that_says_when_to_ask_again(guarded, service, auth):
    def gone(_):
        raise DependencyDown("The ledger's PostgreSQL must answer.")

    answer = ask(guarded(verify=gone), "POST", "/v1/score", json={}, headers=auth)

    assert is_problem(answer, 503)
    assert answer.headers["retry-after"] == "5"
    assert service.bodies == []


def test_a_guard_inside_a_guard_checks_nothing_twice(guarded, service, auth):
    inner = Guard(service.app, verify=lambda _: None, paths={}, max_body=0, line=Line(places=0))
    answer = ask(guarded(inner), "POST", "/v1/score", json={}, headers=auth)
    health = ask(guarded(guarded()), "GET", "/livez")

    assert (answer.text, service.bodies) == ("scored", [b"{}"])
    assert [*answer.headers.get_list("x-request-id"), *health.headers.get_list("x-request-id")] == service.ids


def test_a_websocket_is_closed_and_lifespan_passes(guarded):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    sent, _ = raw(guarded(app), [b""], type="websocket")
    raw(guarded(app), [], type="lifespan")

    assert [message["type"] for message in sent] == ["websocket.close"]
    assert seen == ["lifespan"]


def test_a_problem_needs_no_request_id():
    answer = problem(404, "No such account.", instance="/v1/a/x", headers={"x-a": "b"})
    content = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "No such account."}

    assert json.loads(answer.body) == content | {"instance": "/v1/a/x"}
    assert answer.headers["x-a"] == "b"


@pytest.mark.parametrize("status", [413, 401])
def test_20_mb_in_chunks_are_refused_fast_and_unseen_while_the_caller_still_sends(guarded, service, auth, status):
    headers = JSON | (auth if status == 413 else {})
    with serving_app(guarded()) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        started = time.monotonic()
        connection.request("POST", "/v1/score", (b"x" * 2**16 for _ in range(320)), headers, encode_chunked=True)
        answer = connection.getresponse()
        content, seconds = json.loads(answer.read()), time.monotonic() - started
        connection.close()

    assert (answer.status, content["status"], service.bodies) == (status, status, [])
    assert seconds < 2
