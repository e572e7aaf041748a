"""Tokens open the door to their holder, until they expire or are revoked, and leave no secret behind."""

from __future__ import annotations

import json
import os
import stat
import string
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import CannotWrite, ConfigurationError
from serving.access import ROLES, TokenStore

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.fixture
def store(tmp_path):
    return TokenStore(tmp_path / "tokens.json")


@pytest.mark.parametrize("role", ROLES)
def test_a_secret_opens_the_door_as_the_role_it_was_made_for(store, role):
    token, secret = store.create(role=role, csm_id="csm-7", now=NOW)

    assert store.verify(secret, now=NOW) == token
    assert (token.role, token.csm_id) == (role, "csm-7")


def test_a_secret_names_its_token_and_carries_256_random_bits(store):
    token, secret = store.create(role="admin", now=NOW)
    prefix, token_id, rest = secret.split("_", 2)

    assert (prefix, token_id) == ("tnr", token.id)
    assert len(rest) == 43
    assert set(rest) <= set(string.ascii_letters + string.digits + "-_")


def test_the_file_holds_no_secret_and_only_its_owner_may_read_it(store, tmp_path):
    _, secret = store.create(role="admin", now=NOW)
    file = tmp_path / "tokens.json"

    assert secret.split("_", 2)[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_known_of_a_token_does_not_show_its_hash(store, tmp_path):
    token, _ = store.create(role="admin", now=NOW)
    digest = json.loads((tmp_path / "tokens.json").read_text())["tokens"][0]["sha256"]

    assert digest not in repr(token)


def test_a_token_lives_to_the_last_instant_before_it_expires(store):
    token, secret = store.create(role="viewer", days=30, now=NOW)

    assert token.expires_at == NOW + timedelta(days=30)
    assert store.verify(secret, now=token.expires_at - INSTANT) == token
    assert store.verify(secret, now=token.expires_at) is None


def test_a_revoked_token_is_refused_at_any_time(store):
    token, secret = store.create(role="viewer", now=NOW)
    store.revoke(token.id, now=NOW + timedelta(days=1))

    assert store.verify(secret, now=NOW) is None
    assert store.verify(secret, now=NOW + timedelta(days=2)) is None


def test_a_server_that_runs_hears_of_a_revocation_made_elsewhere(store, tmp_path):
    token, secret = store.create(role="csm", now=NOW)
    running = TokenStore(tmp_path / "tokens.json")
    before = running.verify(secret, now=NOW)
    store.revoke(token.id, now=NOW)

    assert before == token
    assert running.verify(secret, now=NOW) is None


def test_a_server_that_runs_hears_of_a_token_made_elsewhere_and_of_a_removed_file(store, tmp_path):
    running = TokenStore(tmp_path / "tokens.json")
    is_empty_at_first = running.is_empty(NOW)
    token, secret = store.create(role="csm", now=NOW)
    found = running.verify(secret, now=NOW)
    (tmp_path / "tokens.json").unlink()

    assert is_empty_at_first
    assert found == token
    assert running.verify(secret, now=NOW) is None


def test_revoking_twice_keeps_the_first_time(store):
    token, _ = store.create(role="ds", now=NOW)
    store.revoke(token.id, now=NOW)
    store.revoke(token.id, now=NOW + timedelta(days=5))

    assert [known.revoked_at for known in store.list()] == [NOW]


def test_a_store_is_empty_when_no_token_lives(store):
    token, _ = store.create(role="admin", days=1, now=NOW)
    was_empty = store.is_empty(NOW)
    is_empty_when_expired = store.is_empty(NOW + timedelta(days=1))
    store.revoke(token.id, now=NOW)

    assert not was_empty
    assert is_empty_when_expired
    assert store.is_empty(NOW)


def test_tokens_are_listed_in_the_order_they_were_made(store):
    made = [store.create(role=role, now=NOW)[0] for role in ROLES]

    assert list(store.list()) == made


def test_tokens_made_at_the_same_moment_are_all_kept(tmp_path):
    """Several commands may write the file at once; the last must not undo the others."""

    def made(_):
        return TokenStore(tmp_path / "tokens.json").create(role="viewer", now=NOW)[1]

    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(made, range(40)))
    store = TokenStore(tmp_path / "tokens.json")

    assert all(store.verify(secret, now=NOW) for secret in secrets)


def test_nothing_but_the_token_file_and_its_lock_stays_behind(store, tmp_path):
    store.create(role="viewer", now=NOW)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.json", "tokens.json.lock"]


