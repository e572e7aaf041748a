"""A ready-made table of features is trained, judged, registered and scored by the rules of everything else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import tenure
from features.errors import DataError
from training.flat import read_table

SHARED = Path(os.environ.get("TENURE_SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))

pytestmark = [
    # MLflow 3.17 on SQLAlchemy 2.1 and pandas 3, while its tables are set up and an example is looked at.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
    pytest.mark.filterwarnings("ignore:Starting with pandas version 4.0 all arguments of all:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


def table_of(folder, rows=1500, seed=0, **more):
    """A table in which `risk` tells of the loss, with text, a date, blanks and an id per row."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=rows)
    lost = rng.random(rows) < 1 / (1 + np.exp(2 - 1.5 * risk))
    plan = np.where(rng.random(rows) < 0.5, "Pro (annual)", "Basic")
    frame = pd.DataFrame(
        {
            "Customer ID": [f"{number:04d}" for number in range(rows)],
            "Risk Level": np.where(rng.random(rows) < 0.05, "", risk.round(4).astype(str)),
            "plan": plan,
            "region": rng.choice(["north", "south", "west"], rows),
            "signed": "2023-05-01",
            "contact": [f"person {number}" for number in range(rows)],
            "Churn?": np.where(lost, "Yes", "No"),
            **more,
        }
    )
    frame.to_csv(folder / "accounts.csv", index=False)
    return folder / "accounts.csv"


def train(path, *more):
    arguments = ["train", "--table", str(path), "--id", "Customer ID", "--label", "Churn?", "--draws", "50", "--json"]
    done = CliRunner().invoke(tenure.main, [*arguments, *more])
    assert done.exit_code == 0, f"{done.stderr} {done.exception!r}"
    return json.loads(done.stdout)


def test_columns_become_numbers_and_the_rest_is_named(tmp_path):
    table = read_table(table_of(tmp_path), id_column="Customer ID", label_column="Churn?", time_column=None)

    assert table.features == ("risk_level", "plan_pro_annual", "region_north", "region_south", "region_west")
    assert table.left_out == ("signed (one value)", "contact (1500 different texts)")
    assert set(table.rows.account_id.head(3)) == {"0000", "0001", "0002"}
    assert table.rows.risk_level.isna().sum() > 30, "a blank is missing, not zero"


def test_a_table_is_trained_judged_registered_and_scored(tmp_path):
    path = table_of(tmp_path)
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows.loc[:99, "Churn?"] = ""
    rows.to_csv(path, index=False)

    found = train(path)
    scores = pd.read_csv(found["scores"], dtype={"account_id": str})

    assert (found["version"], found["alias"]) == ("1", "champion")
    assert found["metrics"]["auc"]["low"] > 0.7
    assert set(found["baselines"]) == {"prior", "logistic"}
    assert found["rows"] == 1400
    assert set(scores.account_id[~scores.held_out]) == {f"{number:04d}" for number in range(100)}
    assert scores.held_out.sum() == 1400, "no row with a label is scored by a model that learned from it"
    assert scores.probability.is_monotonic_decreasing
    assert {path.name for path in (tmp_path / ".tenure").iterdir()} >= {"mlflow.db", "signing.key"}


def test_with_a_time_folds_are_later_and_the_optimism_is_told(tmp_path):
    rng = np.random.default_rng(0)
    months = pd.date_range("2023-01-01", periods=12, freq="MS").strftime("%Y-%m-%d")
    found = train(table_of(tmp_path, rows=3000, month=rng.choice(months, 3000)), "--time", "month")

    assert found["instants"][0] >= "2023-06-01"
    assert len(found["instants"]) >= 3
    assert found["views"]["optimism"]["random_split_auc"] is not None


def test_a_planted_leak_is_named_and_the_version_is_no_champion(tmp_path):
    path = table_of(tmp_path)
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    lost = np.flatnonzero((rows["Churn?"] == "Yes").to_numpy())
    rows["exit interview score"] = ""
    rows.loc[lost[: len(lost) // 3], "exit interview score"] = "3"
    rows["answered"] = np.where(rows["exit interview score"] == "3", "1", np.where(rows.index % 50 == 0, "0", ""))
    rows.drop(columns="exit interview score").to_csv(path, index=False)

    found = train(path)

    assert found["alias"] == "challenger"
    assert any("answered" in fault for fault in found["leakage"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label_column": "Churned"}, "must have the column 'Churned' of --label"),
        ({"label_column": "region"}, r"must say with 'region' who was lost: .* found \['north', 'south', 'west'\]"),
        ({"time_column": "plan"}, "must have a time in each 'plan'; row 1 holds"),
    ],
)
def test_a_table_that_says_something_else_is_refused_by_column(tmp_path, change, words):
    columns = {"id_column": "Customer ID", "label_column": "Churn?", "time_column": None} | change
    with pytest.raises(DataError, match=words):
        read_table(table_of(tmp_path), **columns)


def test_a_table_that_is_not_there_is_said_in_one_sentence(tmp_path):
    done = CliRunner().invoke(tenure.main, ["train", "--table", str(tmp_path / "x.csv"), "--id", "a", "--label", "b"])

    assert done.exit_code == 65
    assert done.stderr.startswith("tenure: --table must be a CSV or Parquet file; found nothing at")


SETS = {
    "Telco-Customer-Churn": ("customerID", "Churn", 0.80),
    "mlc_churn": (None, "churn", 0.86),
    "pysurvival_saas": (None, "churned", 0.85),
    "hr_attrition": ("rownames", "Attrition", 0.70),
}


def public_table(name, folder):
    """A copy of a public table to change, with the names of its id and its label."""
    source = SHARED / "flat" / f"{name}.csv"
    if not source.is_file():
        pytest.skip(f"third-party data is not here: {source}")
    ident, label, _ = SETS[name]
    rows = pd.read_csv(source, dtype=str, keep_default_na=False)
    if ident is None:
        ident = "row"
        rows[ident] = [f"r{number}" for number in range(len(rows))]
    return rows, folder / f"{name}.csv", ident, label


def trained_on(rows, path, ident, label):
    rows.to_csv(path, index=False)
    columns = ["--table", str(path), "--id", ident, "--label", label]
    done = CliRunner().invoke(tenure.main, ["train", *columns, "--draws", "200", "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long("four real tables")
@pytest.mark.parametrize("name", SETS)
def test_a_public_table_is_learned_about_as_well_as_others_did(tmp_path, name):
    assert trained_on(*public_table(name, tmp_path))["metrics"]["auc"]["low"] > SETS[name][2]


@pytest.mark.long("four real tables")
@pytest.mark.parametrize("name", SETS)
def test_a_leak_planted_in_a_public_table_is_named(tmp_path, name):
    """A field that somebody filled in for a third of those who left, and hardly ever for others."""
    rows, path, ident, label = public_table(name, tmp_path)
    is_lost = rows[label].str.lower().isin(["1", "1.0", "yes", "true"])
    lost = np.flatnonzero(is_lost.to_numpy())
    rows["exit_note"] = ""
    rows.loc[rows.index[lost[::3]], "exit_note"] = "1"
    rows.loc[rows.index[np.flatnonzero(~is_lost.to_numpy())[::200]], "exit_note"] = "0"
    found = trained_on(rows, path, ident, label)

    assert len(lost) > 50
    assert any("exit_note" in fault for fault in found["leakage"]), found["leakage"]
