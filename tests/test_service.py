"""A running `tenure serve`: what each route answers, and that nothing it refuses gives anything away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from click.testing import CliRunner

import tenure
from features.settings import read_settings
from serving.access import token_store
from serving.console import pages
from serving.ledger import open_ledger
from serving.ledger.lists import keep_list
from serving.paths import PATHS
from serving.published import published, read_list
from serving.quick_scores import MOST_BYTES
from tests.servers import BENTOML, TENURE, free_port, running

ROUTES = [
    (method, path.replace("{account_id}", "acc-00001").replace("{as_of}", "latest"))
    for path, methods in PATHS.items()
    if path not in {*pages.PATHS, *pages.OPEN_PATHS}
    for method in sorted(methods - {"HEAD"})
]
SECRET = "s3cr3t-of-the-caller"
NOW = datetime.now(UTC)
EXAMPLES, SEEDS = (300, (1, 2, 3)) if os.environ.get("HYPOTHESIS_PROFILE") == "full" else (8, (1,))


@pytest.fixture(scope="module")
def company(trained_world, tmp_path_factory):
    """A copy of the company before its first list; `first_list` publishes it."""
    folder = tmp_path_factory.mktemp("served") / "world"
    shutil.copytree(trained_world, folder, ignore=shutil.ignore_patterns("lists", "ledger.db*"))
    return read_settings(folder / "tenure.toml")


@pytest.fixture(scope="module")
def store(company):
    return token_store(company)


@pytest.fixture(scope="module")
def server(company, store, tmp_path_factory):
    """The address of `tenure serve`, and the file of all it said."""
    store.create(role="viewer", now=NOW)
    port, log = free_port(), tmp_path_factory.mktemp("log") / "serve.log"
    command = [TENURE, "serve", f"--port={port}", f"--config={company.path}"]
    with running(command, port, log) as base:
        yield base, log


@pytest.fixture(scope="module")
def client(server, store):
    """A client of an admin."""
    _, secret = store.create(role="admin", now=NOW)
    with httpx.Client(base_url=server[0], headers={"authorization": f"Bearer {secret}"}, timeout=30) as found:
        yield found


@pytest.fixture(scope="module")
def early(client):
    """What was answered while there was no list; None where nothing came."""
    with suppress(httpx.ReadTimeout):
        accounts = None
        accounts = client.post("/v1/score_accounts", json={"account_ids": ["acc-00001"]}, timeout=3)
    return client.get("/v1/lists/latest"), accounts


@pytest.fixture(scope="module")
def today(early, trained_world, company):
    """The list, published while the server runs."""
    lists = company.state_dir / "lists"
    shutil.copytree(trained_world / ".tenure" / "lists", lists)
    found = read_list(published(company))
    with open_ledger(company).writing() as connection:
        keep_list(connection, found, list_id=published(company).name)
    return found


def is_problem(response, status):
    """Whether the answer is one of ours, and gives away neither our insides nor what was sent."""
    said = response.json()
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert (said["status"], said["instance"]) == (status, response.request.url.path)
    assert not any(word in response.text for word in ("Traceback", 'File "', "site-packages", "pydantic", SECRET))
    return said["request_id"] == response.headers["x-request-id"]


def post(client, path, body, **headers):
    return client.post(path, content=body, headers={"content-type": "application/json", **headers})


# Before and after the first list


def test_before_the_first_list_there_is_none(early):
    assert is_problem(early[0], 404)


def test_before_the_first_list_accounts_cannot_be_scored(early):
    assert early[1] is not None
    assert is_problem(early[1], 404)
    assert "tenure score" in early[1].json()["detail"]


def rows_of(*features):
    return [{"account_id": f"a{number}", "features": given} for number, given in enumerate(features)]


@pytest.mark.parametrize(
    "request_body",
    [
        {"rows": rows_of({"tenure_days": 400}), "partial": True},
        {"rows": rows_of(*({"tenure_days": days if days % 50 else "?"} for days in range(300))), "partial": True},
        {"rows": rows_of(*({"tenure_days": 10 * days} for days in range(20))), "partial": True, "reasons": True},
        {"rows": rows_of({"tenure_days": None}, {"tenure_days": 1e3}, {}), "partial": True},
        {"rows": rows_of({"tenure_days": "3"}, {"no_such": 1}, {"tenure_days": True}), "partial": True},
        {"rows": rows_of({"tenure_days": 400})},
        {"rows": [{"account_id": "a", "features": {}}, {"account_id": "a", "features": {}}]},
        {"rows": [{"account_id": 5, "features": {}}]},
        {"rows": [], "partial": True},
        {"rows": rows_of({}), "partial": 0},
        {"rows": rows_of({}), "other": 1},
        {},
    ],
)
def test_what_is_scored_the_quick_way_is_scored_as_by_bentoml(client, request_body):
    """Which takes the request apart where the body is long, though it be of blanks."""
    body = json.dumps(request_body)
    quick, thorough = (post(client, "/v1/score", text) for text in (body, body + " " * MOST_BYTES))

    assert quick.status_code == thorough.status_code
    if quick.status_code == 200:
        assert quick.json() == thorough.json()
    else:
        assert is_problem(quick, 400)
        assert quick.json()["detail"] == thorough.json()["detail"]


def test_the_list_is_served_as_it_was_published(client, today):
    found = client.get("/v1/lists/latest")

    assert found.status_code == 200
    assert {name: found.json()[name] for name in today} == today
    assert found.json()["total"] == len(today["rows"])
    assert found.json()["warnings"][0].startswith("stale:features are of 2025-05-01")


def test_known_accounts_are_scored_as_on_the_list(client, today):
    ids = [row["account_id"] for row in today["rows"][:20]]

    found = client.post("/v1/score_accounts", json={"account_ids": ids}).json()

    assert [row["account_id"] for row in found["rows"]] == ids
    assert [row["probability"] for row in found["rows"]] == [row["probability"] for row in today["rows"][:20]]
    assert [row["reasons"] for row in found["rows"]] == [row["reasons"] for row in today["rows"][:20]]
    assert (found["feature_as_of"], found["model_version"]) == ("2025-05-01", today["model_version"])


def test_an_account_is_told_where_it_stands_on_the_list(client, today):
    ids = [row["account_id"] for row in today["rows"]]
    for _ in range(200):  # The service looks every few seconds for a newer list.
        found = client.post("/v1/score_accounts", json={"account_ids": ids, "reasons": False}).json()["rows"]
        if found[0]["rank_percentile"] is not None:
            break
        time.sleep(0.1)
    below = [sum(other["probability"] < own["probability"] for other in found) for own in found]

    assert [row["rank_percentile"] for row in found] == [round(100 * number / len(found), 1) for number in below]


def test_a_bad_row_fails_alone(client, today):
    body = """{"partial": true, "rows": [
        {"account_id": "good", "features": {"tenure_days": 400, "days_to_renewal": null}},
        {"account_id": "nan", "features": {"tenure_days": NaN}},
        {"account_id": "inf", "features": {"tenure_days": -Infinity}},
        {"account_id": "text", "features": {"tenure_days": "%s"}},
        {"account_id": "strange", "features": {"mood": 1}}]}"""

    found = post(client, "/v1/score", body % SECRET)
    codes = {row["account_id"]: row["error"] and row["error"]["code"] for row in found.json()["rows"]}

    assert found.status_code == 200
    bad = dict.fromkeys(("nan", "inf", "text"), "not_a_number")
    assert codes == {"good": None, **bad, "strange": "unknown_feature"}
    assert SECRET not in found.text


def test_a_thousand_rows_are_answered_in_their_order(client):
    rows = [{"account_id": f"a{number}", "features": {"tenure_days": number}} for number in range(1000)]

    found = client.post("/v1/score", json={"rows": rows, "partial": True})

    assert found.status_code == 200
    assert [row["account_id"] for row in found.json()["rows"]] == [row["account_id"] for row in rows]


# Who may ask


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_needs_a_token(server, method, path):
    for headers in ({}, {"authorization": "Bearer tnr_00000000_" + "A" * 43}):
        answer = httpx.request(method, server[0] + path, json={} if method == "POST" else None, headers=headers)
        assert is_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_needs_no_token(server, path):
    assert httpx.get(server[0] + path).status_code == 200


def test_a_revoked_or_expired_token_opens_nothing_a_second_later(server, store, today):
    token, secret = store.create(role="viewer", now=NOW)
    _, old = store.create(role="viewer", days=1, now=NOW - timedelta(days=2))
    ask = server[0] + "/v1/lists/latest"

    assert httpx.get(ask, headers={"authorization": f"Bearer {secret}"}).status_code == 200
    store.revoke(token.id, now=NOW)
    time.sleep(1.1)
    assert is_problem(httpx.get(ask, headers={"authorization": f"Bearer {secret}"}), 401)
    assert is_problem(httpx.get(ask, headers={"authorization": f"Bearer {old}"}), 401)


def test_a_csm_sees_the_own_book_alone(client, store, today):
    owner = next(row["csm_id"] for row in today["rows"] if row["csm_id"])
    own = next(row["account_id"] for row in today["rows"] if row["csm_id"] == owner)
    foreign = next(row["account_id"] for row in today["rows"] if row["csm_id"] != owner)
    _, secret = store.create(role="csm", csm_id=owner, now=NOW)
    headers = {"authorization": f"Bearer {secret}"}

    shown = client.get("/v1/lists/latest", headers=headers).json()
    found = client.post("/v1/score_accounts", json={"account_ids": [own, foreign, "nobody"]}, headers=headers).json()
    first, second, third = ({**row, "account_id": None} for row in found["rows"])

    assert {row["csm_id"] for row in [*shown["rows"], *shown["leaving"]]} == {owner}
    assert {row["csm_id"] for row in shown["excluded"]} <= {owner}
    assert first["error"] is None
    assert second == third
    assert second["error"]["code"] == "unknown_account"


# What is refused


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/score/", "/v1/lists/latest/", "/v2", "/docs.json"])
def test_an_unknown_path_is_404(client, path):
    assert is_problem(client.get(path), 404)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/score"), ("PUT", "/v1/score"), ("POST", "/v1/lists/latest")])
def test_another_method_is_405(client, method, path):
    assert is_problem(client.request(method, path), 405)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/vnd.bentoml+pickle"])
def test_another_content_type_is_415(client, kind):
    assert is_problem(client.post("/v1/score", content=b"{}", headers={"content-type": kind}), 415)


GOOD = {"account_id": "a", "features": {}}
ENVELOPES = {
    "not json": ("/v1/score", SECRET),
    "empty": ("/v1/score", ""),
    "a list": ("/v1/score", json.dumps([SECRET])),
    "null": ("/v1/score", "null"),
    "deep": ("/v1/score", "[" * 100_000),
    "half a character": ("/v1/score_accounts", r'{"account_ids": ["\ud800"]}'),
    "no rows": ("/v1/score", '{"rows": []}'),
    "no accounts": ("/v1/score_accounts", '{"account_ids": []}'),
    "unknown key": ("/v1/score", json.dumps({"rows": [GOOD], "mood": SECRET})),
    "unknown key of a row": ("/v1/score", json.dumps({"rows": [{**GOOD, "mood": SECRET}]})),
    "repeated": ("/v1/score", json.dumps({"rows": [{**GOOD, "account_id": SECRET}] * 2})),
    "repeated account": ("/v1/score_accounts", json.dumps({"account_ids": [SECRET, SECRET]})),
    "a number for an id": ("/v1/score", json.dumps({"rows": [{"account_id": 5, "features": {}}]})),
    "text for features": ("/v1/score", json.dumps({"rows": [{"account_id": "a", "features": SECRET}]})),
    "no day": ("/v1/score_accounts", json.dumps({"account_ids": ["a"], "as_of": SECRET})),
    "the 30th of February": ("/v1/score_accounts", '{"account_ids": ["a"], "as_of": "2025-02-30"}'),
    "a day of the seventh century": ("/v1/score_accounts", '{"account_ids": ["a"], "as_of": "0687-02-18"}'),
    "a number for a day": ("/v1/score_accounts", '{"account_ids": ["a"], "as_of": 0}'),
    "a number for a yes": ("/v1/score", json.dumps({"rows": [GOOD], "partial": 0})),
    "a day to come": ("/v1/score_accounts", '{"account_ids": ["a"], "as_of": "2999-01-01"}'),
}


@pytest.mark.parametrize(("path", "body"), ENVELOPES.values(), ids=ENVELOPES.keys())
def test_a_faulty_envelope_is_400(client, path, body):
    assert is_problem(post(client, path, body), 400)


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score_accounts"])
def test_more_than_a_thousand_rows_are_413(client, path):
    ids = [f"{SECRET}{number}" for number in range(1001)]
    rows = [{"account_id": account, "features": {}} for account in ids]

    answer = client.post(path, json={"rows": rows} if path == "/v1/score" else {"account_ids": ids}, timeout=3)

    assert is_problem(answer, 413)
    assert "At most 1000 rows" in answer.json()["detail"]


def test_more_than_eight_mebibytes_are_413(client):
    assert is_problem(post(client, "/v1/score", b" " * (8 * 2**20 + 1)), 413)


def test_a_number_beyond_all_bounds_fails_alone(client):
    body = '{"partial": true, "rows": [{"account_id": "a", "features": {"tenure_days": 1%s}}]}' % ("0" * 400)
    answer = post(client, "/v1/score", body)

    assert answer.status_code == 200
    assert answer.json()["rows"][0]["error"]["code"] == "not_a_number"


def test_the_callers_request_id_is_kept(client):
    assert client.get("/v1/lists/latest", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"


def test_the_log_holds_nothing_that_a_caller_sent(client, server):
    for path, body in ENVELOPES.values():
        post(client, path, body)

    assert SECRET not in server[1].read_text()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_answer_to_random_requests_is_one_that_openapi_promises(server, store, today, tmp_path, seed):
    """Schemathesis: valid and invalid requests from the document that the service gives.

    Not asked: that every request which fits the schema is taken, for no schema can say that an account_id may be sent
    once and a day must not be in the future; and methods, which the guard answers before anything is parsed.
    """
    _, secret = store.create(role="admin", now=NOW)
    # More rows than may be sent are refused with the status that says so, which Schemathesis does not expect.
    (tmp_path / "schemathesis.toml").write_text(
        "[checks.negative_data_rejection]\nexpected-statuses = [400, 401, 403, 404, 413, 415, 422]\n"
    )
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server[0]}/v1/openapi.json", "--checks", "all",
        "--exclude-checks", "unsupported_method,positive_data_acceptance", "--header",
        f"Authorization: Bearer {secret}", "--max-examples", str(EXAMPLES), "--seed", str(seed),
        "--max-response-time", "60", "--phases", "examples,coverage,fuzzing", "--request-timeout", "60", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


# Without a token


# BentoML 1.4 uses older parts of pathspec and pydantic, and says so when it is imported.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nobody_serves_before_somebody_holds_a_token(trained_world, tmp_path):
    shutil.copytree(trained_world, tmp_path / "world")
    config = tmp_path / "world" / "tenure.toml"
    token_store(read_settings(config)).create(role="admin", days=1, now=NOW - timedelta(days=2))

    done = CliRunner().invoke(tenure.main, ["serve", "--port=1", f"--config={config}"])

    assert done.exit_code == 78
    assert f"tenure token create --role admin --config {config}" in done.stderr


def test_plain_bentoml_refuses_what_tenure_serve_refuses(company, store, today, tmp_path):
    port, log = free_port(), tmp_path / "bentoml.log"
    _, secret = store.create(role="ds", now=NOW)
    strict = company.path.with_name("strict.toml")
    strict.write_text(f"{company.path.read_text()}\n[serve]\nrefuse_stale = true\n")
    command = [BENTOML, "serve", "serving.service:TenureService", "--host=127.0.0.1", f"--port={port}"]
    with running(command, port, log, TENURE_CONFIG=str(strict)) as base:
        answers = [httpx.request(method, base + path, json={}) for method, path in ROUTES]
        strangers = [httpx.get(base + path) for path in pages.PATHS]
        known = httpx.get(f"{base}/v1/lists/latest", headers={"authorization": f"Bearer {secret}"})
        stale = httpx.post(
            f"{base}/v1/score_accounts", headers={"authorization": f"Bearer {secret}"}, json={"account_ids": ["a"]}
        )

    assert [answer.status_code for answer in answers] == [401] * len(ROUTES)
    assert [answer.status_code for answer in strangers] == [303] * len(pages.PATHS)
    assert (known.status_code, stale.status_code) == (200, 409)
    assert "refuse_stale" in stale.text
