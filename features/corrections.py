"""Labels put right by hand: losses that were none, and losses that no source tells.

Two sources count alike: the file that `[label] corrections` names, and the audit file that `tenure correct` appends
to. A correction counts from the day it became known, and until it is undone: labels as known earlier stay as they
were, so that what was learned then can be learned again.

did_not_churn takes back the losses around its date, and so do merged and renamed, for the successor goes on; churned
adds one. Only churned changes who is scored: a wrong end must be mended in its source, or its features stay missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir

from features.csv_files import csv_reader, quoted
from features.errors import CannotWrite, ConfigurationError, DataError
from features.settings import Settings
from features.sources import CLEAN, data_errors
from features.windows import TIMESTAMP, beside

KINDS = ("did_not_churn", "churned", "merged", "renamed")
SUCCEEDED = ("merged", "renamed")
AUDIT_FILE = "corrections.jsonl"
AROUND_DAYS = 31
"""A correction means the losses decided, or ended, within so many days of its date."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """One label put right."""

    account_id: str
    kind: str
    at: datetime | None
    """Date of the loss; without one every loss known when the correction was."""
    into_account_id: str | None
    known_at: datetime
    undone_at: datetime | None = None
    id: str | None = None
    """Of a line of the audit file."""


def load_corrections(
    backend: ibis.BaseBackend, settings: Settings, *, now: datetime, extra: Mapping[str, Any] | None = None
) -> None:
    """Make the table `corrections` of all that was known on the day of `now`, with a line `extra` as if it stood there.

    Raises
    ------
    DataError
        A row of the file, or a line of the audit file, is not a correction.
    """
    today = _day(now)
    found = [item for item in read_corrections(settings, extra) if _day(item.known_at) <= today]
    backend.raw_sql(
        f"create or replace table {CLEAN}.corrections (account_id varchar, kind varchar, event_at timestamp, "
        "into_account_id varchar, known_at timestamp, undone_at timestamp)"
    )
    if found:
        backend.raw_sql(f"insert into {CLEAN}.corrections values {', '.join(_row(item, today) for item in found)}")


def _day(moment: datetime) -> datetime:
    """The midnight in UTC that begins the day of `moment`."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _row(item: Correction, today: datetime) -> str:
    undone = None if item.undone_at is None else _day(item.undone_at)
    at = None if item.at is None else _day(item.at)
    values = [item.account_id, item.kind, at, item.into_account_id, _day(item.known_at)]
    values.append(undone if undone is not None and undone <= today else None)
    return "(" + ", ".join("null" if value is None else quoted(value) for value in values) + ")"


# Reading


def read_corrections(settings: Settings, extra: Mapping[str, Any] | None = None) -> list[Correction]:
    """Every correction of the file and of the audit file (and a line `extra`), with when it was undone."""
    corrections = _of_audit([*audit_lines(settings), *([] if extra is None else [extra])])
    if settings.label.corrections is not None:
        corrections += _of_file(settings.resolve(settings.label.corrections))
    return corrections


def _of_file(path: Path) -> list[Correction]:
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv", ".gz", ".parquet"):
        raise ConfigurationError(
            f"[label] corrections must be a CSV or Parquet file; found none at {path}. Correct it in tenure.toml."
        )
    with data_errors("corrections"):
        is_parquet = path.suffix.lower() == ".parquet"
        reader = f"read_parquet({quoted(path)})" if is_parquet else csv_reader("corrections", path)
        with duckdb.connect() as engine:
            read = engine.execute(f"select columns(*)::varchar from {reader}")
            names = [column[0] for column in read.description or []]
            rows = [dict(zip(names, row, strict=True)) for row in read.fetchall()]
    return [correction_of(row, f"row {number} of {path.name}") for number, row in enumerate(rows, start=1)]


def audit_lines(settings: Settings) -> list[dict[str, Any]]:
    """The lines of the audit file, oldest first; a line whose writing was cut short was never acknowledged."""
    path = settings.state_dir / AUDIT_FILE
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("}"):
            continue
        try:
            found.append(dict(json.loads(line)))
        except ValueError as error:
            raise DataError(
                f"Line {number} of {path} must be one JSON object; found {str(error).lower()}. Restore the file: "
                "`tenure correct` alone writes it."
            ) from error
    return found


def _of_audit(lines: Iterable[Mapping[str, Any]]) -> list[Correction]:
    made: dict[str, Correction] = {}
    for line in lines:
        if "undoes" in line:
            undone = made.get(line["undoes"])
            if undone is not None:
                made[line["undoes"]] = replace(undone, undone_at=_moment(line["known_at"]))
        else:
            made[line["id"]] = replace(correction_of(line, f"correction {line['id']}"), id=line["id"])
    return list(made.values())


