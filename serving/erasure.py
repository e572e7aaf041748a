"""Erase an account or a contact: what tenure keeps loses it, later runs leave it out, and the audit has a line.

The register is in force before the first file changes, and says what is done. So an erasure that is broken off
brings nothing back, and is completed by asking again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import ibis
from sqlalchemy import select

from features.erased import Erasure, Kind, Register, read_register
from features.erased_state import Delivered, Erased, clear_leftovers, delivered, is_kept, steps
from features.erasure import open_register
from features.errors import DataError, Misuse
from features.settings import Settings
from features.sources import connect, open_raw
from serving.erased_lists import erase_from_lists, is_listed, remove_older_ledgers
from serving.ledger import open_ledger, record
from serving.ledger.tables import audit
from serving.publication import one_at_a_time

ACTION = "erased"
REASONS = {
    "account": "Lists published before say how many accounts were erased, and keep the ranks of the others. Features "
    "that compare an account with its peers are made without it from now on.",
    "contact": "Figures of the account stay, for the person counts under another name. Where answers given in the same "
    "moment are told apart by who gave them, their order may be another one.",
}
BACKUPS = "Backups and exports that you made are yours to clear: tenure does not know where they are."


@dataclass(frozen=True, kw_only=True)
class Done:
    """What an erasure did."""

    kind: Kind
    mark: str
    counts: Mapping[str, int]
    """Rows erased, by place, by all attempts together."""
    sources: Mapping[str, int]
    """Rows that the sources still deliver, by table."""
    is_new: bool
    """Whether anything was left to do."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "counts": dict(self.counts), "sources": dict(self.sources), "why": REASONS[self.kind]}

    def text(self) -> str:
        """For a person."""
        found = ", ".join(f"{place} {rows:,}" for place, rows in self.counts.items() if rows) or "nothing was kept"
        lines = [f"The {self.kind} is erased ({self.mark[:12]}): {found}." if self.is_new else
                 f"The {self.kind} was erased before ({self.mark[:12]}); nothing of it was left."]  # fmt: skip
        if self.sources:
            told = ", ".join(f"{table} {rows:,}" for table, rows in self.sources.items())
            lines.append(f"The sources are yours and still deliver it: {told} rows. Every run leaves them out.")
        return "\n".join([*lines, REASONS[self.kind], BACKUPS])


def erase(settings: Settings, name: str, kind: Kind | None, *, now: datetime, by: str) -> Done:
    """Erase the account or the contact with the id `name`.

    Raises
    ------
    DataError
        No table, copy or list knows the id.
    Misuse
        It is an account's and a contact's id, and `kind` does not say which.
    AlreadyRunning
        A run holds the lock.
    """
    with one_at_a_time(settings):
        register = read_register(settings.state_dir)
        backend = _opened(settings)
        found = delivered(backend, settings, name)
        chosen = _kind(backend, settings, register, found, name, kind)
        before = register.find(chosen, name)
        erasure = before or _begun(register, chosen, name, found, now)
        register = register.keep(replace(erasure, is_done=False)) if before is None else register
        erased = Erased.of(register, chosen, name)
        erasure, rows = _erased_everywhere(settings, register, erasure, erased)
        is_new = rows > 0 or not erasure.is_done
        if is_new:
            _audited(settings, erasure, now=now, by=by)
            register.keep(replace(erasure, is_done=True))
    sources = found.account if chosen == "account" else found.contact
    return Done(kind=chosen, mark=erasure.mark, counts=erasure.counts, sources=sources, is_new=is_new)


def _opened(settings: Settings) -> ibis.BaseBackend:
    """The sources as the company delivers them, those who were erased among them."""
    backend = connect(settings)
    open_register(backend, Register(state_dir=settings.state_dir))
    open_raw(backend, settings)
    return backend


def _kind(
    backend: ibis.BaseBackend, settings: Settings, register: Register, found: Delivered, name: str, asked: Kind | None
) -> Kind:
    kinds: set[Kind] = is_kept(backend, settings, name)
    kinds |= {kind for kind in _KINDS if register.find(kind, name) is not None or getattr(found, kind)}
    if is_listed(settings, name):
        kinds.add("account")
    if asked is not None:
        kinds &= {asked}
    if not kinds:
        what = "an account or a contact" if asked is None else f"an {asked}" if asked == "account" else f"a {asked}"
        raise DataError(
            f"ID must be of {what} that a table, a copy or a published list names; found nobody called {name!r}. "
            "Write it as the source does, capitals included."
        )
    if len(kinds) > 1:
        raise Misuse(f"{name!r} is the id of an account and of a contact. Say which with --kind account or contact.")
    return kinds.pop()


_KINDS: tuple[Kind, ...] = ("account", "contact")


def _begun(register: Register, kind: Kind, name: str, found: Delivered, now: datetime) -> Erasure:
    aliases = {}
    if kind == "account":
        aliases = {
            f"id of {system}": tuple(register.mark(f"id of {system}", alias) for alias in ids)
            for system, ids in found.aliases.items()
        }
    return Erasure(kind=kind, mark=register.mark(kind, name), aliases=aliases, at=f"{now:%Y-%m-%d %H:%M:%S}")


def _erased_everywhere(settings: Settings, register: Register, erasure: Erasure, erased: Erased) -> tuple[Erasure, int]:
    """The erasure with what each place lost, written down place by place; and the rows of this attempt."""
    clear_leftovers(settings)
    backend = connect(settings)
    places: dict[str, Callable[[], int]] = steps(backend, settings, erased)
    if erased.kind == "account":
        places["lists"] = lambda: erase_from_lists(settings, erased)
        places["ledgers of before an upgrade"] = lambda: remove_older_ledgers(settings)
    total = 0
    for place, step in places.items():
        rows = step()
        total += rows
        erasure = erasure.with_count(place, rows)
        if rows:
            register.keep(replace(erasure, is_done=False))
    return erasure, total


def _audited(settings: Settings, erasure: Erasure, *, now: datetime, by: str) -> None:
    """One line for the erasure, also where the process ended between the line and the register."""
    line = (audit.c.action == ACTION) & (audit.c.subject == erasure.mark)
    with open_ledger(settings).writing() as connection:
        told = connection.execute(select(audit.c.facts).where(line)).scalars().all()
        facts = {"kind": erasure.kind, "rows": dict(erasure.counts)}
        if facts not in told:
            record(connection, at=now, by=by, action=ACTION, subject=erasure.mark, **facts)