def test_times_are_kept_in_utc(store):
    token, _ = store.create(role="viewer", now=NOW.astimezone(timezone(timedelta(hours=5))))

    assert token.created_at == NOW
    assert token.created_at.tzinfo is UTC


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A store and the id of the one live token in it."""
    store = TokenStore(tmp_path_factory.mktemp("known") / "tokens.json")
    return store, store.create(role="admin", now=NOW)[0].id


@settings(deadline=None)
@given(text=st.text(max_size=80) | st.from_regex(r"tnr_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", fullmatch=True))
def test_no_made_up_secret_opens_the_door(known, text):
    store, token_id = known

    assert store.verify(text, now=NOW) is None
    assert store.verify(f"tnr_{token_id}_{text[-43:]}", now=NOW) is None


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda secret: secret[:-1], lambda secret: secret + "\n"])
def test_a_secret_that_is_nearly_right_is_refused(store, change):
    _, secret = store.create(role="admin", now=NOW)

    assert store.verify(change(secret), now=NOW) is None


def test_a_role_that_does_not_exist_is_refused(store):
    with pytest.raises(ValueError, match=r"role must be one of \['admin', .*; got 'root'"):
        store.create(role="root", now=NOW)


def test_a_token_that_never_lives_is_refused(store):
    with pytest.raises(ValueError, match="days must be at least 1; got 0"):
        store.create(role="admin", days=0, now=NOW)


def test_a_naive_now_is_refused(store):
    with pytest.raises(ValueError, match="timezone-aware"):
        store.create(role="admin", now=NOW.replace(tzinfo=None))


def test_an_unknown_id_cannot_be_revoked(store):
    with pytest.raises(ConfigurationError, match=r"found no id 'deadbeef'.*`tenure token list`"):
        store.revoke("deadbeef", now=NOW)


def _without(name):
    return lambda row: {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    "damage",
    [
        *(_without(name) for name in ("id", "sha256", "role", "csm_id", "created_at", "expires_at", "revoked_at")),
        lambda row: {**row, "role": "root"},
        lambda row: {**row, "role": ["admin"]},
        lambda row: {**row, "csm_id": 7},
        lambda row: {**row, "sha256": ""},
        lambda row: {**row, "expires_at": "2999-01-01T00:00:00"},
        lambda row: {**row, "expires_at": None},
        lambda row: "admin",
    ],
)
def test_a_file_with_a_damaged_token_is_refused_whole(store, tmp_path, damage):
    """Half a list of tokens could be the half without the revocations."""
    _, secret = store.create(role="admin", now=NOW)
    file = tmp_path / "tokens.json"
    rows = json.loads(file.read_text())["tokens"]
    file.write_text(json.dumps({"tokens": [*rows, damage(rows[0])]}))

    with pytest.raises(ConfigurationError, match=r"tokens\.json' must be readable JSON.*Restore it"):
        store.verify(secret, now=NOW)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"tokens": 1}', '{"tokens": [{}]}', "\udc80"])
def test_a_file_that_is_not_ours_is_refused_and_kept(store, tmp_path, text):
    file = tmp_path / "tokens.json"
    file.write_text(text, errors="surrogateescape")

    with pytest.raises(ConfigurationError, match=r"tokens\.json' must be readable JSON") as refused:
        store.create(role="admin", now=NOW)
    assert refused.value.exit_code == 78
    assert file.read_text(errors="surrogateescape") == text


def test_an_id_that_occurs_twice_is_refused(store, tmp_path):
    store.create(role="viewer", now=NOW)
    file = tmp_path / "tokens.json"
    rows = json.loads(file.read_text())["tokens"]
    file.write_text(json.dumps({"tokens": rows * 2}))

    with pytest.raises(ConfigurationError, match="an id that occurs twice"):
        store.list()


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="Is a directory"):
        TokenStore(tmp_path).list()


def test_a_failed_write_keeps_the_old_tokens_and_leaves_no_rest(store, tmp_path, monkeypatch):
    token, secret = store.create(role="admin", now=NOW)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match="must be writable; found No space left on device"):
        store.create(role="viewer", now=NOW)

    assert store.verify(secret, now=NOW) == token
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.json", "tokens.json.lock"]


def test_the_folder_of_the_file_is_made_when_it_is_missing(tmp_path):
    store = TokenStore(tmp_path / "state" / "serving" / "tokens.json")
    token, secret = store.create(role="admin", now=NOW)

    assert store.verify(secret, now=NOW) == token
