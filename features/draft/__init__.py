"""`tenure init`: a first `tenure.toml` from the files of a folder, with comments where a person should look twice."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from features.data_contract import CONTRACT
from features.data_contract import table as contract_table
from features.draft.guess import Guess, account_column, guess_tables, is_leaving
from features.draft.leaving import add_contracts, add_purchases
from features.draft.look import FEW, Column, File, look
from features.errors import CannotWrite, Misuse, TenureError
from features.maturity import maturity
from features.settings import LabelSettings, read_settings
from features.settings_file import CONFIG_NAME
from features.snapshots import data_span
from features.tables import Tables, open_tables

SILENCE_DAYS = 90
WINDOWS = ((90, 30, 30), (60, 30, 30), (60, 14, 14), (60, 0, 0), (30, 0, 0))
"""Horizon, grace and lead days that are tried, the usual ones first."""
ENOUGH_FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class Drafted:
    """What was written, and what a person should know of it."""

    path: Path
    tables: dict[str, str]
    """Table → the file that it is read from."""
    left_out: list[str]
    """Files that nothing reads."""
    unsure: list[str]
    problem: str | None
    """Why the tables could not be read by the draft, in one sentence."""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"config": str(self.path), "tables": self.tables, "left_out": self.left_out, "unsure": self.unsure,
                "problem": self.problem}  # fmt: skip

    def text(self) -> str:
        """For a person."""
        lines = [f"{self.path} is written; read its comments, then run `tenure check`."]
        lines += [f"  {table} from {file}" for table, file in self.tables.items()]
        lines += [f"  not read: {file}" for file in self.left_out]
        lines += [f"  unsure: {item}" for item in self.unsure]
        return "\n".join([*lines, *([f"  problem: {self.problem}"] if self.problem else [])])


def draft(folder: Path, *, now: datetime, force: bool = False) -> Drafted:
    """Look at the files of `folder` and write its `tenure.toml`.

    Raises
    ------
    Misuse
        The folder is not there, or already has one, without `force`.
    DataError
        It holds no files that can be read as tables.
    """
    path = folder / CONFIG_NAME
    if not folder.is_dir():
        raise Misuse(f"DIR must be a folder with the files of your tables; found none at {folder}. Name another.")
    if path.exists() and not force:
        raise Misuse(f"{path} must not be there yet; found one. Move it away, or pass --force to replace it.")
    files = look(folder)
    guesses = guess_tables(files)
    is_silent = add_purchases(guesses, files)
    add_contracts(guesses, files)
    label = ['kind = "silence"', f"silence_days = {SILENCE_DAYS}"] if is_silent else []
    text = _document(guesses, files, label)
    problem = None
    if not is_silent:
        problem, label = _tried(folder, text, now)
        text = _document(guesses, files, label)
    _write(path, text)
    unsure = [f"{guess.table}: {item}" for guess in guesses.values() for item in guess.unsure]
    read = {name: guesses[name].file.place["path"] for name in guesses}
    left = [file.place["path"] for file in files if file.place["path"] not in text]
    return Drafted(path=path, tables=read, left_out=left, unsure=unsure, problem=problem)


def _tried(folder: Path, text: str, now: datetime) -> tuple[str | None, list[str]]:
    """Read the tables by the draft: what stands in the way, and the windows of the label that the data allow."""
    usual = LabelSettings()
    with tempfile.TemporaryDirectory() as state:
        trial = folder / f".{CONFIG_NAME}.{os.getpid()}"
        try:
            _write(trial, f"{text}\n[state]\ndir = {json.dumps(state)}\n")
            settings = read_settings(trial, {})
            tables = open_tables(settings, now=now)
            found = _windows(tables, now, settings.train.min_lost)
            problem = None if found else "no windows from 90 to 30 days leave enough lost accounts to learn from"
        except TenureError as error:
            found, problem = [], str(error).replace(trial.name, CONFIG_NAME)
        finally:
            trial.unlink(missing_ok=True)
    label = found[0] if found else usual
    return problem, [f"{name} = {getattr(label, name)}" for name in ("horizon_days", "grace_days", "lead_days")]


def _windows(tables: Tables, now: datetime, min_lost: int) -> list[LabelSettings]:
    """The usual windows where they leave enough instants to judge a model at, else the largest that do, else any."""
    span = data_span(tables, now)
    most, best = 0, []
    for horizon, grace, lead in WINDOWS:
        label = LabelSettings(horizon_days=horizon, grace_days=grace, lead_days=lead)
        folds = len(maturity(tables, span, label, min_lost=min_lost).folds())
        if folds > most:
            most, best = folds, [label]
        if folds >= ENOUGH_FOLDS:
            break
    return best


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CannotWrite(f"{path} must be a file that can be written; {error.strerror}. Name another DIR.") from error


def _document(guesses: dict[str, Guess], files: Sequence[File], label: Sequence[str]) -> str:
    """The whole file."""
    blocks = [
        "# Drafted by `tenure init` from the names and values of the files beside it. Lines with `unsure` are\n"
        "# guesses; `not mapped` names columns that no line reads. Change what is wrong, then run `tenure check`."
    ]
    sources = _sources(guesses, files)
    blocks += [_source_block(file) for file in sources]
    blocks += [_table_block(guesses[table.name], files) for table in CONTRACT if table.name in guesses]
    read = [*sources, *(guess.file for guess in guesses.values())]
    for file in files:
        if file not in read:
            columns = ", ".join(column.name for column in file.columns)
            blocks.append(f"# not read: {_shown(file)} with columns {columns}")
    if "contracts" not in guesses and not any("silence" in line for line in label):
        said = "accounts" in guesses and "churned_at" in guesses["accounts"].columns
        if not said:
            blocks.append("# No file says who left: map [tables.contracts], or churned_at of [tables.accounts].")
    lines = ["[label]", *label]
    if any("silence" in line for line in label):
        lines.insert(1, "# No file tells of contracts: an account is lost when it falls silent.")
    return "\n\n".join([*blocks, "\n".join(lines)]) + "\n"


def _sources(guesses: dict[str, Guess], files: Sequence[File]) -> list[File]:
    """Files that queries read by their own name."""
    queries = " ".join(guess.query or "" for guess in guesses.values())
    asked = [guess.file for guess in guesses.values() if guess.through or f'"{guess.file.name}"' in queries]
    asked += [guess.through[1] for guess in guesses.values() if guess.through]
    asked += [file for file in files if is_leaving(file) and f'"{file.name}"' in queries]
    return [file for file in files if any(file is item for item in asked)]


def _source_block(file: File) -> str:
    return "\n".join([f"[sources.{file.name}]  # {_shown(file)}", *_place(file)])


def _place(file: File) -> list[str]:
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in file.place.items()]


def _table_block(guess: Guess, files: Sequence[File]) -> str:
    lines = [f"[tables.{guess.table}]  # {_shown(guess.file)}"]
    lines += [f"# unsure: {item}" for item in guess.unsure]
    if guess.query is not None:
        lines += ['query = """', guess.query, '"""']
    elif guess.through is not None:
        lines += _joined(*guess.through, guess.file)
    else:
        lines += _place(guess.file)
    if guess.period is not None:
        lines.append(f'period = "{guess.period}"')
    lines += _columns(guess)
    for name, meant in guess.values.items():
        meant = dict(sorted(meant.items(), key=lambda item: (item[1], item[0])))
        lines.append(f"[tables.{guess.table}.values.{name}]")
        lines += [f"{json.dumps(said, ensure_ascii=False)} = {to}" for said, to in meant.items()]
    lines += _unmapped(guess)
    return "\n".join(lines)


def _joined(key: str, through: File, file: File) -> list[str]:
    account = account_column(through)
    name = "" if account is None else account.name
    return [
        'query = """',
        f'select "{through.name}"."{name}", "{file.name}".*',
        f'from "{file.name}" join "{through.name}" using ("{key}")',
        '"""',
    ]


