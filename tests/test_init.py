"""`tenure init` drafts a mapping from the names and the values of files, and says where it is unsure."""

from __future__ import annotations

import json
import tomllib

import duckdb
import pytest
from click.testing import CliRunner

import tenure
from features.data_contract import CONTRACT
from features.draft.look import snake
from features.draft.synonyms import COLUMNS
from features.settings import read_settings

CLIENTS = "ClientID,Company Name,SignupDate,Country,Favourite\n" + "\n".join(
    f"{n:03},Firm {n},2023-0{n % 9 + 1}-01,DE,x{n}" for n in range(40)
)
CONTRACTS = "client_id,start_date,contract_end_date,churn_date,monthly_fee\n" + "\n".join(
    f"{n:03},2023-0{n % 9 + 1}-01,2025-01-01,{'2024-06-15' if n % 7 == 0 else ''},99.50" for n in range(40)
)
CASES = "case_id,client_id,created_at,priority,resolution_hours,satisfaction_score,category\n" + "\n".join(
    f"k{n},{n % 40:03},2024-0{n % 9 + 1}-05 10:00:00,{['Urgent', 'high', 'NORMAL', 'low'][n % 4]},{n % 30 + 1},"
    f"{n % 5 + 1},billing"
    for n in range(200)
)
MONTHLY = "client_id,month,logins,active_users\n" + "\n".join(
    f"{n:03},2024-{month:02}-01,{n + month},{n % 3 + 1}" for n in range(40) for month in range(1, 13)
)
FILES = {"clients": CLIENTS, "contracts": CONTRACTS, "support_cases": CASES, "usage_by_month": MONTHLY}


@pytest.fixture
def folder(tmp_path):
    """A folder of raw files of a small company."""

    def folder(**files):
        for name, text in (files or FILES).items():
            (tmp_path / f"{name}.csv").write_text(text + "\n", encoding="utf-8")
        return tmp_path

    return folder


def run(*arguments):
    return CliRunner().invoke(tenure.main, [str(argument) for argument in arguments])


def drafted(folder, *options):
    """The document that init writes."""
    done = run("init", folder, *options)
    assert done.exit_code == 0, done.output
    return tomllib.loads((folder / "tenure.toml").read_text(encoding="utf-8"))


def test_a_draft_is_checked_without_a_word_from_a_person(folder):
    made = folder()
    tables = drafted(made)["tables"]

    assert tables["accounts"]["columns"] == {
        "account_id": "ClientID", "name": "Company Name", "region": "Country", "started_at": "SignupDate"
    }  # fmt: skip
    assert tables["contracts"]["columns"] == {
        "account_id": "client_id", "start_at": "start_date", "term_end_at": "contract_end_date",
        "ended_at": "churn_date", "mrr": "monthly_fee",
    }  # fmt: skip
    assert tables["tickets"]["values"]["severity"] == {"Urgent": 1, "high": 2, "NORMAL": 3, "low": 4}
    assert (
        tables["tickets"]["columns"]["resolved_at"] == '"created_at"::timestamp + to_hours("resolution_hours"::bigint)'
    )
    assert tables["usage"]["period"] == "month"
    assert tables["usage"]["columns"]["period_start"] == "month"
    assert "coalesce" not in (made / "tenure.toml").read_text()

    checked = run("check", "--json", f"--config={made / 'tenure.toml'}")
    assert checked.exit_code == 0, checked.output
    rows = {table["table"]: (table["rows"], table["kept"]) for table in json.loads(checked.stdout)["tables"]}
    assert rows == {"accounts": (40, 40), "contracts": (40, 40), "usage": (480, 480), "tickets": (200, 200)}


@pytest.mark.parametrize(
    ("ends", "column"), [(("2025-01-01", "2025-02-01"), "term_end_at"), (("2025-01-01", ""), "ended_at")]
)
def test_an_end_is_planned_where_every_row_has_one_and_real_where_rows_lack_it(folder, ends, column):
    rows = "\n".join(f"{n:03},2024-01-01,{ends[n % 2]},50" for n in range(40))
    made = folder(clients=CLIENTS, subscriptions=f"client_id,start_date,end_date,mrr\n{rows}")
    document = drafted(made)

    assert document["tables"]["contracts"]["columns"][column] == "end_date"
    assert f"# unsure: {column} = end_date" in (made / "tenure.toml").read_text()


def test_a_column_whose_values_do_not_fit_is_not_taken(folder):
    cases = CASES.replace("satisfaction_score", "csat").replace("\n", "\n").split("\n")
    wrong = "\n".join([cases[0], *(",".join([*row.split(",")[:5], "77", row.split(",")[6]]) for row in cases[1:])])
    made = folder(clients=CLIENTS, contracts=CONTRACTS, support_cases=wrong)
    document = drafted(made)

    assert "csat" not in document["tables"]["tickets"]["columns"]
    assert "# not mapped: csat, 77.0 to 77.0" in (made / "tenure.toml").read_text()


def test_what_nothing_reads_is_named(folder):
    made = folder(**FILES, weather="day,degrees\n2024-01-01,3")
    drafted(made)
    text = (made / "tenure.toml").read_text()

    assert "# not mapped: Favourite, 40 different values" in text
    assert "# not read: weather.csv, 1 rows with columns day, degrees" in text


