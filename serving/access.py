"""Who may ask, as what, until when, and about whose accounts.

The ledger holds only hashes. A secret is shown once, when it is made, and cannot be read back. Every question about
accounts goes through `visible_to`: a CSM sees the own book, and those that are covered today.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, insert, select, true, update
from sqlalchemy.engine import Connection, Row

from features.errors import ConfigurationError
from features.settings import Settings
from serving.ledger import Ledger, open_ledger, record
from serving.ledger.tables import covers, tokens

ROLES = ("viewer", "csm", "manager", "admin", "ds")
REMEMBERED = timedelta(seconds=1)
"""A verified secret is asked for again after so long: a revoked token opens nothing from then on."""
MOST_REMEMBERED = 1024

_SECRET = re.compile(r"tnr_([0-9a-f]{8})_[A-Za-z0-9_-]{43}", re.ASCII)

# Compared with when the id is unknown, so that known and unknown ids cost the same.
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Token:
    """What is known of a bearer token; neither its secret nor the hash of it."""

    id: str
    role: str
    """One of `ROLES`."""
    csm_id: str | None
    """Whose book of accounts the holder works in; None where the role has no book."""
    created_at: datetime
    expires_at: datetime
    """First instant at which the token is refused."""
    revoked_at: datetime | None = None
    covered: tuple[str, ...] = ()
    """Whose books the holder sees beside the own on the day of the request."""

    def is_live(self, now: datetime) -> bool:
        """Whether the token is neither expired at `now` nor ever revoked."""
        return self.revoked_at is None and now < self.expires_at

    @property
    def books(self) -> frozenset[str] | None:
        """The CSMs whose accounts the holder may see; None for all accounts, also those that nobody owns."""
        if self.role != "csm":
            return None
        return frozenset({self.csm_id, *self.covered} - {None}) if self.csm_id else frozenset()


def sees(token: Token | None, csm_id: object) -> bool:
    """Whether a caller may see an account of this owner; without a token it is tenure itself that asks."""
    return token is None or token.books is None or csm_id in token.books


def visible_to(token: Token | None, table: Table) -> ColumnElement[bool]:
    """The rows of `table`, which has a csm_id, that a caller may see."""
    if token is None or token.books is None:
        return true()
    return table.c.csm_id.in_(sorted(token.books))


class TokenStore:
    """The tokens of one ledger; every `now` is timezone-aware. Raises what `Ledger` raises."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._remembered: dict[str, tuple[datetime, Token]] = {}

    def create(
        self, *, role: str, csm_id: str | None = None, days: int = 90, now: datetime, by: str = "tenure"
    ) -> tuple[Token, str]:
        """Add a token that lives for `days` and return it with its secret, which is kept nowhere."""
        if role not in ROLES:
            raise ValueError(f"role must be one of {sorted(ROLES)}; got {role!r}.")
        if days < 1:
            raise ValueError(f"days must be at least 1; got {days}.")
        created_at = _utc(now)
        token_id = secrets.token_hex(4)
        secret = f"tnr_{token_id}_{secrets.token_urlsafe(32)}"
        token = Token(
            id=token_id, role=role, csm_id=csm_id, created_at=created_at, expires_at=created_at + timedelta(days=days)
        )
        with self._ledger.writing() as connection:
            connection.execute(insert(tokens), _row(token, secret))
            record(connection, at=now, by=by, action="token_created", subject=token_id, role=role, csm_id=csm_id)
        return token, secret

    def verify(self, secret: str, *, now: datetime) -> Token | None:
        """The live token that `secret` belongs to, or None, whatever is wrong with it."""
        match = _SECRET.fullmatch(secret)
        if match is None:
            return None
        digest = _digest(secret)
        asked_at, token = self._remembered.get(digest, (None, None))
        if asked_at is None or not timedelta(0) <= now - asked_at < REMEMBERED:
            token = self._found(match[1], digest, now)
        return token if token is not None and token.is_live(now) else None

    def list(self) -> tuple[Token, ...]:
        """All tokens in the order they were made, the dead ones too."""
        with self._ledger.reading() as connection:
            rows = connection.execute(select(tokens).order_by(tokens.c.created_at, tokens.c.number)).all()
        return tuple(_token(row) for row in rows)

    def revoke(self, token_id: str, *, now: datetime, by: str = "tenure") -> Token:
        """End a token for good; one revoked before keeps its first `revoked_at`."""
        revoked_at = _utc(now)
        mine = tokens.c.token_id == token_id
        with self._ledger.writing() as connection:
            row = connection.execute(select(tokens).where(mine)).one_or_none()
            if row is None:
                raise ConfigurationError(
                    f"The token to revoke must be in the ledger; found no id {token_id!r}. "
                    "Take the id from `tenure token list`."
                )
            if row.revoked_at is None:
                connection.execute(update(tokens).where(mine).values(revoked_at=revoked_at.replace(tzinfo=None)))
                record(connection, at=now, by=by, action="token_revoked", subject=token_id)
        self._remembered.clear()
        return _token(row) if row.revoked_at is not None else replace(_token(row), revoked_at=revoked_at)

    def is_empty(self, now: datetime) -> bool:
        """Whether no token opens the door at `now`."""
        return not any(token.is_live(now) for token in self.list())

    def _found(self, token_id: str, digest: str, now: datetime) -> Token | None:
        with self._ledger.reading() as connection:
            row = connection.execute(select(tokens).where(tokens.c.token_id == token_id)).one_or_none()
            is_same = hmac.compare_digest(digest, row.sha256 if row else _NO_DIGEST)
            if row is None or not is_same:
                return None
            token = replace(_token(row), covered=covered_by(connection, row.csm_id, now.date()))
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[digest] = (now, token)
        return token


