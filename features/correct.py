"""`tenure correct`: put a label right, or take that back, on a line of its own that says who did it and why."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from features.corrections import (
    SUCCEEDED,
    append_line,
    load_corrections,
    losses_text,
    read_corrections,
)
from features.errors import Misuse
from features.labels import decisions
from features.settings import Settings
from features.snapshots import data_span
from features.tables import Tables

Line = dict[str, Any]


def correct(
    tables: Tables, settings: Settings, account: str, *, kind: str, said: dict[str, str | None], now: datetime
) -> Line:
    """Append a correction to the audit file; returns its line, with the account's losses before and after.

    Parameters
    ----------
    said : `at` (YYYY-MM-DD), `into_account_id`, `by` and `reason`

    Raises
    ------
    Misuse
        There is no such account or successor, the date is to come, or no loss is there to take back.
    """
    _require_account(tables, account)
    if kind in SUCCEEDED and said["into_account_id"] is not None:
        _require_account(tables, said["into_account_id"])
    before = _losses(tables, settings, account, now)
    at = said["at"] or _only_day(account, kind, before, now)
    if at > f"{now:%Y-%m-%d}":
        raise Misuse(f"--at must not be after {now:%Y-%m-%d}; found {at}. Correct what has happened.")
    line: Line = {"id": secrets.token_hex(4), "account_id": account, "kind": kind, **said, "at": at}
    return _acknowledged(line, tables, settings, account, before, now)


def undo(tables: Tables, settings: Settings, correction: str, *, said: dict[str, str | None], now: datetime) -> Line:
    """Append a line that takes the correction with that id back."""
    found = {item.id: item for item in read_corrections(settings) if item.id is not None}
    if correction not in found:
        raise Misuse(f"--undo must name a correction of {sorted(found)}; found '{correction}'. Name one of them.")
    if found[correction].undone_at is not None:
        raise Misuse(f"--undo must name a correction that holds; '{correction}' was undone before. Nothing to do.")
    account = found[correction].account_id
    before = _losses(tables, settings, account, now)
    line: Line = {"id": secrets.token_hex(4), "undoes": correction, "account_id": account, **said}
    return _acknowledged(line, tables, settings, account, before, now)


def _acknowledged(
    line: Line, tables: Tables, settings: Settings, account: str, before: list[datetime], now: datetime
) -> Line:
    """Tell what the line changes, then write it."""
    line |= {"known_at": now.isoformat(timespec="seconds")}
    after = _losses(tables, settings, account, now, extra=line)
    line |= {"before": losses_text(before), "after": losses_text(after)}
    if line.get("kind") == "did_not_churn" and before == after:
        raise Misuse(
            f"--at must lie within a month of a loss of {account}; it has {losses_text(before)}. Name the day it left."
        )
    append_line(settings, line)
    return line


def _losses(
    tables: Tables, settings: Settings, account: str, now: datetime, *, extra: Line | None = None
) -> list[datetime]:
    """The days of the account's losses, with the line `extra` as if it were written."""
    load_corrections(tables.backend, settings, now=now, extra=extra)
    until = data_span(tables, now.replace(tzinfo=None)).until
    rows = decisions(tables, settings.label, until=until)
    held = rows.filter((rows.account_id == account) & rows.refuted_at.isnull())
    return sorted(row["decided_at"] for row in held.select("decided_at").distinct().to_pyarrow().to_pylist())


def _only_day(account: str, kind: str, losses: list[datetime], now: datetime) -> str:
    """The day that goes without saying: of the only loss; today for a loss that no source tells."""
    if kind == "churned" or (kind in SUCCEEDED and not losses):
        return f"{now:%Y-%m-%d}"
    if len(losses) != 1:
        raise Misuse(f"--at must say which loss of {account} is meant; it has {losses_text(losses)}. Add --at.")
    return f"{losses[0]:%Y-%m-%d}"


def _require_account(tables: Tables, account: str) -> None:
    accounts = tables["accounts"]
    if not accounts.filter(accounts.account_id == account).count().to_pyarrow().as_py():
        raise Misuse(f"ACCOUNT must be an account_id of table 'accounts'; found '{account}'. Check its spelling.")


def correction_text(line: Line) -> str:
    """The line for a person."""
    done = f"{line['undoes']} undone" if "undoes" in line else f"{line['kind']} {line['at']}"
    return (
        f"{line['id']}: {line['account_id']} {done}. Before: {line['before']}. After: {line['after']}. "
        "Labels change with the next training."
    )
