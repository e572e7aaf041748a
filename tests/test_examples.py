"""Every feature's worked examples hold: all of them together are one company, built once."""

from __future__ import annotations

import math
from datetime import datetime

import pytest

from features.build import feature_table
from features.catalogue import FEATURES
from features.examples import AS_OF
from features.settings import LabelSettings, read_settings
from features.tables import open_tables
from tests.example_company import EXAMPLES, write_examples


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The feature rows of all examples by account."""
    config = write_examples(tmp_path_factory.mktemp("examples"))
    opened = open_tables(read_settings(config), now=datetime(2025, 6, 1))
    assert opened.quarantine.to_pylist() == []
    return {row["account_id"]: row for row in feature_table(opened, [AS_OF], LabelSettings()).to_pylist()}


@pytest.mark.parametrize(("name", "account", "example"), EXAMPLES, ids=[account for _, account, _ in EXAMPLES])
def test_the_value_is_the_one_worked_out_by_hand(rows, name, account, example):
    assert account in rows, "the example's account must be active at the instant"
    found = rows[account][name]

    if example.value is None or found is None:
        assert found == example.value
    else:
        assert found == pytest.approx(example.value, abs=1e-7)
        assert math.isfinite(found)


@pytest.mark.parametrize("item", FEATURES, ids=lambda item: item.name)
def test_every_feature_has_an_example_in_which_it_says_something(item):
    assert any(example.value not in (None, 0) for example in item.examples)
