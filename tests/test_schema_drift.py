"""A source that changed its shape or was loaded in part stops the run before it writes; harmless changes are told."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import tenure
from features.drift import PROFILE_FILE, read_profile
from features.erased import register_path
from features.errors import DataError, EmptyTable, RowCountAnomaly, SchemaDrift
from features.sources import fingerprint
from features.tables import open_tables

YESTERDAY = datetime(2025, 6, 1)
TODAY = datetime(2025, 6, 2)


def use(rows=60):
    """Rows of usage, as the export writes them."""
    return [
        {"account_id": f"a{row % 10}", "event_at": f"2025-05-{row % 28 + 1:02d} 10:00:00",
         "quantity": f"{row % 9 + 1}.5", "kind": ("login", "action")[row % 2]}
        for row in range(rows)
    ]  # fmt: skip


def text(rows):
    """As CSV, every value quoted."""
    return "\n".join([",".join(rows[0]), *(",".join(f'"{value}"' for value in row.values()) for row in rows)])


def changed(**changes):
    """The rows with some columns made of the row and its number."""
    return [{**row, **{name: make(row, at) for name, make in changes.items()}} for at, row in enumerate(use())]


def without(rows, column):
    return [{name: value for name, value in row.items() if name != column} for row in rows]


def renamed():
    return [{("units" if name == "quantity" else name): value for name, value in row.items()} for row in use()]


@pytest.fixture
def seen(company):
    """A company that was read yesterday without complaint."""
    ids = [f"a{number}" for number in range(10)]
    company.write("accounts", "\n".join(["account_id,started_at", *(f"{id_},2024-01-01" for id_ in ids)]))
    company.write("contracts", "\n".join(["account_id,start_at,mrr", *(f"{id_},2024-01-01,100" for id_ in ids)]))
    company.write("usage", text(use()))
    open_tables(company.settings(), now=YESTERDAY)
    return company


def state(company):
    return {path.name: path.read_bytes() for path in (company.folder / ".tenure").iterdir() if path.is_file()}


BREAKING = {
    "drop": (without(use(), "quantity"), "found column 'quantity' gone\\."),
    "rename": (renamed(), "found column 'quantity' gone, and the new column 'units' looks like it"),
    "type": (
        changed(quantity=lambda row, at: f"about {at}"),
        "column 'quantity' of another type, text in place of number\\.",
    ),
    "time zone": (
        changed(event_at=lambda row, at: row["event_at"] + "+02:00"),
        "column 'event_at' in another time zone, its times come with an offset to UTC, before without",
    ),
    "unit": (
        changed(quantity=lambda row, at: str(float(row["quantity"]) * 1000)),
        r"column 'quantity' in another unit, its median went from [\d.]+ to [\d.]+ \(×1000\)",
    ),
    "all null": (changed(quantity=lambda row, at: ""), "column 'quantity' without any value"),
    "decimal": (
        changed(quantity=lambda row, at: row["quantity"].replace(".", ",")),
        "column 'quantity' of another type, text in place of number, its numbers have a decimal comma",
    ),
}  # fmt: skip

HARMLESS = {
    "add": (changed(note=lambda row, at: "x"), "usage: column 'note' is new"),
    "nullable": (
        changed(quantity=lambda row, at: "" if at < 6 else row["quantity"]),
        "usage: column 'quantity' has rows without a value (10.0%)",
    ),
    "reorder": ([dict(reversed(row.items())) for row in use()], "usage: the columns stand in another order"),
}


@pytest.mark.parametrize("mutation", BREAKING)
def test_a_change_that_alters_what_features_mean_stops_the_run_before_any_write(seen, mutation):
    rows, said = BREAKING[mutation]
    before = state(seen)
    seen.write("usage", text(rows))

    with pytest.raises(
        SchemaDrift, match=f"'usage' must be shaped as on 2025-06-01 \\(schema_drift\\); .*{said}"
    ) as stop:
        open_tables(seen.settings(), now=TODAY)

    assert stop.value.exit_code == 65
    assert "tenure check --accept" in str(stop.value)
    assert state(seen) == before


def test_a_column_that_is_there_twice_stops_the_run_before_any_write(seen):
    before = state(seen)
    header, *rows = text(use()).splitlines()
    seen.write("usage", "\n".join([header + ",quantity", *(row + ',"1"' for row in rows)]))

    with pytest.raises(DataError, match=r"must name each column once \(schema_drift\); found \['quantity'\]") as stop:
        open_tables(seen.settings(), now=TODAY)
    assert stop.value.exit_code == 65
    assert state(seen) == before


@pytest.mark.parametrize("mutation", HARMLESS)
def test_a_harmless_change_is_told_and_passes(seen, mutation):
    rows, said = HARMLESS[mutation]
    seen.write("usage", text(rows))

    tables = open_tables(seen.settings(), now=TODAY)

    assert said in tables.warnings
    assert tables.loaded["usage"].kept == 60
    assert open_tables(seen.settings(), now=TODAY).warnings == ()


def test_a_new_value_of_an_enumeration_sets_its_row_aside(seen):
    seen.write("usage", text(changed(kind=lambda row, at: "teleport" if at == 3 else row["kind"])))

    tables = open_tables(seen.settings(), now=TODAY)

    assert [(row["row_number"], row["rule"]) for row in tables.quarantine.to_pylist()] == [(4, "enum")]
    assert tables.warnings == ("usage: column 'kind' has values it did not have: teleport",)


def parquet(company, **columns):
    """The usage of `use`, typed, with some columns replaced."""
    rows = use()
    typed = {
        "account_id": pa.array([row["account_id"] for row in rows]),
        "event_at": pa.array([datetime.fromisoformat(row["event_at"]) for row in rows]),
        "quantity": pa.array([float(row["quantity"]) for row in rows]),
        "kind": pa.array([row["kind"] for row in rows]),
    }
    pq.write_table(pa.table({**typed, **columns}), company.folder / "usage.parquet")
    return company.map("usage", 'path = "usage.parquet"')


def test_a_typed_column_may_change_to_a_type_that_reads_the_same(seen):
    open_tables(parquet(seen).settings(), now=YESTERDAY, accept=True)
    parquet(seen, quantity=pa.array([float(row["quantity"]) for row in use()]).cast(pa.decimal128(18, 2)))

    tables = open_tables(seen.settings(), now=TODAY)

    assert tables.warnings == ("usage: column 'quantity' is now of type DECIMAL(18,2), before DOUBLE",)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("account_id", list(range(60)), "column 'account_id' of ids as BIGINT, before VARCHAR"),
        ("quantity", ["x"] * 60, "column 'quantity' of another type, text in place of number"),
        (
            "event_at",
            pa.array([datetime(2025, 5, 1)] * 60).cast(pa.timestamp("us", tz="UTC")),
            "column 'event_at' in another time zone",
        ),
    ],
    ids=["ids", "numbers", "times"],
)
def test_a_typed_column_of_another_kind_stops_the_run(seen, column, values, said):
    open_tables(parquet(seen).settings(), now=YESTERDAY, accept=True)
    parquet(seen, **{column: values})

    with pytest.raises(SchemaDrift, match=said):
        open_tables(seen.settings(), now=TODAY)


def test_what_nothing_reads_may_come_and_go(seen):
    seen.write("usage", text(changed(note=lambda row, at: "x")))
    open_tables(seen.settings(), now=YESTERDAY)
    seen.write("usage", text(use()))

    assert open_tables(seen.settings(), now=TODAY).warnings == ("usage: column 'note', which nothing reads, is gone",)


def test_a_column_that_an_expression_reads_is_missed(seen):
    seen.write("usage", text([{**row, "seconds": str(at + 1)} for at, row in enumerate(use())]))
    seen.map("usage", 'path = "usage.csv"\ncolumns = { minutes = "seconds::double / 60" }')
    open_tables(seen.settings(), now=YESTERDAY)
    seen.write("usage", text([{**row, "secs": str(at + 1)} for at, row in enumerate(use())]))

    with pytest.raises(SchemaDrift, match="column 'seconds' gone, and the new column 'secs' looks like it"):
        open_tables(seen.settings(), now=TODAY)


def test_another_mapping_is_another_shape_by_intention(seen):
    seen.write("usage", text(renamed())).map("usage", 'path = "usage.csv"\ncolumns = { quantity = "units" }')

    assert open_tables(seen.settings(), now=TODAY).loaded["usage"].kept == 60


def test_a_change_is_accepted_once_and_for_all(seen):
    seen.write("usage", text(BREAKING["unit"][0]))
    with pytest.raises(SchemaDrift):
        open_tables(seen.settings(), now=TODAY)

    accepted = CliRunner().invoke(tenure.main, ["check", "--accept", "--config", str(seen.settings().path)])

    assert accepted.exit_code == 0, accepted.stderr
    assert open_tables(seen.settings(), now=TODAY).warnings == ()


def test_a_damaged_profile_is_made_anew(seen):
    path = seen.folder / ".tenure" / PROFILE_FILE
    path.write_text('{"tables": {"usage": 3}}')
    seen.write("usage", text(renamed()))

    open_tables(seen.settings(), now=TODAY)

    assert set(read_profile(seen.settings())) == {"accounts", "contracts", "usage"}


def test_the_profile_holds_no_value_of_a_person(seen):
    seen.write("accounts", "account_id,name,started_at\n" + "\n".join(f"a{at},Jo,2024-01-01" for at in range(10)))
    open_tables(seen.settings(), now=TODAY)

    written = (seen.folder / ".tenure" / PROFILE_FILE).read_text()

    assert "Jo" not in written
    assert '"a1"' not in written
    facts = json.loads(written)["tables"]["usage"]
    assert facts["rows"] == 60
    assert facts["columns"]["kind"]["values"] == ["action", "login"]
    assert sum(facts["days"].values()) == 60


# Stale, empty and half-loaded input


def daily(last, *, rows=40, on_last=40):
    """Six weeks of usage, `rows` a day, `on_last` on the last."""
    days = [last - timedelta(days=back) for back in range(42)]
    lines = [
        f"a{at % 10},{day} {at // 60:02}:{at % 60:02}:01,1"
        for day in days
        for at in range(on_last if day == last else rows)
    ]
    return "\n".join(["account_id,event_at,quantity", *lines])


@pytest.fixture
def busy(seen):
    """A company with forty rows of usage a day, read yesterday."""
    seen.write("usage", daily(date(2025, 5, 31))).map("usage", 'path = "usage.csv"\ncolumns = { is_core = "true" }')
    open_tables(seen.settings(), now=YESTERDAY)
    return seen


def test_a_half_loaded_day_stops_the_run_before_any_write(busy):
    before = state(busy)
    busy.write("usage", daily(date(2025, 6, 1), on_last=14))

    with pytest.raises(
        RowCountAnomaly,
        match=r"'usage' must hold about 40 rows on 2025-06-01, .* \(row_count_anomaly\); found 14\.",
    ) as stop:
        open_tables(busy.settings(), now=TODAY)

    assert stop.value.exit_code == 65
    assert state(busy) == before


@pytest.mark.parametrize("on_last", [26, 40, 90])
def test_a_day_within_what_is_usual_passes(busy, on_last):
    busy.write("usage", daily(date(2025, 6, 1), on_last=on_last))

    assert open_tables(busy.settings(), now=TODAY).loaded["usage"].kept == 41 * 40 + on_last


def test_the_day_that_is_not_over_yet_is_not_judged(busy):
    busy.write("usage", daily(date(2025, 6, 2), on_last=3))

    assert open_tables(busy.settings(), now=TODAY).loaded["usage"].rows == 41 * 40 + 3


def test_a_holiday_is_accepted_once_and_does_not_stop_later_runs(busy):
    busy.write("usage", daily(date(2025, 6, 1), on_last=5))
    open_tables(busy.settings(), now=TODAY, accept=True)

    assert open_tables(busy.settings(), now=TODAY + timedelta(days=1)).loaded["usage"].rows == 41 * 40 + 5


@pytest.mark.parametrize("kept", [0, 10, 20, 30])
def test_a_table_cut_to_half_stops_the_run_before_any_write(seen, kept):
    before = state(seen)
    seen.write("usage", "\n".join(text(use()).splitlines()[: kept + 1]))

    with pytest.raises(RowCountAnomaly, match=rf"more than half of the 60 rows of 2025-06-01 .*found {kept}\."):
        open_tables(seen.settings(), now=TODAY)
    assert state(seen) == before


def test_a_table_that_shrinks_by_less_passes(seen):
    seen.write("usage", "\n".join(text(use()).splitlines()[:32]))

    assert open_tables(seen.settings(), now=TODAY).loaded["usage"].rows == 31


def test_accounts_without_a_row_stop_the_run_whatever_was_before(seen):
    seen.write("accounts", "account_id,started_at")
    before = state(seen)

    with pytest.raises(EmptyTable):
        open_tables(seen.settings(), now=TODAY, accept=True)
    assert state(seen) == before


def test_a_table_that_lies_there_as_before_is_not_measured_again(seen):
    facts = read_profile(seen.settings())
    path = seen.settings().state_dir / PROFILE_FILE
    told = json.loads(path.read_text())
    for table in told["tables"].values():
        table["rows"] += 1  # It is seen where these numbers come from.
    path.write_text(json.dumps(told))
    contracts = seen.folder / "contracts.csv"
    contracts.write_text(contracts.read_text())  # The same rows, written again.

    seen.open()

    after = read_profile(seen.settings())
    assert {name: after[name].rows - facts[name].rows for name in facts} == {"accounts": 1, "contracts": 0, "usage": 1}


def test_who_is_erased_makes_a_table_another_one(seen):
    before = fingerprint(seen.settings(), "accounts")
    register = register_path(seen.settings().state_dir)
    register.parent.mkdir(parents=True, exist_ok=True)
    register.write_text('{"erasures": []}')

    assert fingerprint(seen.settings(), "accounts") != before
