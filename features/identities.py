"""Ids of other systems: a help desk or a CRM names an account its own way, and not always the same way.

Table `identities` says which account an id meant from when to when, so that a row goes to the account that the id
meant when the row happened, whatever was merged or split later.
"""

from __future__ import annotations

import difflib

import ibis

from features.csv_files import quoted
from features.errors import ConfigurationError
from features.quarantine import BrokenRule
from features.schema import Table
from features.settings import TableSource
from features.sources import CLEAN
from features.system_ids import id_key

_ALWAYS, _NEVER = "timestamp '0001-01-01'", "timestamp '9999-12-31 23:59:59'"


def translated(backend: ibis.BaseBackend, table: Table, source: TableSource, staged: str, event: str) -> str:
    """`staged` with our account_id in the place of the source's, null where the id meant nobody at `event`."""
    if source.ids is None:
        return staged
    _require_source(backend, table, source.ids)
    turns = f"identity_{table.name}"
    backend.raw_sql(f"create or replace table {turns} as {_turns(source.ids)}")
    happened = f"coalesce({event}, {_NEVER})"
    return (
        f"select given.* replace (turn_account_id as account_id) from ({staged}) as given asof left join {turns} "
        f"on {id_key('given.account_id')} = turn_key and {happened} >= turn_at"
    )


def unmatched(source: TableSource) -> list[BrokenRule]:
    """The rule that sets aside what `translated` could not place."""
    if source.ids is None:
        return []
    reason = f"{quoted(f'no account has the id of {source.ids} at that time, found ')} || raw_account_id"
    broken = "account_id is null and raw_account_id is not null"
    return [BrokenRule(name="unknown_account", broken=broken, reason=reason)]


def _turns(name: str) -> str:
    """SQL of the moments at which an id begins to mean another account, or none; the later begun meaning wins."""
    return f"""
        with ids as (
            select {id_key("source_id")} as turn_key, account_id,
                coalesce(valid_from_at, {_ALWAYS}) as begun_at, coalesce(valid_to_at, {_NEVER}) as over_at
            from {CLEAN}.identities where source = {quoted(name)}
        ), turns as (
            select turn_key, begun_at as turn_at from ids union select turn_key, over_at from ids
            where over_at < {_NEVER}
        )
        select turn_key, turn_at, arg_max(account_id, row(begun_at, account_id)) as turn_account_id
        from turns left join ids using (turn_key)
        where begun_at <= turn_at and turn_at < over_at
        group by turn_key, turn_at
        union all
        select turn_key, turn_at, null from turns anti join ids
        on ids.turn_key = turns.turn_key and begun_at <= turn_at and turn_at < over_at"""


def _require_source(backend: ibis.BaseBackend, table: Table, name: str) -> None:
    if table.name in ("accounts", "identities"):
        raise ConfigurationError(
            f"[tables.{table.name}] ids must not be set: its account_id is the one that others are translated to."
        )
    rows = backend.raw_sql(f"select distinct source from {CLEAN}.identities order by source").fetchall()
    found = [row[0] for row in rows]
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else "Map [tables.identities], or correct the name."
        raise ConfigurationError(
            f"[tables.{table.name}] ids must name a source of table 'identities', one of {found}; "
            f"found '{name}'. {hint}"
        )
