"""What a notebook gets: features and data sets as DataFrames, on the path of everything else."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def march(project):
    return project.features(datetime(2025, 3, 1))


@pytest.fixture(scope="module")
def data(project):
    return project.dataset()


def test_features_come_as_a_frame_with_one_row_per_active_account(march):
    rows = march

    assert isinstance(rows, pd.DataFrame)
    assert rows.account_id.is_unique
    assert set(rows.as_of) == {pd.Timestamp("2025-03-01")}


def test_several_instants_give_the_rows_of_each(project, march):
    both = project.features([datetime(2025, 2, 1), datetime(2025, 3, 1)])

    pd.testing.assert_frame_equal(both[both.as_of == "2025-03-01"].reset_index(drop=True), march)


def test_a_data_set_has_features_labels_groups_and_instants_in_one_order(data):
    assert len(data.X) == len(data.y) == len(data.groups) == len(data.instants) > 1000
    assert set(np.unique(data.y)) == {0, 1}
    assert list(data.X.columns) == list(data.features)
    assert data.instants.is_monotonic_increasing
    assert data.groups.notna().all()


def test_the_data_set_and_the_features_of_an_instant_are_the_same_rows(project, data):
    instant = data.instants.iloc[-1]
    features = project.features(instant.to_pydatetime()).set_index("account_id")

    then = data.at(instant).set_index("account_id")[list(data.features)]

    pd.testing.assert_frame_equal(then, features.loc[then.index, list(data.features)], check_dtype=False)
