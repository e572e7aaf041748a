"""Who was erased: a register that holds no readable id, and by which erased rows are known when a source gives them.

    erased/register.json   kind, keyed hash and counts of every erasure
    erased/key             the key of the hashes, made once, readable by its owner alone

Sources belong to the company and go on delivering. So every table is opened through `rows_without_erased`: rows of an
erased account are left out, and a person who was erased has another name in them, always the same one, so that what
is counted of the account stays what it was.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from features.errors import ConfigurationError
from features.state import kept_secret, replace_file

FOLDER, REGISTER, KEY = "erased", "register.json", "key"
Kind = Literal["account", "contact"]


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """One erasure, begun or done."""

    kind: Kind
    mark: str
    """Keyed hash of the id."""
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of an account, the marks of its ids in other systems, by `id of` the system."""
    at: str
    """When it was asked for, in UTC."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows that were erased so far, by place."""
    is_done: bool = False

    def with_count(self, place: str, rows: int) -> Erasure:
        """With `rows` more at `place`."""
        return replace(self, counts={**self.counts, place: self.counts.get(place, 0) + rows})


@dataclass(frozen=True, kw_only=True)
class Register:
    """The erasures of one company."""

    state_dir: Path
    erasures: tuple[Erasure, ...] = ()

    @cached_property
    def key(self) -> bytes:
        """The key of the marks; made when it is first needed."""
        path = self.state_dir / FOLDER / KEY
        if self.erasures and not path.is_file():
            raise ConfigurationError(
                f"{path} must hold the key by which erased rows are known; found none, and the register names "
                f"{len(self.erasures)}. Put it back from a backup: without it they would come back from the sources."
            )
        return kept_secret(path)

    def mark(self, kind: str, name: str) -> str:
        """Keyed hash of an id."""
        return hmac.new(self.key, f"{kind}:{name}".encode(), hashlib.sha256).hexdigest()

    def pseudonym(self, kind: Kind, name: str) -> str:
        """What stands in the place of an erased id, always the same."""
        return f"erased-{self.mark(kind, name)[:PSEUDONYM_LENGTH]}"

    def find(self, kind: Kind, name: str) -> Erasure | None:
        """The erasure of an id, begun or done."""
        if not self.erasures:
            return None
        mark = self.mark(kind, name)
        return next((item for item in self.erasures if (item.kind, item.mark) == (kind, mark)), None)

    def has(self, kind: Kind) -> bool:
        """Whether anybody of this kind was erased."""
        return any(item.kind == kind for item in self.erasures)

    def keep(self, erasure: Erasure) -> Register:
        """Write an erasure, in the place of what was known of it; it is in force once this returns."""
        others = tuple(item for item in self.erasures if (item.kind, item.mark) != (erasure.kind, erasure.mark))
        kept = replace(self, erasures=(*others, erasure))
        text = json.dumps({"erasures": [asdict(item) for item in kept.erasures]}, indent=1)
        replace_file(self.state_dir / FOLDER / REGISTER, lambda staged: staged.write_text(text, encoding="utf-8"))
        return kept


PSEUDONYM_LENGTH = 20
"""Digits of a mark that stand for an erased id."""


def register_path(state_dir: Path) -> Path:
    """Where the register lies; there is none before the first erasure."""
    return state_dir / FOLDER / REGISTER


def read_register(state_dir: Path) -> Register:
    """The erasures so far.

    Raises
    ------
    ConfigurationError
        The register is damaged. Without it erased rows would come back, so nothing is opened.
    """
    path = register_path(state_dir)
    if not path.is_file():
        return Register(state_dir=state_dir)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["erasures"]
        return Register(state_dir=state_dir, erasures=tuple(Erasure(**item) for item in found))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} must be as `tenure erase` left it; it is damaged. Put it back from a backup: without it erased "
            "rows would come back from the sources."
        ) from error
