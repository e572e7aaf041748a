"""A company with as many usage events as asked for: one Parquet file a month, written by the engine's own generator."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb

START = date(2024, 1, 1)
MONTHS = 24
SESSION = 8
"""Events of one user in a row."""

_CONFIG = """[tables.accounts]
path = "accounts.parquet"
[tables.contracts]
path = "contracts.parquet"
[tables.entitlements]
path = "entitlements.parquet"
[tables.usage]
path = "usage/*.parquet"
"""


def write_company(folder: Path, *, events: int, accounts: int, months: int = MONTHS) -> Path:
    """Write the tables and return the path of `tenure.toml`; what is there already is left as it is.

    A tenth of the accounts brings half of the events; an account has up to 25 users and uses 25 product features.
    Events come in sessions: eight of one user within minutes, of up to three product features. One session in fifty
    reached the warehouse two days late.
    """
    config = folder / "tenure.toml"
    if config.exists():
        return config
    (folder / "usage").mkdir(parents=True, exist_ok=True)
    engine = duckdb.connect()
    engine.execute("set memory_limit = '3GB'")
    ids = f"select 'a' || lpad(i::varchar, 6, '0') as account_id from range({accounts}) t(i)"
    engine.execute(f"copy ({ids}) to '{folder}/accounts.parquet'")
    terms = "timestamp '2023-06-01' as start_at, 100.0 as mrr, 10 + hash(account_id) % 20 as seats"
    engine.execute(f"copy (select account_id, {terms} from ({ids})) to '{folder}/contracts.parquet'")
    bought = "select account_id, 'f' || f as feature_id, 'm' || f // 5 as module_id"
    engine.execute(f"copy ({bought} from ({ids}), range(0, 25) t(f)) to '{folder}/entitlements.parquet'")
    for month in range(months):
        _write_month(engine, folder, month, events=events // MONTHS, accounts=accounts)
    config.write_text(_CONFIG)
    return config


def _write_month(engine: duckdb.DuckDBPyConnection, folder: Path, month: int, *, events: int, accounts: int) -> None:
    first = date(START.year + month // 12, month % 12 + 1, 1)
    start, offset = f"timestamp '{first}'", month * events
    number = f"(case when h % 2 = 0 then h // 2 % ({accounts} // 10 + 1) else h // 2 % {accounts} end)"
    engine.execute(f"""
        copy (
            select 'a' || lpad({number}::varchar, 6, '0') as account_id,
                'u' || {number} || '-' || (hash(session * 7 + 1) % 25) as user_id,
                'f' || (hash(session * 3 + i % 3) % 25) as feature_id,
                ['login', 'action', 'action', 'action', 'help_view', 'export', 'job_failed', 'integration']
                    [1 + (hash(i * 11) % 8)::int] as kind,
                hash(i * 13) % 3 <> 0 as is_core,
                hash(i * 17) % 50 = 0 as is_error,
                t as event_at,
                (1 + hash(i * 5) % 3)::double as quantity,
                ((hash(i * 19) % 300) / 10)::double as minutes,
                case when hash(session * 23) % 50 = 0 then t + interval 2 day else t end as known_at
            from (
                select i, i // {SESSION} as session, hash(i // {SESSION}) as h, {start} + to_microseconds(
                    (i - {offset}) * (date_diff('microsecond', {start}, {start} + interval 1 month) // {events})
                ) as t
                from range({offset}, {offset + events}) n(i)
            )
        ) to '{folder}/usage/{first:%Y-%m}.parquet' (format parquet)""")
