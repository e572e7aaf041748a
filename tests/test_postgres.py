"""A table of a PostgreSQL server is read as a file of the same rows would be, and only what is new is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import tenure
from features.copies import copied_files
from features.errors import ConfigurationError, DataError, DependencyDown, MissingColumns
from features.postgres import copy_table
from features.settings import TableSource

ACCOUNTS = "account_id,started_at\n001,2024-01-01\nNA,2024-01-01\na1,2024-01-01"
CONTRACTS = "account_id,start_at,mrr\n001,2024-01-01,10\nNA,2024-01-01,10\na1,2024-01-01,10"


@pytest.fixture
def copy(postgres, tmp_path):
    """Copy a table and say how many rows were fetched."""

    def copy(table="events", **given):
        return copy_table("usage", TableSource(url=postgres.url, table=table, **given), tmp_path)

    return copy


def rows_of(state, name="usage"):
    """Every row of the latest copy."""
    return [row for file in copied_files(name, state) for row in pq.read_table(file).to_pylist()]


def test_every_type_arrives_with_its_value(postgres, copy, tmp_path):
    postgres.execute(
        "create type mood as enum ('glad'); create table events (id varchar, small int2, big int8, price numeric(10,2),"
        "free numeric, real8 float8, yes bool, day date, at timestamp, zoned timestamptz, who uuid, tags text[],"
        "doc jsonb, feels mood, code char(5), raw bytea);"
        "insert into events values ('007', -3, 9007199254740993, 12.30, 1.5, 0.1, true, '2025-02-28', "
        "'2025-03-01 12:30:00.123456', '2025-03-01 12:30+02', '11111111-2222-3333-4444-555555555555', "
        """'{a,"b,c"}', '{"k": 1}', 'glad', 'AB', '\\x00ff')"""
    )
    copy()

    assert rows_of(tmp_path) == [
        {
            "id": "007", "small": -3, "big": 9007199254740993, "price": Decimal("12.30"), "free": 1.5, "real8": 0.1,
            "yes": True, "day": date(2025, 2, 28), "at": datetime(2025, 3, 1, 12, 30, 0, 123456),
            "zoned": datetime(2025, 3, 1, 10, 30, tzinfo=UTC), "who": "11111111-2222-3333-4444-555555555555",
            "tags": '{a,"b,c"}', "doc": '{"k": 1}', "feels": "glad", "code": "AB", "raw": "\\x00ff",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value", ["001", "NA", "None", "null", "", " a ", 'x"y', "a\nb", "a\r\nb", ",", "\\N", "é 你", "1e5", "t", "#"]
)
def test_text_is_the_same_byte_for_byte(postgres, copy, tmp_path, value):
    postgres.execute("create table events (id text, other text)")
    with_quotes = value.replace("'", "''")
    postgres.execute(f"insert into events values ('{with_quotes}', null)")
    copy()

    assert rows_of(tmp_path) == [{"id": value, "other": None}]


def test_a_column_of_nothing_but_nulls_keeps_its_rows(postgres, copy, tmp_path):
    postgres.execute("create table events (id text); insert into events values (null), (null), ('')")
    copy()

    assert rows_of(tmp_path) == [{"id": None}, {"id": None}, {"id": ""}]


def test_a_time_without_end_is_no_time(postgres, copy, tmp_path):
    postgres.execute("create table events (a date, b timestamp, c timestamptz)")
    postgres.execute("insert into events values ('infinity', '-infinity', 'infinity')")
    copy()

    assert rows_of(tmp_path) == [{"a": None, "b": None, "c": None}]


def test_ids_join_what_a_file_says_of_them(postgres, make_company):
    postgres.execute("create table tickets (ticket_id text, account_id text, opened_at timestamptz)")
    postgres.execute("insert into tickets values ('1','001','2025-01-01 00:30+01'), ('2','NA','2025-01-01 00:30+01')")
    company = make_company({"accounts": ACCOUNTS, "contracts": CONTRACTS})
    company.map("tickets", f'url = "{postgres.url}"\ntable = "public.tickets"')
    tables = company.open()

    found = tables["tickets"].order_by("ticket_id").to_pyarrow().to_pylist()
    assert [row["account_id"] for row in found] == ["001", "NA"]
    assert found[0]["opened_at"] == datetime(2024, 12, 31, 23, 30)
    assert tables.loaded["tickets"].source == "public.tickets"
    assert tables.quarantine.num_rows == 0


def test_the_server_runs_a_query_of_its_own(postgres, make_company):
    postgres.execute("create table t (k text, a text, at date); insert into t values ('1', '001', '2025-01-01')")
    company = make_company({"accounts": ACCOUNTS, "contracts": CONTRACTS})
    company.map(
        "tickets", f'url = "{postgres.url}"\nquery = "select k as ticket_id, a as account_id, at as opened_at from t;"'
    )

    assert company.open()["tickets"].count().to_pyarrow().as_py() == 1


def test_a_query_over_files_reads_a_source_of_the_server(postgres, make_company):
    postgres.execute("create table crm (account_id text, left_on date); insert into crm values ('001', '2025-01-01')")
    company = make_company({"accounts": ACCOUNTS})
    company.map(
        "contracts",
        'query = "select account_id, started_at as start_at, left_on as ended_at, 1 as mrr '
        'from accounts left join crm using (account_id)"',
    )
    company.extra = f'[sources.crm]\nurl = "{postgres.url}"\ntable = "crm"'

    assert company.open()["contracts"].ended_at.count().to_pyarrow().as_py() == 1


def test_a_whole_table_is_copied_each_time_and_the_copy_before_stays_for_its_readers(postgres, copy, tmp_path):
    postgres.execute("create table events (id text); insert into events values ('a')")
    assert copy() == 1
    before = copied_files("usage", tmp_path)
    postgres.execute("insert into events values ('b')")

    assert copy() == 2
    assert [row["id"] for row in rows_of(tmp_path)] == ["a", "b"]
    assert all(file.is_file() for file in before)
    copy()
    assert not any(file.is_file() for file in before)


def test_an_empty_table_has_columns_and_no_rows(postgres, copy, tmp_path):
    postgres.execute("create table events (id text, at timestamptz)")

    assert copy() == copy(incremental="at") == 0
    (file,) = copied_files("usage", tmp_path)
    assert pq.read_schema(file).names == ["id", "at"]


@pytest.fixture
def events(postgres):
    """Events of two months, loaded on four days."""
    postgres.execute(
        "create table events (id text, loaded_at timestamptz); insert into events values "
        "('a','2025-01-10'), ('b','2025-01-20'), ('c','2025-02-01'), ('d','2025-02-02')"
    )
    return postgres


def ids(state):
    return sorted(row["id"] for row in rows_of(state))


def test_the_second_run_fetches_only_what_is_new(events, copy, tmp_path):
    assert copy(incremental="loaded_at") == 4
    kept = {file: file.stat().st_mtime_ns for file in copied_files("usage", tmp_path)}
    events.execute("insert into events values ('e','2025-02-03'), ('f','2025-03-01')")

    assert copy(incremental="loaded_at") == 2
    assert ids(tmp_path) == list("abcdef")
    assert {file: file.stat().st_mtime_ns for file in copied_files("usage", tmp_path) if file in kept} == kept
    assert copy(incremental="loaded_at") == 0


def test_a_row_that_came_late_into_an_old_month_is_noticed(events, copy, tmp_path):
    copy(incremental="loaded_at")
    events.execute("insert into events values ('late','2025-01-15')")

    assert copy(incremental="loaded_at") == 3
    assert ids(tmp_path) == ["a", "b", "c", "d", "late"]


@pytest.mark.parametrize("also", ["", ", ('newer','2025-02-03')"])
def test_a_row_with_the_very_last_time_is_noticed(events, copy, tmp_path, also):
    copy(incremental="loaded_at")
    events.execute(f"insert into events values ('same','2025-02-02'){also}")
    copy(incremental="loaded_at")

    assert ids(tmp_path) == sorted(["a", "b", "c", "d", "same"] + (["newer"] if also else []))


def test_rows_that_were_deleted_leave_the_copy(events, copy, tmp_path):
    copy(incremental="loaded_at")
    events.execute("delete from events where id in ('a', 'b', 'd')")
    copy(incremental="loaded_at")

    assert ids(tmp_path) == ["c"]


def test_a_row_that_was_loaded_again_is_there_once(events, copy, tmp_path):
    copy(incremental="loaded_at")
    events.execute("update events set loaded_at = '2025-02-05' where id in ('a', 'c')")
    copy(incremental="loaded_at")

    assert ids(tmp_path) == list("abcd")


def test_rows_without_a_time_of_loading_are_copied_too(events, copy, tmp_path):
    events.execute("insert into events values ('n', null)")
    copy(incremental="loaded_at")
    events.execute("insert into events values ('m', null), ('e','2025-02-09')")

    assert copy(incremental="loaded_at") == 3
    assert ids(tmp_path) == ["a", "b", "c", "d", "e", "m", "n"]


def test_a_new_column_makes_the_copy_anew(events, copy, tmp_path):
    copy(incremental="loaded_at")
    events.execute("alter table events add column kind text default 'login'")

    assert copy(incremental="loaded_at") == 4
    assert {row["kind"] for row in rows_of(tmp_path)} == {"login"}


def test_a_copy_that_lost_a_file_is_made_anew(events, copy, tmp_path):
    copy(incremental="loaded_at")
    copied_files("usage", tmp_path)[0].unlink()

    assert copy(incremental="loaded_at") == 4


def test_incremental_must_name_a_time(events, copy):
    with pytest.raises(ConfigurationError, match=r"one of \['loaded_at'\]; found 'id'"):
        copy(incremental="id")


@pytest.mark.parametrize("table", ["nothing", "nowhere.events"])
def test_a_table_that_is_not_there_is_named(postgres, copy, table):
    with pytest.raises(DataError, match=r"Table 'usage' must be readable from PostgreSQL at 127\.0\.0\.1; found"):
        copy(table)


def test_a_column_that_the_contract_misses_is_named_as_of_a_file(postgres, make_company):
    postgres.execute("create table contracts (account_id text, start_at date, mmr float8)")
    company = make_company({"accounts": ACCOUNTS}).map("contracts", f'url = "{postgres.url}"\ntable = "contracts"')

    with pytest.raises(MissingColumns, match="Did you mean 'mmr' for 'mrr'"):
        company.open()


def test_a_value_that_does_not_fit_stops_the_copy_and_is_no_null(postgres, copy):
    postgres.execute("create table events (price numeric(6, 2)); insert into events values ('NaN')")

    with pytest.raises(DataError, match="must be readable from PostgreSQL"):
        copy()


def test_a_refused_password_is_named_by_host_and_never_said(postgres, tmp_path):
    source = TableSource(url=postgres.url.replace(postgres.password, "wrong-word"), table="t")

    with pytest.raises(
        DependencyDown, match=r"'usage' must be read from PostgreSQL at 127\.0\.0\.1; it refuses"
    ) as said:
        copy_table("usage", source, tmp_path)
    assert "wrong-word" not in f"{said.value!r} {said.value.__cause__!r} {source!r}"


@pytest.mark.parametrize("url", ["postgresql://u:pa@ss@nohost.invalid/db", "postgresql://u:pa%zz@h/db"])
def test_no_part_of_a_password_is_taken_for_a_host(tmp_path, url):
    with pytest.raises((DependencyDown, ConfigurationError)) as said:
        copy_table("usage", TableSource(url=url, table="t"), tmp_path)
    assert "pa" not in str(said.value).replace("password", "")


def test_no_state_holds_the_password(postgres, make_company, monkeypatch):
    postgres.execute("create table t (ticket_id text, account_id text, opened_at date)")
    monkeypatch.setenv("TENURE_PG", postgres.url)
    company = make_company({"accounts": ACCOUNTS, "contracts": CONTRACTS})
    company.map("tickets", 'url = "${TENURE_PG}"\ntable = "t"')
    company.open()

    for file in company.folder.rglob("*"):
        assert not file.is_file() or postgres.password.encode() not in file.read_bytes(), file


def test_a_server_that_is_down_stops_a_build_with_one_sentence(postgres, make_company):
    postgres.execute("create table t (ticket_id text, account_id text, opened_at date)")
    postgres.execute("insert into t values ('1', '001', '2025-01-01')")
    company = make_company({"accounts": ACCOUNTS, "contracts": CONTRACTS})
    config = company.map("tickets", f'url = "{postgres.url}"\ntable = "t"').settings()
    company.open()
    before = [(file, file.read_bytes()) for file in copied_files("tickets", config.state_dir)]
    postgres.stop()

    out = company.folder / "out.parquet"
    done = CliRunner().invoke(tenure.main, ["features", "build", f"--config={config.path}", f"--out={out}", "--json"])

    assert done.exit_code == 69
    assert done.stderr.count("\n") == 1
    assert "Table 'tickets' must be read from PostgreSQL at 127.0.0.1" in done.stderr
    assert postgres.password not in done.output
    assert json.loads(done.stdout)["error"]["code"] == 69
    assert not out.exists()
    assert [(file, file.read_bytes()) for file in copied_files("tickets", config.state_dir)] == before


def test_a_server_that_stops_in_the_middle_leaves_nothing_half_written(postgres, make_company):
    company = make_company({"accounts": ACCOUNTS, "contracts": CONTRACTS})
    company.map("tickets", f'url = "{postgres.url}"\ntable = "t"')
    settings = company.settings()
    postgres.execute("create table t (ticket_id text, account_id text, opened_at date)")
    postgres.execute("insert into t values ('1', '001', '2025-01-01')")
    company.open()
    before = copied_files("tickets", settings.state_dir)
    postgres.execute("insert into t select n::text, '001', '2025-01-01' from generate_series(2, 1000000) as n")

    out = company.folder / "out.parquet"
    command = [sys.executable, "-m", "tenure", "features", "build", f"--config={settings.path}", f"--out={out}"]
    environ = {**os.environ, "PYTHONPATH": str(Path(tenure.__file__).parent)}
    running = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = settings.state_dir / "copies" / "tickets"
    while running.poll() is None and not _is_being_written(folder, before):
        time.sleep(0.005)
    postgres.stop()
    _, said = running.communicate(timeout=60)

    assert running.returncode == 69, said
    assert said.count("\n") == 1
    assert "Table 'tickets' must be read from PostgreSQL at 127.0.0.1; it stopped while it was read" in said
    assert not out.exists()
    assert copied_files("tickets", settings.state_dir) == before
    assert {path.name for path in folder.glob("run-*")} == {before[0].parent.name}


def _is_being_written(folder, before):
    """Whether a first batch has reached a file that is not of the copy before."""
    return any(file not in before and file.stat().st_size > 100_000 for file in folder.glob("run-*/*.parquet"))
