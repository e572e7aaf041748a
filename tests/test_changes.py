"""What changed since the list before: told by band, split exactly, and without flapping at a limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from serving.changes import STAYS_ABOVE, Before, kind_of, settled_band
from serving.publication import list_before, publish
from serving.scoring import features_at, people_at
from tests.made_lists import speaking_champion, whole
from training.calibration import Calibrator
from training.model import fit_booster

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

THEN, NOW = datetime(2025, 4, 1), datetime(2025, 5, 1)
ORDER = ["critical", "high", "medium"]


@pytest.fixture(scope="module")
def champion(project):
    return speaking_champion(project.settings)


def made(project, champion, as_of, *, before=None, people=None):
    features = features_at(project.tables, project.settings, as_of)
    people = people_at(project.tables, project.settings, as_of) if people is None else people
    return whole(champion, features, people, as_of=as_of, before=before)


def as_before(found, champion, features=None):
    return Before(
        as_of=found.risk_list["as_of"], list_id="x", rows={row["account_id"]: row for row in found.risk_list["rows"]},
        contributions=found.contributions.set_index("account_id"), model=champion.model, artefact=champion.artefact,
        features=lambda: features.set_index("account_id"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def april(project, champion):
    return made(project, champion, THEN)


@pytest.fixture(scope="module")
def may(project, champion, april):
    return made(project, champion, NOW, before=as_before(april, champion))


def log_odds(probability):
    return np.log(probability / (1 - probability))


def moved(found):
    return {
        row["account_id"]: row["change"]["moved_by"] for row in found.risk_list["rows"] if row["change"]["moved_by"]
    }


def test_the_parts_of_a_move_add_up_to_the_move_of_the_log_odds(april, may):
    then = {row["account_id"]: row["probability"] for row in april.risk_list["rows"]}
    parts = moved(may)

    assert len(parts) > 100
    for row in may.risk_list["rows"]:
        if found := parts.get(row["account_id"]):
            whole = log_odds(row["probability"]) - log_odds(then[row["account_id"]])
            assert found["log_odds"] == pytest.approx(whole, abs=1e-9)
            assert found["features"] + found["model"] + found["calibration"] == pytest.approx(whole, abs=1e-9)


def test_under_one_model_only_features_move_anything(may):
    assert all(
        found["model"] == 0 and found["calibration"] == pytest.approx(0, abs=1e-12) for found in moved(may).values()
    )


def test_a_calibrator_that_moves_everything_is_named_as_such(project, champion, april):
    past = features_at(project.tables, project.settings, THEN)
    calibrator = champion.model.calibrator
    other = replace(
        champion, artefact="f" * 64,
        model=replace(champion.model, calibrator=Calibrator(calibrator.slope, calibrator.intercept + 0.5)),
    )  # fmt: skip
    found = made(project, other, THEN, before=replace(as_before(april, champion, past), as_of="2025-03-01"))

    for parts in moved(found).values():
        assert parts["calibration"] == pytest.approx(0.5, abs=1e-9)
        assert parts["features"] == pytest.approx(0, abs=1e-9)
        assert parts["model"] == pytest.approx(0, abs=1e-9)


@pytest.fixture(scope="module")
def other(champion, project):
    """The champion with other trees."""
    names = list(champion.model.features)
    rows = features_at(project.tables, project.settings, NOW)[names].to_numpy(dtype=float)
    leaves = np.random.default_rng(5).random(len(rows)) < 0.3
    parameters = {"objective": "binary", "num_threads": 1, "verbose": -1}
    booster = fit_booster(rows, leaves.astype(np.int8), names, parameters=parameters, rounds=9)
    return replace(champion, artefact="f" * 64, model=replace(champion.model, booster=booster))


def test_features_and_model_each_move_what_they_do_on_average_over_the_other(project, champion, april, other):
    past = features_at(project.tables, project.settings, THEN)
    present = features_at(project.tables, project.settings, NOW)
    found = moved(made(project, other, NOW, before=as_before(april, champion, past)))
    raw = {
        (model is other, rows is present): pd.Series(
            model.model.raw_scores(rows), index=pd.Index(rows.account_id), dtype=float
        )
        for model in (champion, other)
        for rows in (past, present)
    }
    by_features = (raw[False, True] - raw[False, False] + raw[True, True] - raw[True, False]) / 2
    by_model = (raw[True, False] - raw[False, False] + raw[True, True] - raw[False, True]) / 2
    slope = champion.model.calibrator.slope

    assert len(found) > 100
    for account, parts in found.items():
        assert parts["features"] == pytest.approx(slope * by_features[account], abs=1e-9)
        assert parts["model"] == pytest.approx(slope * by_model[account], abs=1e-9)
        assert parts["features"] + parts["model"] + parts["calibration"] == pytest.approx(parts["log_odds"], abs=1e-9)
    assert any(abs(parts["features"]) > 0.01 for parts in found.values())
    assert any(abs(parts["model"]) > 0.01 for parts in found.values())


def test_another_model_on_the_same_features_moves_all_itself(project, champion, april, other):
    past = features_at(project.tables, project.settings, THEN)
    before = replace(as_before(april, champion, past), as_of="2025-03-01")

    for parts in moved(made(project, other, THEN, before=before)).values():
        assert parts["features"] == pytest.approx(0, abs=1e-12)
        assert parts["groups"] == pytest.approx({}, abs=1e-12)


def test_a_feature_that_the_list_before_does_not_know_leaves_the_move_unsplit(project, champion, april, other):
    past = features_at(project.tables, project.settings, THEN).drop(columns=champion.model.features[0])

    assert moved(made(project, other, NOW, before=as_before(april, champion, past))) == {}


def test_without_the_model_before_the_change_is_told_but_not_split(project, champion, april):
    found = made(project, champion, NOW, before=replace(as_before(april, champion), model=None))

    assert moved(found) == {}
    assert any(row["change"]["probability_before"] for row in found.risk_list["rows"])


def test_who_left_is_named_with_what_became_of_them(project, champion, april, may):
    now = {row["account_id"] for row in may.risk_list["rows"]}
    left = {row["account_id"]: row["became"] for row in may.risk_list["left"]}

    assert set(left) == {row["account_id"] for row in april.risk_list["rows"]} - now
    assert left
    assert all(left.values())


def test_new_accounts_are_new_and_have_no_past(april, may):
    then = {row["account_id"] for row in april.risk_list["rows"]}
    new = [row for row in may.risk_list["rows"] if row["change"]["kind"] == "new"]

    assert new
    assert all(row["account_id"] not in then and row["change"]["probability_before"] is None for row in new)


def test_the_first_list_has_no_changes(april):
    assert all(row["change"] is None for row in april.risk_list["rows"])
    assert april.risk_list["left"] == []


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [("low", "high", "up"), ("critical", "medium", "down"), ("high", "high", "same"), ("medium", "low", "down")],
)
def test_up_and_down_are_told_by_band(before, now, kind):
    assert kind_of({"band": before}, now, ORDER) == kind


def test_a_score_that_swings_at_a_limit_enters_the_band_once(champion):
    limit = dict(champion.model.bands)["high"] * champion.model.base_rate
    band, entered = "medium", 0
    for night in range(40):
        was, swing = band, limit * (1 + 0.05 * (-1) ** night)
        band = settled_band(champion.model, swing, was)
        entered += band == "high" and was != "high"

    assert entered == 1
    assert settled_band(champion.model, limit * STAYS_ABOVE * 0.999, "high") == "medium"


@pytest.mark.parametrize("before", [None, "low", "a band of old"])
def test_without_a_band_before_the_limits_decide(champion, before):
    limit = dict(champion.model.bands)["high"] * champion.model.base_rate
    assert settled_band(champion.model, limit, before) == "high"
    assert settled_band(champion.model, limit * 0.999, before) == "medium"


def test_the_list_before_is_read_back_as_it_was_published(project, champion, april, tmp_path):
    settings = replace(project.settings, state_dir=tmp_path / "state")
    settings.state_dir.mkdir()
    features = features_at(project.tables, project.settings, THEN)
    folder = publish(april, features, settings)
    found = list_before(settings, NOW)

    assert found is not None
    assert found.list_id == folder.name
    pd.testing.assert_frame_equal(found.contributions.reset_index(), april.contributions, check_dtype=False)
    pd.testing.assert_frame_equal(found.features().reset_index(), features, check_dtype=False)
    assert list_before(settings, THEN) is None
