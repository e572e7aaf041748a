"""Raw rows without those who were erased, as SQL, so that nothing downstream ever sees them.

Rows of an erased account are left out. In rows of an erased person the account's figures stay: the id has another
name, comments keep only the words that features count, and of `contacts` the role and whatever the contract does not
read is blank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import ibis

from features.csv_files import quoted
from features.data_contract import CONTRACT
from features.erased import PSEUDONYM_LENGTH, Kind, Register
from features.errors import ConfigurationError
from features.mention_words import COMPETITOR_WORDS, PRICE_WORDS, whole_words
from features.schema import Table
from features.settings import TableSource
from features.system_ids import id_key

PERSON = {"contacts": "contact_id", "surveys": "contact_id", "touches": "contact_id", "usage": "user_id"}
"""Table and the column by which it names a person at the account."""
PERSONAL = {"contacts": ("role",), "surveys": ("comment",)}
"""Columns that say more of that person."""

_MARKS, _FOUND, _MARK = "memory.main.erased_marks", "memory.main.erased_found", "memory.main.erased_mark"
"""Named in full: a query of the company may run in another schema."""
_BLOCK = 64
"""Bytes of a block of SHA-256, for the HMAC."""


def open_register(backend: ibis.BaseBackend, register: Register) -> None:
    """Let the engine know who was erased: their marks, and how a mark is made of an id."""
    backend.raw_sql(f"create or replace table {_MARKS} (kind varchar, mark varchar)")
    backend.raw_sql(f"create or replace table {_FOUND} (kind varchar, id varchar)")
    marks: list[tuple[str, str]] = [(item.kind, item.mark) for item in register.erasures]
    marks += [(kind, mark) for item in register.erasures for kind, found in item.aliases.items() for mark in found]
    if not marks:
        return
    rows = ", ".join(f"({quoted(kind)}, {quoted(mark)})" for kind, mark in marks)
    backend.raw_sql(f"insert into {_MARKS} values {rows}")
    key = register.key.ljust(_BLOCK, b"\0")
    inner, outer = (_blob(bytes(byte ^ pad for byte in key)) for pad in (0x36, 0x5C))
    backend.raw_sql(
        f"create or replace macro {_MARK}(kind, id) as "
        f"sha256({outer} || unhex(sha256({inner} || encode(kind || ':' || id))))"
    )


def _blob(content: bytes) -> str:
    return "'" + "".join(f"\\x{byte:02X}" for byte in content) + "'::blob"


def rows_without_erased(backend: ibis.BaseBackend, table: str, source: TableSource, raw: str) -> str:
    """SQL of the relation `raw`, which holds raw rows of `table`, without those who were erased.

    Raises
    ------
    ConfigurationError
        A column that names a person is mapped by an expression, which cannot be given another value.
    """
    if table not in _CONTRACT or not _has_marks(backend):
        return raw
    columns = _columns(backend, raw)
    found = set(columns)
    account = account_kind(source)
    rows, replaced = raw, dict[str, str]()
    if sql := mapped(source, "account_id", found):
        of_account = _account_key(source, sql)
        _look(backend, account, of_account, raw)
        rows = f"(select * from {raw} where {of_account} is null or not {_is_erased(account, of_account)})"
    for kind, column in _named(table):
        sql = mapped(source, column, found)
        if sql is None:
            continue
        _look(backend, kind, f"({sql})::varchar", raw)
        is_erased = _is_erased(kind, f"({sql})::varchar")
        name = _plain(table, source, column, found)
        replaced[name] = f"case when {is_erased} then {_pseudonym(kind, name)} else {_quoted(name)}::varchar end"
        if kind == "contact":
            replaced |= _blanked(table, source, columns, is_erased)
    if not replaced:
        return rows
    changed = ", ".join(f"{sql} as {_quoted(name)}" for name, sql in replaced.items())
    return f"(select * replace ({changed}) from {rows})"


def erased_rows(backend: ibis.BaseBackend, table: str, source: TableSource, raw: str) -> dict[str, int]:
    """How many rows of `raw` are of an erased account, and how many name an erased person, once it was looked at."""
    if table not in _CONTRACT or not _has_marks(backend):
        return {}
    found = set(_columns(backend, raw))
    counts: dict[str, int] = {}
    asked: list[tuple[str, str, str]] = [
        (account_kind(source), "account_id", "account"),
        *((kind, column, kind) for kind, column in _named(table)),
    ]
    for kind, column, told in asked:
        if sql := mapped(source, column, found):
            key = _account_key(source, sql) if column == "account_id" else f"({sql})::varchar"
            query = f"select count(*) from {raw} where {_is_erased(kind, key)}"
            counts[told] = counts.get(told, 0) + int(backend.raw_sql(query).fetchall()[0][0])
    return counts


def account_kind(source: TableSource) -> str:
    """Whose ids the account ids of a source are: ours, or those of another system."""
    return "account" if source.ids is None else f"id of {source.ids}"


def mapped(source: TableSource, column: str, found: set[str]) -> str | None:
    """SQL over the raw columns `found` of a column of the contract, None where nothing gives it."""
    text = source.columns.get(column)
    if text is None:
        return _quoted(column) if column in found else None
    return _quoted(text) if text in found else f"({text})"


def _account_key(source: TableSource, sql: str) -> str:
    given = f"({sql})::varchar"
    return given if source.ids is None else id_key(given)


def _named(table: str) -> Iterator[tuple[Kind, str]]:
    """Columns beside account_id that name an account or a person, and stay."""
    if table == "accounts":
        yield "account", "parent_id"
    if table in PERSON:
        yield "contact", PERSON[table]


def _plain(table: str, source: TableSource, column: str, found: set[str]) -> str:
    """The raw column behind a column of the contract."""
    name = source.columns.get(column, column)
    if name not in found:
        raise ConfigurationError(
            f"[tables.{table}] columns must map {column} to a plain column once somebody was erased; found the "
            f"expression {name!r}. Name a column, or compute it in a query."
        )
    return name


def _blanked(table: str, source: TableSource, columns: Mapping[str, str], is_erased: str) -> dict[str, str]:
    """Raw column → SQL, of what else tells of a person."""
    found, replaced = set(columns), {}
    for column in PERSONAL.get(table, ()):
        if mapped(source, column, found) is None:
            continue
        name = _plain(table, source, column, found)
        kept = _counted_words(name) if column == "comment" else "null"
        replaced[name] = f"case when {is_erased} then {kept} else {_quoted(name)} end"
    if table == "contacts":
        for name in sorted(found - _read(table, source, found) - set(replaced)):
            if not name.startswith("tenure_"):
                replaced[name] = f"case when {is_erased} then null else {_quoted(name)} end"
    return replaced


def _read(table: str, source: TableSource, found: set[str]) -> set[str]:
    """Raw columns that the contract's columns are made of."""
    own = {column.name for column in _CONTRACT[table].columns} - set(source.columns)
    told = (*source.columns.values(), source.loaded_at or "")
    return {name for name in found if name in own or name in DBT or any(name in text for text in told)}


