"""A table that is overwritten keeps its past: by its own times, by dbt's versions, or by nightly copies."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.build import feature_table
from features.catalogue import feature, grade
from features.errors import AlreadyRunning, ConfigurationError, DataError
from features.history import snapshot
from features.settings import LabelSettings
from features.snapshots import contracts_known
from features.tables import open_tables
from features.windows import instants_table

FIRST = datetime(2025, 6, 1)
SECOND = FIRST + timedelta(days=1)
THIRD = FIRST + timedelta(days=2)
LONG_BEFORE = datetime(2025, 3, 1)

ACCOUNTS = "account_id,started_at,segment,plan\na,2024-01-01,small,basic\nb,2024-01-01,large,pro"
CONTRACTS = "account_id,contract_id,start_at,mrr,seats\na,c,2024-01-01,100,10\nb,d,2024-01-01,200,20"


@pytest.fixture
def copied(company):
    """A company whose contracts and accounts are read from copies."""
    company.write("accounts", ACCOUNTS).write("contracts", CONTRACTS)
    company.map("accounts", 'path = "accounts.csv"\nhistory = "snapshot"')
    return company.map("contracts", 'path = "contracts.csv"\nhistory = "snapshot"')


def night(company, now):
    """What `tenure snapshot` says at `now`, by table."""
    settings = company.settings()
    tables = open_tables(settings, now=now)
    grades = {name: loaded.grade for name, loaded in tables.loaded.items()}
    return {item["table"]: item for item in snapshot(tables.backend, settings, grades, now=now)}


def counts(item):
    return item["new"], item["changed"], item["vanished"]


def arr(company, instants, now=THIRD):
    """The yearly value of account a at each instant at which it has a contract, as was known then."""
    tables = open_tables(company.settings(), now=now)
    known = contracts_known(tables, instants_table(tables.backend, instants))
    rows = known.filter(known.is_live & (known.account_id == "a")).to_pyarrow().to_pylist()
    values = {row["as_of"]: [] for row in rows}
    for row in rows:
        values[row["as_of"]].append(row["arr"])
    return {instant: None if None in found else sum(found) for instant, found in values.items()}


def history_files(company):
    folder = company.folder / ".tenure" / "history"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".parquet", ".json"))


def test_only_new_changed_and_vanished_rows_are_written(copied):
    copied.write("contracts", CONTRACTS + "\na,e,2024-02-01,1,1\na,f,2024-02-01,1,1")
    first = night(copied, FIRST)
    copied.write("contracts", CONTRACTS.replace("100,10", "100,12") + "\na,e,2024-02-01,1,1\nb,g,2025-06-01,5,5")
    second = night(copied, SECOND)
    third = night(copied, THIRD)

    assert counts(first["contracts"]) == (4, 0, 0)
    assert counts(second["contracts"]) == (1, 1, 1)
    assert counts(third["contracts"]) == counts(second["accounts"]) == (0, 0, 0)
    written = pq.read_table(copied.folder / ".tenure" / "history" / "contracts" / "2025-06-02.parquet").to_pylist()
    assert {(row["contract_id"], row["tenure_valid_to"] is not None) for row in written} == {
        ("c", False), ("g", False), ("f", True),
    }  # fmt: skip
    assert history_files(copied) == [
        "accounts/2025-06-01.parquet", "contracts/2025-06-01.parquet", "contracts/2025-06-02.parquet", "manifest.json",
    ]  # fmt: skip


def test_a_change_is_known_from_the_night_that_saw_it(copied):
    night(copied, FIRST)
    copied.write("contracts", CONTRACTS.replace("100,10", "120,10"))
    night(copied, SECOND)

    instants = [LONG_BEFORE, FIRST, SECOND, THIRD]
    rows = feature_table(open_tables(copied.settings(), now=THIRD), instants, LabelSettings()).to_pylist()
    found = {row["as_of"]: row["arr"] for row in rows if row["account_id"] == "a"}
    assert found == {LONG_BEFORE: None, FIRST: 1200, SECOND: 1440, THIRD: 1440}
    assert arr(copied, instants) == found


def test_a_contract_that_vanished_ended_on_the_night_that_missed_it(copied):
    night(copied, FIRST)
    copied.write("contracts", CONTRACTS.splitlines()[0] + "\n" + CONTRACTS.splitlines()[2])
    night(copied, SECOND)

    contracts = open_tables(copied.settings(), now=THIRD)["contracts"]

    rows = contracts.filter(contracts.contract_id == "c").order_by("known_at").to_pyarrow().to_pylist()
    # What cannot change, from the start; the whole row, from the first copy; its end, from the second.
    assert [(row["known_at"], row["mrr"], row["ended_at"]) for row in rows] == [
        (datetime(2024, 1, 1), None, None), (FIRST, 100, None), (SECOND, 100, SECOND),
    ]  # fmt: skip
    assert arr(copied, [SECOND, THIRD]) == {SECOND: 1200}


def test_a_row_that_comes_back_begins_anew(copied):
    night(copied, FIRST)
    copied.write("contracts", CONTRACTS.splitlines()[0] + "\n" + CONTRACTS.splitlines()[2])
    night(copied, SECOND)
    copied.write("contracts", CONTRACTS)
    assert counts(night(copied, THIRD)["contracts"]) == (1, 0, 0)

    later = THIRD + timedelta(days=1)
    assert arr(copied, [SECOND, THIRD, later], now=later) == {SECOND: 1200, THIRD: 1200, later: 1200}


def test_a_second_run_on_the_same_day_changes_nothing(copied):
    night(copied, FIRST)
    before = {name: (copied.folder / ".tenure" / "history" / name).read_bytes() for name in history_files(copied)}
    copied.write("contracts", CONTRACTS.replace("100,10", "120,10"))

    again = night(copied, FIRST)

    after = {name: (copied.folder / ".tenure" / "history" / name).read_bytes() for name in history_files(copied)}
    assert counts(again["contracts"]) == (0, 0, 0)
    assert after == before


def test_rows_in_another_order_and_new_columns_without_values_are_no_change(copied):
    night(copied, FIRST)
    header, one, other = CONTRACTS.splitlines()
    copied.write("contracts", f"note,{header}\n,{other}\n,{one}")

    assert counts(night(copied, SECOND)["contracts"]) == (0, 0, 0)


def test_rows_that_share_a_key_are_each_copied(copied):
    copied.write("contracts", CONTRACTS + "\na,c,2024-01-01,100,11")
    copied.extra = "[quarantine]\nlimit = 0.5"
    assert counts(night(copied, FIRST)["contracts"]) == (3, 0, 0)
    copied.write("contracts", CONTRACTS)

    written = night(copied, SECOND)["contracts"]

    assert written["vanished"] == 1
    assert written["new"] == 0


@pytest.mark.parametrize("lost", ["manifest", "manifest and one table"])
def test_a_run_that_was_killed_is_made_up_for_by_the_next(copied, lost):
    """Killed between the files and the manifest that makes them count."""
    night(copied, FIRST)
    folder = copied.folder / ".tenure" / "history"
    manifest = (folder / "manifest.json").read_bytes()
    copied.write("contracts", CONTRACTS.replace("100,10", "120,10"))
    whole = night(copied, SECOND)["contracts"]
    (folder / "manifest.json").write_bytes(manifest)
    if lost == "manifest and one table":
        (folder / "contracts" / "2025-06-02.parquet").write_bytes(b"half a fi")

    assert arr(copied, [SECOND]) == {SECOND: 1200}
    assert night(copied, SECOND)["contracts"] == whole
    assert arr(copied, [SECOND]) == {SECOND: 1440}


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda file: file.write_bytes(file.read_bytes() + b"x"), "found another file"),
        (lambda file: file.unlink(), "found nothing there"),
        (lambda file: (file.parent.parent / "manifest.json").write_text("{"), "it is damaged"),
    ],
    ids=["changed", "gone", "manifest"],
)
def test_a_damaged_history_is_refused_with_its_file(copied, damage, found):
    night(copied, FIRST)
    damage(copied.folder / ".tenure" / "history" / "contracts" / "2025-06-01.parquet")

    with pytest.raises(DataError, match=found) as refusal:
        open_tables(copied.settings(), now=SECOND)
    assert refusal.value.exit_code == 65


def test_two_runs_at_once_are_refused(copied):
    import fcntl

    night(copied, FIRST)
    with (copied.folder / ".tenure" / "history" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(AlreadyRunning, match="must run once at a time"):
            night(copied, SECOND)


def test_a_source_that_was_cut_ends_no_row(copied):
    rows = [f"a,c{number},2024-01-01,100,10" for number in range(40)]
    copied.write("contracts", "\n".join([CONTRACTS.splitlines()[0], *rows]))
    night(copied, FIRST)
    before = history_files(copied)
    copied.write("contracts", "\n".join([CONTRACTS.splitlines()[0], *rows[:19]]))

    with pytest.raises(DataError, match="row_count_anomaly"):
        night(copied, SECOND)
    assert history_files(copied) == before


@pytest.mark.parametrize("kind", ["csv", "parquet", "query"])
def test_csv_parquet_and_query_sources_are_copied_alike(company, kind):
    company.write("accounts", ACCOUNTS).write("contracts", CONTRACTS)
    header, *rows = CONTRACTS.splitlines()

    def export(rows):
        company.write("contracts", "\n".join([header, *rows]))
        values = [row.split(",") for row in rows]
        columns = {name: [row[at] for row in values] for at, name in enumerate(header.split(","))}
        pq.write_table(pa.table(columns), company.folder / "contracts.parquet")

    where = {
        "csv": 'path = "contracts.csv"',
        "parquet": 'path = "contracts.parquet"',
        "query": 'query = "select * from rows"\n[sources.rows]\npath = "contracts.csv"',
    }[kind]
    table, _, source = where.partition("\n")
    company.map("contracts", f'{table}\nhistory = "snapshot"\n{source}')
    export(rows)
    night(company, FIRST)
    export([rows[0].replace("100,10", "120,10"), rows[1]])
    night(company, SECOND)

    assert arr(company, [LONG_BEFORE, FIRST, THIRD]) == {LONG_BEFORE: None, FIRST: 1200, THIRD: 1440}


def test_a_table_that_is_not_declared_is_copied_in_advance_and_read_as_before(company):
    company.write("accounts", ACCOUNTS).write("contracts", CONTRACTS)
    company.write("usage", "account_id,event_at\na,2025-05-31")
    company.write("contacts", "contact_id,account_id,known_at\np,a,2025-01-01")
    written = night(company, FIRST)

    tables = open_tables(company.settings(), now=SECOND)

    # Usage only grows, and contacts say themselves when they became known.
    assert set(written) == {"accounts", "contracts"}
    assert {name: loaded.grade for name, loaded in tables.loaded.items()} == {
        "accounts": "assumed", "contracts": "assumed", "usage": "assumed", "contacts": "recorded",
    }  # fmt: skip
    assert arr(company, [LONG_BEFORE]) == {LONG_BEFORE: 1200}


def test_of_a_table_without_history_only_what_cannot_change_is_known_before_now(company):
    company.write("accounts", ACCOUNTS).write("contracts", CONTRACTS)
    company.map("accounts", 'path = "accounts.csv"\nhistory = "none"')
    tables = open_tables(company.settings(), now=FIRST)
    accounts = tables["accounts"]

    rows = accounts.filter(accounts.account_id == "a").order_by("known_at").to_pyarrow().to_pylist()

    assert [(row["known_at"], row["segment"], row["plan"]) for row in rows] == [
        (datetime(2024, 1, 1), "small", None), (FIRST, "small", "basic"),
    ]  # fmt: skip
    assert tables.loaded["accounts"].grade == "current_state"


def test_the_company_says_what_cannot_change(company):
    company.write("accounts", ACCOUNTS).write("contracts", CONTRACTS)
    company.map("accounts", 'path = "accounts.csv"\nhistory = "none"\nimmutable = ["plan"]')
    accounts = open_tables(company.settings(), now=FIRST)["accounts"]

    rows = accounts.filter(accounts.known_at < FIRST).order_by("account_id").to_pyarrow().to_pylist()

    assert [(row["segment"], row["plan"]) for row in rows] == [(None, "basic"), (None, "pro")]


def test_the_time_of_loading_is_when_a_row_became_known(company):
    company.write("accounts", ACCOUNTS)
    company.write("contracts", "account_id,contract_id,start_at,mrr,loaded\na,c,2024-01-01,100,2025-05-01 12:00:00")
    company.map("contracts", 'path = "contracts.csv"\nloaded_at = "loaded"')

    tables = company.open()

    assert tables["contracts"].known_at.to_pyarrow().to_pylist() == [datetime(2025, 5, 1, 12)]
    assert tables.loaded["contracts"].grade == "recorded"


def test_the_versions_of_a_dbt_snapshot_are_read_as_they_are(company):
    company.write("accounts", ACCOUNTS)
    company.write(
        "contracts",
        """account_id,contract_id,start_at,mrr,dbt_valid_from,dbt_valid_to
        a,c,2024-01-01,100,2024-01-02 03:00:00,2025-05-01 03:00:00
        a,c,2024-01-01,120,2025-05-01 03:00:00,
        a,d,2024-01-01,7,2024-01-02 03:00:00,2025-05-20 03:00:00
        b,e,2024-01-01,9,2024-01-02 03:00:00,9999-12-31 00:00:00""",
    )

    tables = open_tables(company.settings(), now=FIRST)

    instants = [LONG_BEFORE, datetime(2025, 5, 2), FIRST]
    assert tables.loaded["contracts"].grade == "recorded"
    # The contract d was deleted on 20 May, its last version has no successor.
    assert arr(company, instants) == {LONG_BEFORE: 12 * 107, datetime(2025, 5, 2): 12 * 127, FIRST: 12 * 120}
    assert tables.quarantine.num_rows == 0


def test_an_unreadable_version_time_sets_its_row_aside(company):
    company.write("accounts", ACCOUNTS)
    company.write(
        "contracts",
        "account_id,start_at,mrr,dbt_valid_from,dbt_valid_to\na,2024-01-01,1,2024-01-02,\nb,2024-01-01,1,soon,",
    )
    company.extra = "[quarantine]\nlimit = 0.5"

    assert [(row["row_number"], row["rule"]) for row in company.open().quarantine.to_pylist()] == [(2, "type")]


def test_a_feature_has_the_worst_grade_of_its_sources(copied):
    night(copied, FIRST)
    copied.map("accounts", 'path = "accounts.csv"')
    tables = open_tables(copied.settings(), now=SECOND)

    assert tables.loaded["contracts"].grade == "recorded since 2025-06-01"
    assert grade(feature("arr"), tables) == "assumed"
    copied.map("accounts", 'path = "accounts.csv"\nloaded_at = "started_at"')
    assert grade(feature("arr"), open_tables(copied.settings(), now=SECOND)) == "recorded since 2025-06-01"
    copied.map("contracts", 'path = "contracts.csv"\nhistory = "none"')
    assert grade(feature("arr"), open_tables(copied.settings(), now=SECOND)) == "current_state"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('history = "all"', r"history must be one of \['none', 'snapshot'\]; found 'all'"),
        ('immutable = "plan"', "immutable must be a list of contract columns"),
        ('history = "none"\nimmutable = ["paln"]', r"immutable must name columns .*found \['paln'\]"),
        ('history = "none"\nloaded_at = "x"', "history, loaded_at and columns.known_at must be one of the three"),
    ],
)
def test_a_past_that_makes_no_sense_is_refused(company, toml, said):
    company.write("accounts", ACCOUNTS).write("contracts", CONTRACTS)
    company.map("accounts", f'path = "accounts.csv"\n{toml}')

    with pytest.raises(ConfigurationError, match=said):
        company.open()


def test_a_table_that_only_grows_has_no_history(company):
    company.write("accounts", ACCOUNTS).write("contracts", CONTRACTS)
    company.write("usage", "account_id,event_at\na,2025-05-31")
    company.map("usage", 'path = "usage.csv"\nhistory = "snapshot"')

    with pytest.raises(ConfigurationError, match=r"\[tables.usage\] history must not be set"):
        company.open()


def test_copies_keep_the_key_they_began_with(copied):
    night(copied, FIRST)
    copied.write("contracts", CONTRACTS.replace("contract_id", "number"))
    # Another mapping is another shape by intention, and no drift.
    copied.map("contracts", 'path = "contracts.csv"\nhistory = "snapshot"\ncolumns = { term_months = "12" }')

    with pytest.raises(ConfigurationError, match=r"must map .*'contract_id'.*by which `tenure snapshot` knows"):
        night(copied, SECOND)
    manifest = json.loads((copied.folder / ".tenure" / "history" / "manifest.json").read_text())
    assert manifest["tables"]["contracts"]["last"] == "2025-06-01"
