"""Which file is which table of the data contract, and which of its columns is which, by names and by values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from features.data_contract import CONTRACT
from features.draft.look import Column, File
from features.draft.synonyms import (
    ACCOUNT_IDS,
    COLUMNS,
    DURATIONS,
    ENDS,
    LEAVING,
    PRICES,
    QUANTITIES,
    SEVERITY,
    TABLES,
    UNITS,
)
from features.schema import LARGEST, Table
from features.schema import Column as ContractColumn

ENOUGH = 3.0
"""What must speak for a table: its name in the file's, or six of its columns."""


@dataclass(kw_only=True)
class Guess:
    """One table of the contract, as far as a file gives it."""

    table: str
    file: File
    columns: dict[str, str] = field(default_factory=dict)
    """Contract column → column of the file, or SQL over them."""
    values: dict[str, dict[str, int]] = field(default_factory=dict)
    period: str | None = None
    through: tuple[str, File] | None = None
    """The key, and the file in which it leads to the account, where this one does not name it."""
    query: str | None = None
    unsure: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """Columns of the file that the mapping reads."""

    @property
    def spare(self) -> list[Column]:
        """Columns of the file that neither the query nor another table reads."""
        read = self.query or ""
        return [item for item in self.file.columns if item.name not in self.used and f'"{item.name}"' not in read]


def guess_tables(files: Sequence[File]) -> dict[str, Guess]:
    """The best file of each table; a file serves one table."""
    candidates = [
        (score, position, table, file)
        for position, file in enumerate(files)
        for table in CONTRACT
        if (score := _score(table, file, files)) >= ENOUGH and not is_leaving(file) and not is_purchases(file)
    ]
    guesses: dict[str, Guess] = {}
    for _, _, table, file in sorted(candidates, key=lambda item: (-item[0], item[1])):
        if table.name not in guesses and all(file is not other.file for other in guesses.values()):
            guesses[table.name] = guess_columns(table, file, files)
    return guesses


def is_leaving(file: File) -> bool:
    """Whether the file lists who left and when."""
    return bool(_tokens(file) & set(LEAVING)) and account_column(file) is not None and left_column(file) is not None


def is_purchases(file: File) -> bool:
    """Whether the file lists the lines of purchases: who, when, how many, at which price."""
    words = set(file.by_words)
    has_lines = bool(words & set(PRICES)) and bool(words & set(QUANTITIES))
    return has_lines and account_column(file) is not None and any(column.is_time for column in file.columns)


def account_column(file: File) -> Column | None:
    """The column that names the account."""
    return next((file.by_words[name] for name in ACCOUNT_IDS if name in file.by_words), None)


def left_column(file: File) -> Column | None:
    """The column that says when an account left."""
    names = (*COLUMNS["contracts"]["ended_at"], *COLUMNS["contracts"]["cancelled_at"], "date", *ENDS)
    return next((file.by_words[name] for name in names if name in file.by_words and file.by_words[name].is_time), None)


def guess_columns(table: Table, file: File, files: Sequence[File]) -> Guess:
    """Every column of `table` that the file gives by a name that companies use and by values that fit."""
    guess = Guess(table=table.name, file=file)
    account = account_column(file)
    if account is not None:
        take(guess, "account_id", account)
    else:
        guess.through = way_to_account(file, files)
    for column in table.columns:
        found = matching(table, column, file, guess.used)
        if found is not None and column.name not in guess.columns:
            take(guess, column.name, found)
    for place in (_durations, _severity, _segment, _survey_kind, _end, _period):
        place(guess)
    return guess


def take(guess: Guess, name: str, column: Column) -> None:
    """Map `name` to a column of the file."""
    guess.used.add(column.name)
    is_decimal_id = column.stored in ("DOUBLE", "FLOAT") and column.is_whole and name.endswith("_id")
    # An id that passed through a table with gaps became 17850.0.
    guess.columns[name] = f'"{column.name}"::bigint' if is_decimal_id else column.name


def way_to_account(file: File, files: Sequence[File]) -> tuple[str, File] | None:
    """A column that is the key of another file which names the account."""
    for other in files:
        shared = [column.name for column in file.columns if column.name in {item.name for item in other.columns}]
        for name in shared:
            if other is not file and name.lower().endswith("id") and account_column(other) and other.is_key(name):
                return name, other
    return None


def matching(table: Table, column: ContractColumn, file: File, used: Iterable[str]) -> Column | None:
    """The file's column with the surest name whose values fit."""
    plain = singular(table.name)
    for name in (column.name, *COLUMNS.get(table.name, {}).get(column.name, ())):
        for words in (name, f"{plain}_{name}"):
            found = file.by_words.get(words)
            if found is not None and found.name not in used and _fits(column, found):
                return found
    return None


def _fits(column: ContractColumn, found: Column) -> bool:
    if not found.filled:
        return False
    if column.name == "severity":
        return set(_lowered(found)) <= set(SEVERITY) or _in_range(column, found)
    if column.allowed:
        return set(_lowered(found)) <= set(column.allowed)
    if not found.could_be(column.kind):
        return False
    return column.kind != "number" or _in_range(column, found)


def _in_range(column: ContractColumn, found: Column) -> bool:
    low = -LARGEST if column.low is None else column.low
    high = LARGEST if column.high is None else column.high
    return found.is_number and low <= float(found.low or 0) and float(found.high or 0) <= high