def _columns(guess: Guess) -> list[str]:
    columns = {name: given for name, given in guess.columns.items() if given != name}
    if guess.through is not None:
        account = account_column(guess.through[1])
        columns |= {"account_id": account.name} if account is not None and account.name != "account_id" else {}
    if not columns:
        return []
    lines = [f"[tables.{guess.table}.columns]"]
    return lines + [f"{name} = {json.dumps(given, ensure_ascii=False)}" for name, given in columns.items()]


def _unmapped(guess: Guess) -> list[str]:
    """Comments on the columns of the file that no line reads, and on those of the contract that the file lacks."""
    if guess.query is not None:
        return [f"# not mapped: {_described(column)}" for column in guess.spare]
    spare = [column for column in guess.file.columns if column.name not in guess.used]
    given = set(guess.columns) | {"account_id"}
    lost = [column.name for column in contract_table(guess.table).columns if column.name not in given]
    return [*(f"# not mapped: {_described(column)}" for column in spare), f"# not found: {', '.join(lost)}"]


def _described(column: Column) -> str:
    """A column for the eye: its range, or all of its values where they are few; a single value may be a person's."""
    if column.is_time or column.is_number:
        return f"{column.name}, {column.low} to {column.high}"
    if len(column.values) == FEW:
        return f"{column.name}, {column.distinct:,} different values"
    return f"{column.name}, one of {', '.join(_plain(value) for value in column.values) or 'no values'}"


def _plain(value: str) -> str:
    """A value that cannot end the comment that it stands in."""
    return "".join(letter if letter.isprintable() else " " for letter in value)[:40]


def _shown(file: File) -> str:
    table = f", table {file.place['table']}" if "table" in file.place else ""
    return f"{file.place['path']}{table}, {file.rows:,} rows"
