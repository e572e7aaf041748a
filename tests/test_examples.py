"""Every feature's worked examples hold: all of them together are one company, built once."""

from __future__ import annotations

import csv
import math
from datetime import datetime

import pytest

from features.build import feature_table
from features.catalogue import FEATURES
from features.examples import AS_OF
from features.settings import LabelSettings, read_settings
from features.tables import open_tables

EXAMPLES = [
    pytest.param(item.name, f"{item.name}.{number}", example, id=f"{item.name}-{number}")
    for item in FEATURES
    for number, example in enumerate(item.examples)
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The feature rows of all examples by account."""
    folder = tmp_path_factory.mktemp("examples")
    tables = {}
    for parameters in EXAMPLES:
        _, account, example = parameters.values
        for name, lines in example.rows(account).items():
            tables.setdefault(name, []).extend(lines)
    for name, lines in tables.items():
        columns = list(dict.fromkeys(column for line in lines for column in line))
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(lines)
    (folder / "tenure.toml").write_text("\n".join(f'[tables.{name}]\npath = "{name}.csv"' for name in tables))
    opened = open_tables(read_settings(folder / "tenure.toml"), now=datetime(2025, 6, 1))
    assert opened.quarantine.to_pylist() == []
    return {row["account_id"]: row for row in feature_table(opened, [AS_OF], LabelSettings()).to_pylist()}


@pytest.mark.parametrize(("name", "account", "example"), EXAMPLES)
def test_the_value_is_the_one_worked_out_by_hand(rows, name, account, example):
    assert account in rows, "the example's account must be active at the instant"
    found = rows[account][name]

    if example.value is None or found is None:
        assert found == example.value
    else:
        assert found == pytest.approx(example.value, abs=1e-7)
        assert math.isfinite(found)
