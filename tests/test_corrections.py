"""Labels put right by hand: which losses they take back or add, from when on, and the file that remembers them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pandas as pd
import pytest
from click.testing import CliRunner

import tenure
from features.build import feature_table
from features.correct import correct, undo
from features.corrections import audit_lines, read_corrections
from features.errors import ConfigurationError, DataError, Misuse
from features.labels import labelled
from features.maturity import maturity
from features.settings import LabelSettings
from features.snapshots import Span

AS_OF = datetime(2025, 1, 1)
UNTIL = datetime(2025, 5, 1)
LABEL = LabelSettings()
ACCOUNTS = ("left", "stays", "again", "noticed")
CONTRACTS = """account_id,contract_id,start_at,cancelled_at,ended_at,mrr
    left,c1,2024-01-01,,2025-02-10,100
    stays,c2,2024-01-01,,,100
    again,c3,2024-01-01,,2025-01-20,100
    again,c4,2025-03-20,,,100
    noticed,c5,2024-01-01,2025-02-10,2025-03-31,100"""
SAID = {"into_account_id": None, "by": "kim", "reason": "they told us"}


@pytest.fixture
def shop(company):
    """A company with one loss each of three accounts, and one that stays."""
    company.write("accounts", "\n".join(["account_id", *ACCOUNTS]))
    return company.write("contracts", CONTRACTS)


def corrected_by(shop, rows, *, header="account_id,kind,at,into_account_id,known_at"):
    """The company with a file of corrections."""
    (shop.folder / "corrections.csv").write_text("\n".join([header, *rows]) + "\n")
    shop.extra = '[label]\ncorrections = "corrections.csv"'
    return shop


def churned(tables, *instants):
    """The label of every account at the instants, by default 2025-01-01."""
    rows = labelled(tables, instants or [AS_OF], LABEL, until=UNTIL, delay_days=0).to_pyarrow().to_pylist()
    return {row["account_id"]: row["churned"] for row in rows}


def test_what_nobody_corrected_stands(shop):
    assert churned(shop.open()) == {"left": 1, "stays": 0, "again": 1, "noticed": 1}


def test_a_file_takes_losses_back_and_adds_others(shop):
    rows = ["left,merged,2025-02-01,stays,2025-03-01", "stays,churned,2025-03-15,,2025-04-01"]
    rows += ["again,did_not_churn,2025-01-25,,2025-04-01", "noticed,did_not_churn,2025-04-05,,2025-04-01"]

    assert churned(corrected_by(shop, rows).open()) == {"left": 0, "stays": 1, "again": 0, "noticed": 0}


def test_a_correction_of_another_time_changes_nothing(shop):
    rows = ["left,did_not_churn,2024-11-01,,2025-03-01", "stays,churned,2025-04-02,,2025-04-03"]

    assert churned(corrected_by(shop, rows).open()) == {"left": 1, "stays": 0, "again": 1, "noticed": 1}


def test_a_correction_that_is_not_known_yet_changes_nothing(shop):
    rows = ["left,did_not_churn,2025-02-10,,2025-06-02"]

    assert churned(corrected_by(shop, rows).open())["left"] == 1


def test_of_two_corrections_by_hand_the_later_holds(shop):
    rows = ["stays,churned,2025-03-15,,2025-04-01", "stays,did_not_churn,2025-03-15,,2025-04-02"]
    rows += ["left,did_not_churn,2025-02-10,,2025-04-01", "left,churned,2025-02-10,,2025-04-02"]
    labels = churned(corrected_by(shop, rows).open())

    assert (labels["stays"], labels["left"]) == (0, 1)


def test_labels_as_known_before_a_correction_stay_as_they_were(shop):
    rows = ["left,did_not_churn,2025-02-10,,2025-05-20", "stays,churned,2025-03-15,,2025-05-20"]
    tables = corrected_by(shop, rows).open()
    labels = maturity(tables, Span(datetime(2024, 1, 1), datetime(2025, 6, 1)), LABEL, min_lost=1, instants=[AS_OF])

    def known(*moment):
        rows = labels.known_at(datetime(*moment)).set_index("account_id").churned
        return rows["left"], rows["stays"]

    assert known(2025, 5, 10) == (1, 0)
    assert known(2025, 5, 20) == (0, 1)


def test_who_is_known_to_have_left_is_scored_no_more(shop):
    tables = corrected_by(shop, ["stays,churned,2025-03-15,,2025-04-01"]).open()
    rows = feature_table(tables, [datetime(2025, 3, 20), datetime(2025, 4, 2)], LABEL).to_pylist()

    assert [row["as_of"].day for row in rows if row["account_id"] == "stays"] == [20]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("left,gone,2025-02-10,,", "a kind of .* found row 1 of corrections.csv"),
        ("left,churned,soon,,", "dates such as 2025-03-31; found row 1"),
        ("left,churned,,,2025-03-01", "found none in row 1"),
        ("left,renamed,2025-02-10,,", "another into_account_id; found row 1"),
    ],
)
def test_a_faulty_row_is_refused_by_its_number(shop, row, said):
    with pytest.raises(DataError, match=said):
        corrected_by(shop, [row]).open()


def test_a_file_that_is_not_there_is_refused(shop):
    shop.extra = '[label]\ncorrections = "elsewhere.csv"'

    with pytest.raises(ConfigurationError, match="must be a CSV or Parquet file"):
        shop.open()


def test_a_parquet_file_counts_like_a_csv(shop):
    rows = pd.DataFrame({"account_id": ["left"], "kind": ["did_not_churn"], "at": [pd.Timestamp(2025, 2, 10)]})
    rows.to_parquet(shop.folder / "corrections.parquet")
    shop.extra = '[label]\ncorrections = "corrections.parquet"'

    assert churned(shop.open())["left"] == 0


# The audit file

NOW = datetime(2025, 5, 30, 10, tzinfo=UTC)


def test_a_correction_is_a_line_with_what_it_changes(shop):
    settings, tables = shop.settings(), shop.open()
    line = correct(tables, settings, "left", kind="did_not_churn", said={"at": None, **SAID}, now=NOW)

    assert (line["before"], line["after"], line["at"]) == ("lost 2025-02-10", "no loss", "2025-02-10")
    assert audit_lines(settings) == [line]
    assert churned(shop.open())["left"] == 0


def test_undoing_writes_another_line_and_brings_the_loss_back(shop):
    settings, tables = shop.settings(), shop.open()
    line = correct(tables, settings, "left", kind="did_not_churn", said={"at": None, **SAID}, now=NOW)
    first = (settings.state_dir / "corrections.jsonl").read_bytes()
    taken_back = undo(tables, settings, line["id"], said={"by": "kim", "reason": "wrong account"}, now=NOW)

    assert (taken_back["before"], taken_back["after"]) == ("no loss", "lost 2025-02-10")
    assert (settings.state_dir / "corrections.jsonl").read_bytes().startswith(first)
    assert churned(shop.open())["left"] == 1
    with pytest.raises(Misuse, match="undone before"):
        undo(tables, settings, line["id"], said={"by": "kim", "reason": "again"}, now=NOW)


def test_a_line_cut_short_was_never_written_and_spoils_none_after_it(shop):
    settings, tables = shop.settings(), shop.open()
    settings.state_dir.mkdir(exist_ok=True)
    (settings.state_dir / "corrections.jsonl").write_text('{"id": "cut", "account_id": "le')
    line = correct(tables, settings, "stays", kind="churned", said={"at": "2025-03-15", **SAID}, now=NOW)

    assert [item.id for item in read_corrections(settings)] == [line["id"]]


@pytest.mark.parametrize(
    ("account", "kind", "at", "said"),
    [
        ("nobody", "churned", None, "found 'nobody'"),
        ("left", "churned", "2025-07-01", "must not be after 2025-05-30"),
        ("left", "did_not_churn", "2024-06-01", "within a month of a loss of left; it has lost 2025-02-10"),
        ("stays", "did_not_churn", None, "it has no loss"),
    ],
)
def test_a_correction_of_what_is_not_there_is_refused_and_not_written(shop, account, kind, at, said):
    settings, tables = shop.settings(), shop.open()

    with pytest.raises(Misuse, match=said):
        correct(tables, settings, account, kind=kind, said={"at": at, **SAID}, now=NOW)
    assert audit_lines(settings) == []


def test_the_command_says_what_it_changed(shop):
    shop.settings()
    config = f"--config={shop.folder / 'tenure.toml'}"
    command = ["correct", "left", "--kind=renamed", "--into=stays", "--reason=new name", "--by=kim", config]
    done = CliRunner().invoke(tenure.main, command)
    listed = json.loads(CliRunner().invoke(tenure.main, [*command, "--json"]).stdout)

    assert done.exit_code == 0, done.stderr
    assert "left renamed 2025-02-10. Before: lost 2025-02-10. After: no loss." in done.stdout
    assert (listed["before"], listed["by"], listed["into_account_id"]) == ("no loss", "kim", "stays")
    assert CliRunner().invoke(tenure.main, ["correct", "--reason=x", "--by=kim", config]).exit_code == 2