def test_dates_with_one_row_for_each_account_are_days_and_events_are_events(folder):
    days = "client_id,date,event_name,n_events\n" + "\n".join(f"001,2024-01-{n:02},login,3" for n in range(1, 20))
    assert drafted(folder(clients=CLIENTS, contracts=CONTRACTS, activity=days))["tables"]["usage"]["period"] == "day"
    events = days + "\n001,2024-01-05,login,2"
    made = folder(clients=CLIENTS, contracts=CONTRACTS, activity=events)
    assert "period" not in drafted(made, "--force")["tables"]["usage"]


def test_usage_that_names_no_account_reaches_it_by_a_key(folder):
    contracts = CONTRACTS.replace("client_id,", "subscription_id,client_id,", 1).split("\n")
    keyed = "\n".join([contracts[0], *(f"s{n},{row}" for n, row in enumerate(contracts[1:]))])
    usage = "subscription_id,event_time,feature_name\n" + "\n".join(
        f"s{n},2024-05-{n % 28 + 1:02} 10:00:00,export" for n in range(40)
    )
    made = folder(clients=CLIENTS, contracts=keyed, usage_log=usage)
    drafted(made)
    tables = tenure.open(made / "tenure.toml").tables

    assert tables["account_days"].account_id.nunique().to_pyarrow().as_py() == 40


def test_purchases_alone_make_accounts_that_fall_silent(folder):
    lines = "InvoiceNo,CustomerID,InvoiceDate,Quantity,UnitPrice,Country\n" + "\n".join(
        f"{n // 2},{n % 20:03},2024-03-01 10:00:00,2,1.5,DE" for n in range(60)
    )
    document = drafted(folder(sales=lines))

    assert document["label"] == {"kind": "silence", "silence_days": 90}
    assert set(document["tables"]) == {"accounts", "usage", "invoices"}
    assert document["sources"]["sales"] == {"path": "sales.csv"}


def test_bill_periods_become_versions_of_one_contract(folder):
    rows = [
        f"{n:03},pro,2024-{month:02}-01,2024-{month + 1:02}-01,{100 + n}" for n in range(40) for month in range(1, 9)
    ]
    rows += [f"{n:03},add_on,2024-03-01,2024-04-01,10" for n in range(10)]
    periods = "client_id,product,start_date,end_date,mrr\n" + "\n".join(rows)
    churned = "client_id,churn_date\n001,2024-09-01"
    made = folder(clients=CLIENTS, subscriptions=periods, churn_events=churned)
    drafted(made)
    contracts = tenure.open(made / "tenure.toml").tables["contracts"]
    found = contracts.filter(contracts.account_id == "001").order_by("known_at").to_pyarrow().to_pylist()

    assert [row["mrr"] for row in found] == [101, 101, 111, 101, 101, 101, 101, 101]
    assert len({(row["contract_id"], row["start_at"]) for row in found}) == 1
    assert [row["ended_at"] is None for row in found] == [True] * 7 + [False]


def test_a_duckdb_file_is_looked_into(tmp_path):
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as file:
        file.execute("create table customers as select range as customer_id, date '2024-01-01' as signup_date, "
                     "case when range < 5 then date '2024-05-01' end as churned_at from range(30)")  # fmt: skip
    document = drafted(tmp_path)

    assert document["tables"]["accounts"]["table"] == "main.customers"
    assert read_settings(tmp_path / "tenure.toml", {}).tables["accounts"].is_database


def test_a_tenure_toml_is_never_overwritten_unasked(folder):
    made = folder()
    (made / "tenure.toml").write_text("# mine\n")

    refused = run("init", made)
    assert refused.exit_code == 2
    assert "Move it away, or pass --force to replace it." in refused.stderr
    assert (made / "tenure.toml").read_text() == "# mine\n"
    assert run("init", made, "--force").exit_code == 0
    assert sorted(path.name for path in made.iterdir()) == sorted([*(f"{name}.csv" for name in FILES), "tenure.toml"])


@pytest.mark.parametrize(("name", "code"), [("nothing", 2), (".", 65)])
def test_a_folder_without_tables_is_refused(tmp_path, name, code):
    assert run("init", tmp_path / name).exit_code == code


def test_a_draft_that_cannot_be_read_says_why(folder):
    broken = CONTRACTS.replace("2023-01-01", "2026-01-01").replace("2023-02-01", "2026-01-01")
    made = folder(clients=CLIENTS, contracts=broken)
    done = run("init", made, "--json")

    assert done.exit_code == 0
    assert "Table 'contracts' may have at most 5% rows set aside" in json.loads(done.stdout)["problem"]


def test_every_synonym_is_of_a_column_of_the_contract():
    columns = {table.name: {column.name for column in table.columns} for table in CONTRACT}

    assert all(set(names) <= columns[table] for table, names in COLUMNS.items())


@pytest.mark.parametrize(
    ("name", "words"),
    [("CustomerID", "customer_id"), ("InvoiceNo", "invoice_no"), ("Company Name", "company_name"),
     ("mrr_USD", "mrr_usd"), ("HTTPStatus", "http_status"), ("n.users", "n_users")],
)  # fmt: skip
def test_names_are_read_as_words(name, words):
    assert snake(name) == words
