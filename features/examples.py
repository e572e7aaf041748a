"""Worked examples of features: small accounts written beside the feature, each with the value found by hand.

An example gives the rows of its tables as text: a header, then rows parted by `;`, values by blanks. A time is a
number of days from `as_of`, which is 2025-03-01: `-1` is the midnight that begins 28 February, `-1@12:30` its half
past twelve, `0` the instant itself. `.` is an empty value and `~` a blank within one. Rows belong to the account of
the example, unless a column `account_id` names another (`me` is the example's own).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from features.data_contract import table

AS_OF = datetime(2025, 3, 1)
CONTRACT_ROWS = "contract_id start_at mrr; c -730 100"
"""What an example's account has bought where it does not say."""


@dataclass(frozen=True)
class Example:
    """One account at `AS_OF` and the feature's value for it."""

    value: float | None
    """Worked out by hand; None where it is missing."""
    tables: Mapping[str, str]
    why: str = ""

    def rows(self, account: str) -> dict[str, list[dict[str, str]]]:
        """Table → rows as column → text, for the account called `account`."""
        written = {"contracts": CONTRACT_ROWS, **self.tables}
        rows = {name: list(_rows(name, text, account)) for name, text in written.items()}
        members = dict.fromkeys(row["account_id"] for named in rows.values() for row in named)
        described = {row["account_id"]: row for row in rows.get("accounts", [])}
        rows["accounts"] = [described.get(member, {"account_id": member}) for member in {account: None, **members}]
        return rows


def example(value: float | None, why: str = "", /, **tables: str) -> Example:
    """An account with the rows of `tables`, for which the feature is `value`."""
    return Example(value, tables, why)


def _rows(name: str, text: str, account: str) -> Iterable[dict[str, str]]:
    if not text.strip():
        return
    header, *lines = (line.split() for line in text.strip().rstrip(";").split(";"))
    for line in lines:
        if len(line) != len(header):
            raise ValueError(f"Row {line} of the example's {name} must have the {len(header)} values of {header}.")
        row = {column: _value(name, column, value) for column, value in zip(header, line, strict=True)}
        member = row.get("account_id", "me")
        # Where an id must be unique beyond its account, each example has its own.
        own = {key: f"{account}.{row[key]}" for key in row if key == "ticket_id"}
        yield {**row, **own, "account_id": account if member == "me" else f"{account}.{member}"}


def _value(name: str, column: str, value: str) -> str:
    if value == ".":
        return ""
    if table(name).column(column).kind != "time":
        return value.replace("~", " ")
    days, _, clock = value.partition("@")
    return f"{AS_OF + timedelta(days=int(days)):%Y-%m-%d} {clock or '00:00'}"