@dataclass(frozen=True, kw_only=True)
class Cover:
    """The book of `csm_id` is seen by `covered_by` too, from `first` to `last`, both included."""

    csm_id: str
    covered_by: str
    first: date
    last: date


def cover(ledger: Ledger, given: Cover, *, now: datetime, by: str) -> None:
    """Keep a cover, in the place of one of the same two that begins on the same day."""
    if given.last < given.first:
        raise ConfigurationError(
            f"The last day of a cover must not be before the first, {given.first}; found {given.last}."
        )
    row = {
        "csm_id": given.csm_id,
        "covered_by": given.covered_by,
        "from_date": given.first.isoformat(),
        "to_date": given.last.isoformat(),
    }
    same = and_(*(covers.c[name] == row[name] for name in ("csm_id", "covered_by", "from_date")))
    with ledger.writing() as connection:
        connection.execute(delete(covers).where(same))
        connection.execute(insert(covers), row)
        record(connection, at=now, by=by, action="cover", subject=given.csm_id, **row)


def covered_by(connection: Connection, csm_id: str | None, day: date) -> tuple[str, ...]:
    """Whose books a CSM covers on a day."""
    if csm_id is None:
        return ()
    today = day.isoformat()
    holds = and_(covers.c.covered_by == csm_id, covers.c.from_date <= today, covers.c.to_date >= today)
    return tuple(connection.execute(select(covers.c.csm_id).where(holds).order_by(covers.c.csm_id)).scalars())


def _utc(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise ValueError(f"now must be timezone-aware; got {now!r}. Use datetime.now(UTC).")
    return now.astimezone(UTC)


def _digest(secret: str) -> str:
    # A fast hash is enough: the secret is 256 random bits, which nobody can guess through.
    return hashlib.sha256(secret.encode()).hexdigest()


def _row(token: Token, secret: str) -> Mapping[str, Any]:
    return {
        "token_id": token.id,
        "role": token.role,
        "csm_id": token.csm_id,
        "sha256": _digest(secret),
        "created_at": token.created_at.replace(tzinfo=None),
        "expires_at": token.expires_at.replace(tzinfo=None),
    }


def _token(row: Row[Any]) -> Token:
    return Token(
        id=row.token_id,
        role=row.role,
        csm_id=row.csm_id,
        created_at=row.created_at.replace(tzinfo=UTC),
        expires_at=row.expires_at.replace(tzinfo=UTC),
        revoked_at=None if row.revoked_at is None else row.revoked_at.replace(tzinfo=UTC),
    )


def token_store(settings: Settings) -> TokenStore:
    """The tokens of one company."""
    return TokenStore(open_ledger(settings))
