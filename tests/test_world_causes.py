"""Claims about what moves a generated company: seasons, parents, a drift, and the knobs that set them."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from features.world import World
from features.world.stream import write_usage


def played(accounts, months, **options):
    world = World(accounts, start=date(2024, 1, 1), **options)
    for month in range(months):
        world.advance(month)
    return world


def month_of(rows, column):
    return rows[column].dt.to_period("M").dt.start_time


@pytest.fixture(scope="module")
def world():
    return played(1200, 13, seed=4)


def test_seasons_dip_the_use_and_not_the_risk(world):
    usage, risk = world.tables()["usage"].to_pandas(), world.truth()["probability"].to_pandas()
    weekdays = usage[usage["event_at"].dt.day_of_week < 5]
    days = weekdays.groupby(weekdays["event_at"].dt.floor("D")).size()
    level = risk.groupby("as_of")["probability"].mean()

    august, around = days["2024-08"].mean(), pd.concat([days["2024-06"], days["2024-09"]]).mean()
    assert august < 0.93 * around
    assert days["2024-12-23":"2024-12-31"].mean() < 0.6 * days["2024-12-02":"2024-12-20"].mean()
    assert level["2024-08-01"] == pytest.approx(level[["2024-06-01", "2024-10-01"]].mean(), rel=0.1)


def test_about_fifteen_percent_of_the_accounts_share_a_parent_in_groups_of_two_to_five(world):
    sizes = world.tables()["accounts"]["parent_id"].to_pandas().value_counts()

    assert sizes.between(1, 5).all(), "an account that is yet to join is not told of"
    assert sizes.max() > 3
    assert 0.12 < sizes.sum() / 1200 < 0.16


def test_the_fate_of_accounts_with_one_parent_is_akin():
    """Chance alone gives a correlation of about 0.03 over a thousand pairs: three times that is asked for."""
    world = played(6000, 1, seed=4)
    tables, risk = world.tables(), world.truth()["probability"].to_pandas()
    parents = tables["accounts"].select(["account_id", "parent_id"]).to_pandas().dropna()
    logit = np.log(risk["probability"] / (1 - risk["probability"]))
    risk = risk.assign(logit=logit - logit.groupby(risk["as_of"]).transform("mean")).merge(parents, on="account_id")
    pairs = risk.merge(risk, on=["parent_id", "as_of"], suffixes=("", "_kin"))
    pairs = pairs[pairs["account_id"] < pairs["account_id_kin"]]
    strangers = np.random.default_rng(1).permutation(pairs["logit_kin"].to_numpy())

    assert np.corrcoef(pairs["logit"], pairs["logit_kin"])[0, 1] > 0.09
    assert abs(np.corrcoef(pairs["logit"], strangers)[0, 1]) < 0.09


def test_from_the_drift_on_core_use_halves_and_the_past_is_untouched():
    usual, changed = (played(300, 6, seed=4, drift_month=month) for month in (None, 4))
    before, after = (world.tables()["usage"].to_pandas() for world in (usual, changed))
    share = [rows.groupby(month_of(rows, "event_at"))["is_core"].mean() for rows in (before, after)]

    pd.testing.assert_series_equal(share[0].iloc[:4], share[1].iloc[:4])
    assert (share[1] / share[0]).iloc[4:].between(0.45, 0.55).all()


def test_from_the_drift_on_accounts_leave_for_other_reasons():
    cause = []
    for month in (None, 0):
        decisions = played(1500, 5, seed=4, churn_rate=0.4, drift_month=month).truth()["decisions"].to_pandas()
        cause.append(decisions["cause"].value_counts(normalize=True))

    assert cause[1]["adoption"] < 0.7 * cause[0]["adoption"]
    assert cause[1]["service"] > 1.2 * cause[0]["service"]


def test_a_knob_out_of_range_or_without_name_is_refused():
    with pytest.raises(ValueError, match=r"late_share and wrong_share must be in \[0, 1\); found 1.0 and 0.0"):
        World(20, late_share=1.0)
    with pytest.raises(TypeError, match="found \\['lateshare'\\]"):
        World(20, lateshare=0.1)


def test_a_streamed_company_has_the_events_asked_for_in_a_file_a_month(tmp_path):
    for name in ("one", "two"):
        write_usage(tmp_path / name, accounts=300, months=3, events=600_001, seed=2)
    files = sorted((tmp_path / "one" / "usage").iterdir())
    months = [pd.read_parquet(file) for file in files]
    people = pd.concat(months)[["account_id", "user_id"]].astype(str).drop_duplicates()

    assert [file.name for file in files] == ["2024-01.parquet", "2024-02.parquet", "2024-03.parquet"]
    assert sum(map(len, months)) == 600_001
    assert all(set(month_of(rows, "event_at")) == {pd.Timestamp(file.stem)}
               for file, rows in zip(files, months, strict=True))  # fmt: skip
    assert (people["user_id"].str[:9] == people["account_id"]).all()
    assert set(people["account_id"]) <= set(pd.read_parquet(tmp_path / "one" / "accounts.parquet")["account_id"])
    assert all(file.read_bytes() == (tmp_path / "two" / "usage" / file.name).read_bytes() for file in files)


def test_a_streamed_company_needs_events(tmp_path):
    with pytest.raises(ValueError, match="found 5, 2, 0"):
        write_usage(tmp_path, accounts=5, months=2, events=0)
