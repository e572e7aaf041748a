"""Where tables may lie: one file or many, a DuckDB file; and what the files of a source are."""

from __future__ import annotations

import os
import subprocess
import sys

import duckdb
import pytest

from features.errors import ConfigurationError, DataError, DependencyDown, MissingSource, RowCountAnomaly
from features.settings import read_settings
from features.sources import files

ACCOUNTS = "account_id\n001\na1"
CONTRACTS = "account_id,start_at,mrr\n001,2024-01-01,10\na1,2024-01-01,10"


@pytest.fixture
def sound(make_company):
    """A company to which a test adds a table."""
    return make_company({"accounts": ACCOUNTS, "contracts": CONTRACTS})


@pytest.fixture
def warehouse(sound):
    """A company with a DuckDB file beside its files."""
    with duckdb.connect(str(sound.folder / "warehouse.duckdb")) as file:
        file.execute("create schema crm")
        file.execute("create table crm.cases (ticket_id text, account_id text, opened_at timestamp)")
        file.execute("insert into crm.cases values ('1', '001', '2025-01-01'), ('2', 'a1', '2025-01-02')")
        file.execute("create view open_cases as select * from crm.cases where ticket_id = '2'")
    return sound


def tickets(company):
    rows = company.open()["tickets"]
    return rows.order_by("ticket_id").ticket_id.to_pyarrow().to_pylist()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('table = "crm.cases"', ["1", "2"]),
        ('table = "open_cases"', ["2"]),
        ("query = \"select * from crm.cases where account_id = '001'\"", ["1"]),
        ("query = \"select cases.* from crm.cases join contracts using (account_id) where mrr = '10'\"", ["1", "2"]),
    ],
)
def test_a_duckdb_file_gives_a_table_a_view_or_a_query(warehouse, given, expected):
    warehouse.map("tickets", f'path = "warehouse.duckdb"\n{given}')

    assert tickets(warehouse) == expected


def test_two_tables_of_one_duckdb_file_are_read_without_changing_it(warehouse):
    before = (warehouse.folder / "warehouse.duckdb").read_bytes()
    warehouse.map("tickets", 'path = "warehouse.duckdb"\ntable = "crm.cases"')
    warehouse.extra = '[sources.more]\npath = "warehouse.duckdb"\ntable = "open_cases"'
    warehouse.open()
    warehouse.open()

    assert (warehouse.folder / "warehouse.duckdb").read_bytes() == before
    assert sorted(path.name for path in warehouse.folder.glob("warehouse*")) == ["warehouse.duckdb"]


def test_a_query_over_files_reads_a_table_of_a_duckdb_file(warehouse):
    warehouse.map("tickets", 'query = "select * from cases join accounts using (account_id) where ticket_id = 1"')
    warehouse.extra = '[sources.cases]\npath = "warehouse.duckdb"\ntable = "crm.cases"'

    assert tickets(warehouse) == ["1"]


def test_a_table_that_the_duckdb_file_lacks_is_named(warehouse):
    warehouse.map("tickets", 'path = "warehouse.duckdb"\ntable = "crm.nothing"')

    with pytest.raises(DataError, match=r"Table 'tickets' must be readable as .*nothing"):
        warehouse.open()