DBT = ("dbt_valid_from", "dbt_valid_to")


def _counted_words(name: str) -> str:
    """SQL of the words of a comment that features count, and nothing else of it."""
    words = [
        f"nullif(regexp_extract(lower({_quoted(name)}), {quoted(whole_words(chosen))}, 2), '')"
        for chosen in (COMPETITOR_WORDS, PRICE_WORDS)
    ]
    return f"nullif(concat_ws('; ', {', '.join(words)}), '')"


def _look(backend: ibis.BaseBackend, kind: str, sql: str, raw: str) -> None:
    """Find the ids of `raw` that were erased: each distinct one is hashed once."""
    backend.raw_sql(
        f"insert into {_FOUND} select {quoted(kind)}, id from (select distinct {sql} as id from {raw}) "
        f"where {_MARK}({quoted(kind)}, id) in (select mark from {_MARKS} where kind = {quoted(kind)})"
    )


def _is_erased(kind: str, sql: str) -> str:
    return f"coalesce({sql} in (select id from {_FOUND} where kind = {quoted(kind)}), false)"


def _pseudonym(kind: Kind, name: str) -> str:
    return f"'erased-' || left({_MARK}({quoted(kind)}, {_quoted(name)}::varchar), {PSEUDONYM_LENGTH})"


def _has_marks(backend: ibis.BaseBackend) -> bool:
    return bool(backend.raw_sql(f"select 1 from {_MARKS} limit 1").fetchall())


def _columns(backend: ibis.BaseBackend, raw: str) -> dict[str, str]:
    return {row[0]: row[1] for row in backend.raw_sql(f"describe select * from {raw}").fetchall()}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_CONTRACT: Mapping[str, Table] = {table.name: table for table in CONTRACT}
