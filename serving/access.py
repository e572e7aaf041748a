"""Bearer tokens: who may ask, as what, and until when.

The file holds only hashes. A secret is shown once, when it is made, and cannot be read back.
A running server notices a change of the file with its next request, so a revoked token stops at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from features.errors import CannotWrite, ConfigurationError
from features.settings import Settings

ROLES = ("viewer", "csm", "manager", "admin", "ds")

_SECRET = re.compile(r"tnr_([0-9a-f]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)

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

    def is_live(self, now: datetime) -> bool:
        """Whether the token is neither expired at `now` nor ever revoked."""
        return self.revoked_at is None and now < self.expires_at


@dataclass(frozen=True)
class _Record:
    token: Token
    digest: str


class TokenStore:
    """The tokens of one file. A missing file is an empty store; every `now` is timezone-aware.

    Raises
    ------
    ConfigurationError
        By every method, when the file is not one that this class wrote.
    CannotWrite
        By `create` and `revoke`, when the file or its folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[tuple[int, int, int] | None, Mapping[str, _Record]] = (None, {})

    def create(self, *, role: str, csm_id: str | None = None, days: int = 90, now: datetime) -> tuple[Token, str]:
        """Add a token that lives for `days` and return it with its secret, which is kept nowhere."""
        if role not in ROLES:
            raise ValueError(f"role must be one of {sorted(ROLES)}; got {role!r}.")
        if days < 1:
            raise ValueError(f"days must be at least 1; got {days}.")
        created_at = _utc(now)
        with self._changing() as records:
            while (token_id := secrets.token_hex(4)) in records:
                pass
            secret = f"tnr_{token_id}_{secrets.token_urlsafe(32)}"
            token = Token(
                id=token_id,
                role=role,
                csm_id=csm_id,
                created_at=created_at,
                expires_at=created_at + timedelta(days=days),
            )
            records[token_id] = _Record(token, _digest(secret))
        return token, secret

    def verify(self, secret: str, *, now: datetime) -> Token | None:
        """The live token that `secret` belongs to, or None, whatever is wrong with it."""
        match = _SECRET.fullmatch(secret)
        if match is None:
            return None
        record = self._records().get(match[1])
        is_same = hmac.compare_digest(_digest(secret), record.digest if record else _NO_DIGEST)
        return record.token if record and is_same and record.token.is_live(now) else None

    def list(self) -> tuple[Token, ...]:
        """All tokens in the order they were made, the dead ones too."""
        return tuple(record.token for record in self._records().values())

    def revoke(self, token_id: str, *, now: datetime) -> Token:
        """End a token for good; one revoked before keeps its first `revoked_at`."""
        revoked_at = _utc(now)
        with self._changing() as records:
            if token_id not in records:
                raise ConfigurationError(
                    f"The token to revoke must be in '{self._path}'; found no id {token_id!r}. "
                    "Take the id from `tenure token list`."
                )
            record = records[token_id]
            token = replace(record.token, revoked_at=record.token.revoked_at or revoked_at)
            records[token_id] = _Record(token, record.digest)
        return token

    def is_empty(self, now: datetime) -> bool:
        """Whether no token opens the door at `now`."""
        return not any(token.is_live(now) for token in self.list())

    def _records(self) -> Mapping[str, _Record]:
        state = _file_state(self._path)
        if state != self._seen[0]:
            # The state is taken before reading: a write in between only means one more read.
            self._seen = (state, _read(self._path))
        return self._seen[1]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, _Record]]:
        """Give the records to change and write them back, one writer at a time."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Without the lock, a token made elsewhere at the same moment could undo a revocation.
            with self._path.with_name(self._path.name + ".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                records = _read(self._path)
                yield records
                _write(self._path, _text(records))
        except OSError as error:
            raise CannotWrite(
                f"Token file '{self._path}' must be writable; found {error.strerror or error}. "
                "Free space or correct the permissions of its folder."
            ) from error


def _utc(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise ValueError(f"now must be timezone-aware; got {now!r}. Use datetime.now(UTC).")
    return now.astimezone(UTC)


def _digest(secret: str) -> str:
    # A fast hash is enough: the secret is 256 random bits, which nobody can guess through.
    return hashlib.sha256(secret.encode()).hexdigest()


def _file_state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    # The inode changes with every replacement, also within one tick of the file system's clock.
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> dict[str, _Record]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["tokens"]
        records = [_record(row) for row in rows]
        if len({record.token.id for record in records}) < len(records):
            raise ValueError("an id that occurs twice")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    except KeyError as error:
        raise _damaged(path, f"no key {error}") from error
    except (TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    return {record.token.id: record for record in records}


def _damaged(path: Path, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"Token file '{path}' must be readable JSON as `tenure token create` writes it; found {found}. "
        "Restore it from a backup, or remove it and make new tokens with `tenure token create`."
    )


def _record(row: Mapping[str, Any]) -> _Record:
    if row["role"] not in ROLES:
        raise ValueError(f"role {row['role']!r}")
    if not (row["csm_id"] is None or isinstance(row["csm_id"], str)):
        raise ValueError(f"csm_id {row['csm_id']!r}")
    token = Token(
        id=_matching(_ID, row["id"], "id"),
        role=row["role"],
        csm_id=row["csm_id"],
        created_at=_instant(row["created_at"]),
        expires_at=_instant(row["expires_at"]),
        revoked_at=None if row["revoked_at"] is None else _instant(row["revoked_at"]),
    )
    return _Record(token, _matching(_DIGEST, row["sha256"], "sha256"))


def _matching(pattern: re.Pattern[str], text: str, name: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"a malformed {name}")
    return text


def _instant(text: str) -> datetime:
    return _utc(datetime.fromisoformat(text))


def _text(records: Mapping[str, _Record]) -> str:
    rows = [{**asdict(record.token), "sha256": record.digest} for record in records.values()]
    return json.dumps({"tokens": rows}, indent=2, default=datetime.isoformat) + "\n"


def _write(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a reader, or a crash, meets the old file or the new one."""
    # mkstemp gives mode 600, which the replacement keeps.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def token_store(settings: Settings) -> TokenStore:
    """The tokens of one company."""
    return TokenStore(settings.state_dir / "tokens.json")
