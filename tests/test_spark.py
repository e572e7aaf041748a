"""Expressions stay portable: families of every kind give on Spark what they give on DuckDB."""

from __future__ import annotations

import os
import shutil
import sys

import ibis
import pytest

from features.build import KEYS, feature_table
from features.catalogue import FAMILIES
from features.data_contract import CONTRACT
from features.examples import AS_OF
from features.family import Family
from features.rollup import ROLLUPS
from features.settings import LabelSettings, read_settings
from features.sources import CLEAN
from features.tables import Tables, open_tables
from features.windows import instants_table, masked
from tests.example_company import write_examples

# PySpark 4 asks pandas 3 in ways that it no longer likes; what comes back is compared value by value.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

KINDS = {
    "usage": "sums by age, distinct days, windows before windows",
    "recency": "the least age over all of the past",
    "users": "two steps of grouping",
    "bought_features": "versions, a join of two sources, distinct counts under a condition",
    "support": "outcomes blanked, versions by id",
    "promises": "limits that fall due",
    "nps": "row numbers, the answer before of the same contact",
    "csat": "rescaled scores",
    "contract": "planned ends rolled on by months",
    "contract_before": "the past of the past",
    "waits": "Kaplan-Meier medians of what is still open",
    "payment_times": "medians now and half a year ago",
    "billing": "money over money",
}


@pytest.fixture(scope="module")
def duck(tmp_path_factory):
    """All worked examples as one company, built by DuckDB."""
    config = write_examples(tmp_path_factory.mktemp("examples"))
    opened = open_tables(read_settings(config), now=AS_OF)
    feature_table(opened, [AS_OF], LabelSettings())
    return opened


@pytest.fixture(scope="module")
def spark(duck, tmp_path_factory):
    """The same clean tables and roll-ups, read by Spark from Parquet."""
    if shutil.which("java") is None:
        assert os.environ.get("CI") != "true", "Java 17 must be installed where CI=true; found no java."
        pytest.skip("Java 17 is not installed")
    from pyspark import sql

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        sql.SparkSession.builder.master("local[1]")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    folder = tmp_path_factory.mktemp("clean")
    session.sql(f"create database {CLEAN}")
    for name in [table.name for table in CONTRACT if table.name != "usage"] + [rollup.name for rollup in ROLLUPS]:
        duck.backend.raw_sql(f"copy {CLEAN}.{name} to '{folder}/{name}.parquet'")
        session.sql(f"create table {CLEAN}.{name} using parquet location '{folder}/{name}.parquet'")
    backend = ibis.pyspark.connect(session)
    yield Tables(
        backend=backend,
        loaded=duck.loaded,
        quarantine=duck.quarantine,
        usage_period=duck.usage_period,
        compiled=duck.compiled,
    )
    session.stop()


def aggregated(family: Family, tables: Tables):
    rows = family.rows(tables, instants_table(tables.backend, [AS_OF], name="feature_instants"))
    values = {name: item.formula(masked(rows, item.window)) for name, item in family.aggregates().items()}
    numbers = {name: value.cast("double") for name, value in values.items()}
    found = rows.group_by(*KEYS).agg(**numbers).to_pandas()
    return found.sort_values("account_id").reset_index(drop=True)


SOME = ("users", "bought_features", "support", "waits", "contract")
"""Enough kinds to notice an expression that does not travel; `make test-full` has all."""


@pytest.mark.parametrize("name", KINDS if os.environ.get("HYPOTHESIS_PROFILE") == "full" else SOME)
def test_a_family_is_the_same_on_both_engines(duck, spark, name):
    family = next(item for item in FAMILIES if item.name == name)
    ours, theirs = aggregated(family, duck), aggregated(family, spark)

    assert ours.account_id.tolist() == theirs.account_id.tolist()
    for column in family.aggregates():
        assert ours[column].isna().tolist() == theirs[column].isna().tolist()
        assert theirs[column].dropna().tolist() == pytest.approx(ours[column].dropna().tolist(), rel=1e-9)