def test_a_duckdb_file_that_another_program_writes_to_is_asked_for_later(warehouse):
    warehouse.map("tickets", 'path = "warehouse.duckdb"\ntable = "crm.cases"')
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    command = [sys.executable, "-c", hold, str(warehouse.folder / "warehouse.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(DependencyDown, match="while no other program writes to it; one does"):
            warehouse.open()
        writer.communicate("\n")

    assert tickets(warehouse) == ["1", "2"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('path = "w.duckdb"', "given a table or a query of its DuckDB file"),
        ('path = "w.duckdb"\ntable = "t"\nquery = "select 1"', "given a table or a query of its DuckDB file"),
        ('path = "t.csv"\ntable = "t"', "given a table only of a DuckDB file or a url"),
        ("", "given a path, a url or a query"),
        ('url = "postgresql://h/d"', "given a table or a query beside its url"),
        ('url = "postgresql://h/d"\ntable = "t"\npath = "t.csv"', "read from a path or from a url, not both"),
        ('url = "mysql://me:s3cret@h/d"\ntable = "t"', "postgresql://"),
        ('path = "t.csv"\nincremental = "at"', "given incremental only beside a url"),
        ('url = ["postgresql://me:s3cret@h/d"]\ntable = "t"', "of type str"),
    ],
)
def test_a_place_that_contradicts_itself_is_refused_without_saying_its_password(tmp_path, given, said):
    (tmp_path / "tenure.toml").write_text(f"[tables.tickets]\n{given}")

    with pytest.raises(ConfigurationError, match=said) as refused:
        read_settings(tmp_path / "tenure.toml", {})
    assert "s3cret" not in str(refused.value)


def test_a_url_may_stand_in_the_environment_and_must_then_be_there(tmp_path):
    path = tmp_path / "tenure.toml"
    path.write_text("[tables.tickets]\nurl = '${TENURE_PG}'\ntable = 't'")

    assert read_settings(path, {"TENURE_PG": "postgresql://h/d"}).tables["tickets"].url == "postgresql://h/d"
    with pytest.raises(ConfigurationError, match=r"Environment variable TENURE_PG must be set, tenure\.toml uses it"):
        read_settings(path, {})


def test_a_pattern_reads_all_its_files_by_name(sound):
    sound.write("tickets_2", "ticket_id,account_id,opened_at\n2,a1,2025-01-02").tables.pop("tickets_2")
    sound.write("tickets_1", "ticket_id,account_id,opened_at\n1,001,2025-01-01\n3,??,x").tables.pop("tickets_1")
    sound.extra = "[quarantine]\nlimit = 1"
    sound.map("tickets", 'path = "tickets_*.csv"')
    tables = sound.open()

    assert tickets(sound) == ["1", "2"]
    assert [row["row_number"] for row in tables.quarantine.to_pylist()] == [2]
    assert files(sound.settings(), "tickets") == (sound.folder / "tickets_1.csv", sound.folder / "tickets_2.csv")


def test_files_of_a_pattern_may_differ_in_columns_order_and_delimiter(sound):
    sound.write("tickets_1", "ticket_id,account_id,opened_at\n1,001,2025-01-01").tables.pop("tickets_1")
    sound.write("tickets_2", "opened_at;account_id;ticket_id;topic\n2025-01-02;001;2;billing").tables.pop("tickets_2")
    sound.map("tickets", 'path = "tickets_*.csv"')

    found = sound.open()["tickets"].order_by("ticket_id").to_pyarrow().to_pylist()
    assert [(row["ticket_id"], row["account_id"], row["topic"]) for row in found] == [
        ("1", "001", None),
        ("2", "001", "billing"),
    ]


def test_a_pattern_reads_parquet_files_whose_columns_grew(sound):
    (sound.folder / "tickets").mkdir()
    for number, more in ((1, ""), (2, ", 'billing' as topic")):
        query = f"select '{number}' as ticket_id, '001' as account_id, date '2025-01-01' as opened_at{more}"
        duckdb.sql(query).write_parquet(str(sound.folder / "tickets" / f"{number}.parquet"))
    sound.map("tickets", 'path = "tickets/*.parquet"')

    found = sound.open()["tickets"].order_by("ticket_id").to_pyarrow().to_pylist()
    assert [(row["ticket_id"], row["topic"]) for row in found] == [("1", None), ("2", "billing")]


def test_a_pattern_that_matches_nothing_or_two_kinds_is_refused(sound):
    sound.map("tickets", 'path = "tickets_*"')
    with pytest.raises(MissingSource, match=r"'tickets_\*'; found nothing there"):
        sound.open()
    for suffix in ("csv", "parquet"):
        (sound.folder / f"tickets_1.{suffix}").write_text("ticket_id\n")
    with pytest.raises(ConfigurationError, match="path must end in"):
        sound.open()


def test_a_query_depends_on_every_file_that_it_may_read(warehouse):
    warehouse.map("tickets", 'query = "select * from cases"')
    warehouse.extra = '[sources.cases]\npath = "warehouse.duckdb"\ntable = "crm.cases"'
    settings = warehouse.settings()

    names = ["accounts.csv", "contracts.csv", "warehouse.duckdb"]
    assert sorted(os.path.basename(file) for file in files(settings, "tickets")) == names


def in_a_database(company, rows):
    """Usage as the view of a DuckDB file over a Parquet file, which changes without the database."""
    outside = company.folder / "events.parquet"
    with duckdb.connect() as engine:
        engine.execute(
            f"copy (select 'a1' as account_id, timestamp '2025-05-01' + to_hours(i::int) as event_at, i as quantity "
            f"from range({rows}) as t(i)) to '{outside}'"
        )
    if not (company.folder / "use.duckdb").exists():
        with duckdb.connect(str(company.folder / "use.duckdb")) as file:
            file.execute(f"create view events as from read_parquet('{outside}')")
    company.map("usage", 'path = "use.duckdb"\ntable = "events"')


def test_rows_behind_a_view_are_read_again_though_the_database_stands_still(sound):
    in_a_database(sound, rows=48)
    before = sound.open()["account_days"].events.sum().execute()
    database = (sound.folder / "use.duckdb").read_bytes()

    in_a_database(sound, rows=47)
    after = sound.open()["account_days"].events.sum().execute()

    assert (sound.folder / "use.duckdb").read_bytes() == database
    assert (before, after) == (48, 47)


def test_a_view_that_is_cut_to_half_stops_the_run_though_the_database_stands_still(sound):
    in_a_database(sound, rows=48)
    sound.open()
    in_a_database(sound, rows=20)

    with pytest.raises(RowCountAnomaly, match="usage"):
        sound.open()