def _lowered(column: Column) -> list[str]:
    return [value.strip().lower() for value in column.values]


def _score(table: Table, file: File, files: Sequence[File]) -> float:
    """How much speaks for it; nothing where a required column is missing."""
    tokens = _tokens(file)
    named = any(set(word.split("_")) <= tokens for word in TABLES.get(table.name, ()))
    matched = {column.name for column in table.columns if matching(table, column, file, ())}
    needed = {column.name for column in table.columns if column.required} - {"account_id"}
    account = account_column(file)
    reached = account is not None or way_to_account(file, files) is not None
    if table.name == "surveys":
        needed -= {"kind"}
    if table.name == "usage":
        matched -= {"kind"}
    groups = [set(group) for group in table.any_of if table.name != "usage"]
    if not reached or not needed <= matched or any(not group & matched for group in groups):
        return 0.0
    if table.name == "accounts" and (account is None or not file.is_key(account.name)):
        return 0.0
    return (3.0 if named else 0.0) + 0.5 * len(matched)


def singular(word: str) -> str:
    """`tickets` as `ticket`, `identities` as `identity`."""
    return re.sub(r"ies$", "y", word) if word.endswith("ies") else word.removesuffix("s")


def _tokens(file: File) -> set[str]:
    words = file.name.split("_")
    return {singular(word) for word in words} | set(words)


def _durations(guess: Guess) -> None:
    """A time that is told as so many hours after the ticket was opened; minutes told in another unit."""
    for name, pattern in DURATIONS.get(guess.table, {}).items():
        for column in guess.file.columns:
            unit = _unit(column.words)
            if name in guess.columns or unit is None or not column.is_number or not re.search(pattern, column.words):
                continue
            guess.used.add(column.name)
            if name == "minutes":
                guess.columns[name] = f'"{column.name}"::double{_TO_MINUTES[unit]}'
            elif "opened_at" in guess.columns:
                opened = guess.columns["opened_at"]
                guess.columns[name] = f'"{opened}"::timestamp + to_{unit}("{column.name}"::bigint)'


_TO_MINUTES = {"seconds": " / 60", "minutes": "", "hours": " * 60", "days": " * 1440"}


def _unit(words: str) -> str | None:
    last = words.split("_")[-1]
    return next((unit for unit, names in UNITS.items() if last in names), None)


def _severity(guess: Guess) -> None:
    found = guess.columns.get("severity")
    column = next((item for item in guess.file.columns if item.name == found), None)
    if column is not None and not column.is_number:
        guess.values["severity"] = {value: SEVERITY[value.strip().lower()] for value in column.values}


def _segment(guess: Guess) -> None:
    if guess.table == "accounts" and "segment" not in guess.columns and "plan" in guess.columns:
        guess.columns["segment"] = guess.columns["plan"]
        guess.unsure.append("segment: no column is called so, and the plan stands in for it")


def _survey_kind(guess: Guess) -> None:
    if guess.table != "surveys" or "kind" in guess.columns:
        return
    told = {*guess.columns.get("score", "").lower().split("_"), *_tokens(guess.file)}
    kind = next((kind for kind in ("nps", "csat", "ces") if kind in told), None)
    if kind is None:
        guess.unsure.append("kind: nothing says whether this is nps, csat or ces; nps is assumed")
    guess.columns["kind"] = f"'{kind or 'nps'}'"
    if kind in ("csat", "ces"):
        guess.columns |= {"scale_min": "1", "scale_max": "5"}
        guess.unsure.append("scale_min, scale_max: 1 to 5 is assumed")


def _end(guess: Guess) -> None:
    """An end that every row has was planned; one that rows lack is real. The two are never put into one column."""
    if guess.table != "contracts" or {"term_end_at", "ended_at"} <= set(guess.columns):
        return
    end = next((guess.file.by_words[name] for name in ENDS if name in guess.file.by_words), None)
    if end is None or not end.is_time or end.name in guess.used:
        return
    is_planned = end.filled == guess.file.rows or "ended_at" in guess.columns
    name = "term_end_at" if is_planned else "ended_at"
    if name in guess.columns:
        return
    take(guess, name, end)
    why = "every row has one, so it was planned" if is_planned else "open rows lack it, so it is the real end"
    guess.unsure.append(f"{name} = {end.name}: {why}. If not, call it {'ended_at' if is_planned else 'term_end_at'}")


def _period(guess: Guess) -> None:
    """Rows of usage that sum up a day or a month: dates alone, and one row per account, date and feature."""
    if guess.table != "usage":
        return
    at = next((column for column in guess.file.columns if column.name == guess.columns.get("event_at")), None)
    key = [guess.columns.get(name, "") for name in ("account_id", "event_at", "feature_id", "user_id")]
    if at is None or not at.is_midnight or not all(re.fullmatch(r"[^\"]*", name) for name in key):
        return
    if guess.through is None and guess.file.is_key(*(name for name in key if name)):
        guess.period = "month" if at.is_month else "day"
        guess.columns = {"period_start" if name == "event_at" else name: to for name, to in guess.columns.items()}
        guess.unsure.append(f"period: one row per account and date, so each sums up a {guess.period}")
