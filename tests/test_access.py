"""Tokens open the door to their holder, until they expire or are revoked, and leave no secret behind."""

from __future__ import annotations

import string
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from features.errors import ConfigurationError
from serving.access import REMEMBERED, ROLES, Cover, TokenStore, cover, sees
from serving.ledger import Ledger
from serving.ledger.tables import audit

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


def open_ledger_at(folder):
    return Ledger(None, folder)


@pytest.fixture
def ledger(tmp_path):
    return open_ledger_at(tmp_path)


@pytest.fixture
def store(ledger):
    return TokenStore(ledger)


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


def test_the_ledger_holds_no_secret(store, ledger):
    token, secret = store.create(role="admin", now=NOW)
    with ledger.reading() as connection:
        kept = [str(row) for table in ("tokens", "audit") for row in connection.execute(text(f"select * from {table}"))]

    assert any(token.id in row for row in kept)
    assert not any(secret.split("_", 2)[2] in row for row in kept)


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


def test_a_server_that_runs_hears_of_a_revocation_made_elsewhere_within_a_second(store, ledger):
    token, secret = store.create(role="csm", now=NOW)
    running = TokenStore(ledger)
    before = running.verify(secret, now=NOW)
    store.revoke(token.id, now=NOW)

    assert before == token
    assert running.verify(secret, now=NOW + REMEMBERED) is None


def test_a_server_that_runs_hears_of_a_token_made_elsewhere(store, ledger):
    running = TokenStore(ledger)
    is_empty_at_first = running.is_empty(NOW)
    token, secret = store.create(role="csm", now=NOW)

    assert is_empty_at_first
    assert running.verify(secret, now=NOW) == token


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
    """Several commands may write at once; the last must not undo the others."""

    def made(_):
        return TokenStore(open_ledger_at(tmp_path)).create(role="viewer", now=NOW)[1]

    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(made, range(24)))
    store = TokenStore(open_ledger_at(tmp_path))

    assert all(store.verify(secret, now=NOW) for secret in secrets)


def test_times_are_kept_in_utc(store):
    token, _ = store.create(role="viewer", now=NOW.astimezone(timezone(timedelta(hours=5))))

    assert token.created_at == NOW
    assert token.created_at.tzinfo is UTC


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A store and the id of the one live token in it."""
    store = TokenStore(open_ledger_at(tmp_path_factory.mktemp("known")))
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


def test_what_is_done_to_tokens_is_on_the_record(store, ledger):
    token, _ = store.create(role="csm", csm_id="c1", now=NOW, by="root@desk")
    store.revoke(token.id, now=NOW, by="root@desk")
    store.revoke(token.id, now=NOW, by="somebody else")
    with ledger.reading() as connection:
        kept = connection.execute(select(audit).where(audit.c.subject == token.id).order_by(audit.c.number)).all()

    assert [(row.action, row.by) for row in kept] == [("token_created", "root@desk"), ("token_revoked", "root@desk")]


DAY = date(2026, 3, 1)


def test_a_csm_sees_the_books_covered_today_and_no_others(store, ledger):
    _, secret = store.create(role="csm", csm_id="ana", now=NOW)
    cover(ledger, Cover(csm_id="ben", covered_by="ana", first=DAY, last=DAY), now=NOW, by="root")
    cover(
        ledger,
        Cover(csm_id="cem", covered_by="ana", first=DAY + timedelta(days=1), last=DAY + timedelta(days=9)),
        now=NOW,
        by="root",
    )
    cover(ledger, Cover(csm_id="ana", covered_by="dia", first=DAY, last=DAY), now=NOW, by="root")

    assert store.verify(secret, now=NOW).books == {"ana", "ben"}
    assert store.verify(secret, now=NOW + timedelta(days=1)).books == {"ana", "cem"}
    assert store.verify(secret, now=NOW + timedelta(days=30)).books == {"ana"}


def test_a_cover_that_ends_before_it_begins_is_refused(ledger):
    with pytest.raises(ConfigurationError, match="must not be before the first"):
        cover(
            ledger, Cover(csm_id="ben", covered_by="ana", first=DAY, last=DAY - timedelta(days=1)), now=NOW, by="root"
        )


@pytest.mark.parametrize("role", ROLES)
def test_only_a_csm_is_kept_to_a_book(store, role):
    token, _ = store.create(role=role, csm_id="ana", now=NOW)

    assert sees(token, "ana")
    assert sees(token, "ben") == sees(token, None) == (role != "csm")


def test_a_csm_without_a_book_sees_nothing(store):
    token, _ = store.create(role="csm", now=NOW)

    assert not sees(token, None)
    assert not sees(token, "ana")
