"""The certificate plants in every table that the contract knows, claims no more than it showed, and leaves no trace."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from features.build import feature_table
from features.catalogue import FEATURE_NAMES
from features.certificate import ROLLED_UP, ROSTER, certify
from features.data_contract import CONTRACT
from features.plants import AT, CLOSED, KINDS, LATE, LATER, OPEN, OUTCOME, VERSION, Planter
from features.schema import Table, ident, number, text, time
from features.settings import read_settings
from features.tables import open_tables

AS_OF = datetime(2025, 3, 1)
DAY = timedelta(days=1)
KINDS_OF_USE = {AT, LATER, LATE, VERSION}

VALUES = {"kind": "nps", "polarity": "ease", "direction": "in", "scale_min": "0", "scale_max": "10", "score": "9"}
BY_KIND = {"boolean": "true", "text": "some"}
BEFORE = ("started_at", "start_at", "event_at", "sent_at", "opened_at", "issued_at", "from_at", "scored_at", "ring_at")
AFTER = ("term_end_at", "due_at")


def value(table, column, account):
    """Of one row, open at the instant: every date of an outcome is empty."""
    if column.name in VALUES and not (table == "health_scores" and column.name == "kind"):
        return "login" if (table, column.name) == ("usage", "kind") else VALUES[column.name]
    if column.kind == "id":
        return account if column.name == "account_id" else f"{account}-{column.name}"
    if column.kind == "number":
        return str(min(2, column.high))
    if column.kind != "time":
        return BY_KIND[column.kind]
    if column.name == "known_at":
        return "2025-01-20"
    if column.name in BEFORE or column.required:
        return "2024-01-01" if table in ("accounts", "contracts") else "2025-01-10"
    return "2025-12-31" if column.name in AFTER else ""


@pytest.fixture(scope="module")
def open_company(tmp_path_factory):
    """Settings and tables of five accounts with one row in each of the tables named."""

    def opened(names, *, without=()):
        folder = tmp_path_factory.mktemp("company")
        mapped = [table for table in CONTRACT if table.name in names]
        for table in mapped:
            columns = [column for column in table.columns if column.name not in without]
            columns = [column for column in columns if (table.name, column.name) != ("usage", "period_start")]
            lines = [",".join(column.name for column in columns)]
            lines += [",".join(value(table.name, column, account) for column in columns) for account in "abcde"]
            (folder / f"{table.name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        toml = [f'[tables.{table.name}]\npath = "{table.name}.csv"' for table in mapped]
        (folder / "tenure.toml").write_text("\n".join(toml), encoding="utf-8")
        settings = read_settings(folder / "tenure.toml")
        tables = open_tables(settings, now=AS_OF + 90 * DAY)
        assert tables.quarantine.to_pylist() == []
        return settings, tables

    return opened


@pytest.fixture(scope="module")
def whole(open_company):
    """A company with all tables of the contract, and the certificate of its features."""
    settings, tables = open_company([table.name for table in CONTRACT])
    before = feature_table(tables, [AS_OF], settings.label)
    found = certify(tables, settings, as_of=AS_OF, rows=60)
    return settings, tables, before, found


def test_no_feature_of_the_catalogue_moves(whole):
    *_, found = whole

    assert found.moved == ()
    assert found.features == FEATURE_NAMES
    assert found.accounts == 5
    found.refuse_leaks()


def test_every_table_of_the_contract_is_planted_with_every_kind_it_can_have(whole):
    *_, found = whole
    of_contract = {table.name for table in CONTRACT} - {"usage"}

    assert found.planted.keys() == {*of_contract, *ROLLED_UP}
    for name, kinds in found.planted.items():
        assert kinds.keys() >= KINDS_OF_USE, name
        assert sum(kinds.values()) >= 50
    for name in ("accounts", "contracts", "tickets", "surveys", "invoices", "contacts", "milestones", "tasks"):
        assert found.planted[name].keys() == set(KINDS)


def test_the_company_itself_is_as_it_was(whole):
    settings, tables, before, _ = whole

    assert feature_table(tables, [AS_OF], settings.label).equals(before)
    schemas = tables.backend.raw_sql("select distinct schema_name from duckdb_tables()").fetchall()
    assert not {"base", "planted"} & {row[0] for row in schemas}
    kept = {path.name for path in settings.state_dir.iterdir()}
    assert kept == {"profile.json", "quarantine.parquet", "rollup"}


def test_where_all_times_are_recorded_the_features_are_leak_proof(whole):
    *_, found = whole

    assert set(found.grades.values()) == {"recorded"}
    assert found.verdict == "leak-proof"


@pytest.mark.long("a certificate of its own")
def test_where_times_are_assumed_the_certificate_claims_no_more_than_it_showed(open_company):
    settings, tables = open_company(["accounts", "contracts", "tickets"], without=["known_at"])

    found = certify(tables, settings, as_of=AS_OF, rows=30)

    assert found.moved == ()
    assert set(found.grades.values()) == {"assumed"}
    assert found.verdict == f"no leak found; {len(found.grades)} features rest on assumed times"


def test_the_certificate_is_the_same_each_time_and_plain_json(whole):
    settings, tables, _, found = whole

    again = certify(tables, settings, as_of=AS_OF, rows=60)

    assert again == found
    written = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert written["verdict"] == "leak-proof"
    assert written["planted"]["tickets"][OUTCOME] == found.planted["tickets"][OUTCOME]


def test_before_anyone_was_a_customer_nothing_is_shown(whole):
    settings, tables, *_ = whole

    found = certify(tables, settings, as_of=datetime(2023, 1, 1), rows=30)

    assert (found.accounts, found.moved) == (0, ())
    assert found.verdict == "nothing shown; no account is scored at 2023-01-01"


def test_an_account_that_appears_or_goes_is_a_leak_too(whole):
    settings, tables, *_ = whole

    def build(tables, instants, label):
        contracts = tables["contracts"]
        scored = contracts.filter(contracts.ended_at.isnull()).select("account_id").distinct()
        return scored.mutate(as_of=1).order_by("account_id").to_pyarrow()

    def whoever(tables, instants, label):
        contracts = tables["contracts"]
        return contracts.group_by("account_id").agg(as_of=contracts.count()).order_by("account_id").to_pyarrow()

    # All five keep an open contract, so the first sees nothing; the second counts what is planted.
    assert certify(tables, settings, as_of=AS_OF, rows=30, build=build).moved == ()
    assert {one.feature for one in certify(tables, settings, as_of=AS_OF, rows=30, build=whoever).moved} == {ROSTER}


VISITS = Table(
    name="visits",
    grain="visit",
    columns=(
        ident("account_id", required=True),
        ident("visit_id"),
        time("planned_at", required=True),
        time("made_at"),
        number("minutes", low=0, high=500),
        text("mood", "good", "bad"),
        time("known_at"),
    ),
    key=("account_id", "visit_id", "known_at"),
    event="planned_at",
)
VISIT = {
    "account_id": "a", "visit_id": "v", "planned_at": AS_OF - 9 * DAY, "made_at": AS_OF - 8 * DAY, "minutes": 300.0,
    "mood": "good", "event_at": AS_OF - 9 * DAY, "known_at": AS_OF - 8 * DAY,
}  # fmt: skip


@pytest.fixture(scope="module")
def visits():
    """What is planted in a table that the contract does not know yet."""
    return list(Planter(table=VISITS, as_of=AS_OF).rows([VISIT], ["a"], 240))


def test_a_table_added_to_the_contract_is_planted_as_it_is(visits):
    assert Planter(table=VISITS, as_of=AS_OF).outcomes == ("made_at",)
    assert {kind for kind, _ in visits} == {*KINDS, OPEN}


def test_no_planted_row_may_be_seen_at_the_instant_but_for_its_later_outcome(visits):
    for kind, row in visits:
        hidden = row["event_at"] >= AS_OF or row["known_at"] > AS_OF
        assert hidden == (kind not in (OPEN, OUTCOME)), (kind, row)
        if kind == OUTCOME:
            assert row["made_at"] >= AS_OF
    assert {row["event_at"] for kind, row in visits if kind == AT} == {AS_OF}
    assert max(row["event_at"] for kind, row in visits if kind == LATER) == AS_OF + 90 * DAY


def test_an_open_twin_differs_from_the_row_with_an_outcome_by_the_outcome_alone(visits):
    twins = [row for kind, row in visits if kind == OPEN]
    done = [row for kind, row in visits if kind == OUTCOME]

    assert len(twins) == len(done) >= 30
    for twin, row in zip(twins, done, strict=True):
        assert twin == {**row, "made_at": None}
        assert twin["visit_id"].startswith("planted-")


def test_a_newer_version_has_the_same_key_and_other_values(visits):
    for kind, row in visits:
        if kind in (VERSION, CLOSED):
            assert (row["visit_id"], row["event_at"]) == ("v", VISIT["event_at"])
            assert (row["minutes"], row["mood"]) == (0, "bad")
            assert (row["made_at"] >= AS_OF) == (kind == CLOSED)