def correction_of(row: Mapping[str, Any], where: str) -> Correction:
    """The correction that a row of text says; `where` names the row to a reader."""
    account, kind = (row.get("account_id") or "").strip(), (row.get("kind") or "").strip()
    if not account or kind not in KINDS:
        raise DataError(f"A correction must have an account_id and a kind of {list(KINDS)}; found {where}. Mend it.")
    try:
        at, known_at = _moment(row.get("at")), _moment(row.get("known_at"))
    except ValueError as error:
        raise DataError(f"A correction must have dates such as 2025-03-31; found {where}: {error}. Mend it.") from error
    if (at is None and kind == "churned") or (at is None and known_at is None):
        raise DataError(f"A correction must say `at` which date it holds; found none in {where}. Add it.")
    known = known_at or at
    assert known is not None
    into = row.get("into_account_id") or None
    if (into is None or into == account) and kind in SUCCEEDED:
        raise DataError(f"A correction of kind {kind} must name another into_account_id; found {where}. Add it.")
    return Correction(account_id=account, kind=kind, at=at, into_account_id=into, known_at=known)


def _moment(text: str | None) -> datetime | None:
    """UTC without a zone; a date is its midnight."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def append_line(settings: Settings, line: Mapping[str, Any]) -> None:
    """Write one line at the end of the audit file, and return once it is on the disk."""
    path = settings.state_dir / AUDIT_FILE
    text = json.dumps(line, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell() and not _ends_with_newline(file):
                text = "\n" + text
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CannotWrite(f"{path} must be a file that can be written; {error.strerror}. Free space.") from error


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


# Applying


def corrected(losses: ir.Table, corrections: ir.Table) -> ir.Table:
    """`losses` with those added by hand, and `refuted_at`: when a loss was found to be none; null where it holds.

    A loss that was refuted and, the correction undone, holds again has two rows, each with the time it was known in.

    Parameters
    ----------
    losses : table of account_id, decided_at, known_at, lost_at and voluntary
    """
    by_hand = corrections.filter(corrections.kind == "churned")
    by_hand = by_hand.select(
        "account_id",
        decided_at=by_hand.event_at,
        known_at=ibis.greatest(by_hand.known_at, by_hand.event_at),
        lost_at=by_hand.event_at,
        voluntary=ibis.null("int8"),
        undone_at=by_hand.undone_at,
        is_by_hand=True,
    )
    told = losses.mutate(undone_at=ibis.null(TIMESTAMP), is_by_hand=False).select(by_hand.columns)
    found = _refuted(told.union(by_hand), corrections.filter(corrections.kind != "churned"))
    first = found.mutate(refuted_at=ibis.least(found.denied_at, found.undone_at))
    again = found.filter(found.denied_at.notnull() & found.restored_at.notnull() & found.undone_at.isnull())
    again = again.mutate(known_at=ibis.greatest(again.known_at, again.restored_at), refuted_at=ibis.null(TIMESTAMP))
    columns = ["account_id", "decided_at", "known_at", "lost_at", "voluntary", "refuted_at"]
    return first.select(columns).union(again.select(columns))


def _refuted(losses: ir.Table, denials: ir.Table) -> ir.Table:
    """`losses` with `denied_at`, the first correction that denies each, and `restored_at`, when the last was undone."""
    said = denials.select("account_id", at="event_at", said_at="known_at", taken_back_at="undone_at")
    pairs = losses.select("account_id", "decided_at", "lost_at", "known_at", "is_by_hand").join(said, "account_id")
    reach = ibis.interval(days=AROUND_DAYS)
    near = [pairs[day].between(pairs.at - reach, pairs.at + reach) for day in ("decided_at", "lost_at")]
    means = ibis.ifelse(pairs.at.isnull(), pairs.decided_at <= pairs.said_at, near[0] | near[1].fill_null(False))
    # Of two corrections by hand the later one holds.
    pairs = pairs.filter(means & (~pairs.is_by_hand | (pairs.said_at >= pairs.known_at)))
    denied = pairs.group_by("account_id", "decided_at", "is_by_hand").agg(
        denied_at=pairs.said_at.min(),
        restored_at=ibis.ifelse(pairs.taken_back_at.isnull().any(), ibis.null(TIMESTAMP), pairs.taken_back_at.max()),
    )
    joined = losses.left_join(denied, ["account_id", "decided_at", "is_by_hand"])
    return joined.drop("account_id_right", "decided_at_right", "is_by_hand_right")


def closed_by_hand(rows: ir.Table, corrections: ir.Table) -> ir.Table:
    """`rows` with the phase `lost` where a correction, known then, says that the account had left.

    Parameters
    ----------
    rows : table of account_id, as_of, phase and `resumed_at`
        The latest sign of a customer known then; one after the loss says that the account came back.
    """
    churned = corrections.filter(corrections.kind == "churned")
    pairs = rows.select("account_id", "as_of", "resumed_at").join(churned, "account_id")
    in_force = (pairs.known_at <= pairs.as_of) & (pairs.undone_at.isnull() | (pairs.undone_at > pairs.as_of))
    has_left = (pairs.event_at < pairs.as_of) & (pairs.resumed_at.isnull() | (pairs.resumed_at <= pairs.event_at))
    left = pairs.filter(in_force & has_left).select("account_id", "as_of").distinct().mutate(has_left=True)
    joined = beside(rows, left)
    is_lost = joined.has_left.fill_null(False) & joined.phase.isin(["active", "notice"])
    return joined.mutate(phase=ibis.ifelse(is_lost, "lost", joined.phase)).drop("has_left")


def losses_text(days: Sequence[datetime]) -> str:
    """Losses as a reader wants them: their dates."""
    return "lost " + ", ".join(f"{day:%Y-%m-%d}" for day in sorted(days)) if days else "no loss"
