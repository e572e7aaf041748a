"""Levers: each lowers the band when scored again, can be worked on, and lies where other accounts are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from features.catalogue import feature
from features.settings import read_settings
from serving.answers import Answers
from serving.champion import load_champion
from serving.levers import MOST, levers
from serving.publication import read_features
from serving.published import published, read_list

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")


@pytest.fixture(scope="module")
def settings(trained_world):
    return read_settings(trained_world / "tenure.toml")


@pytest.fixture(scope="module")
def model(settings):
    """The champion's, made to speak whatever a small company teaches, with bands close together."""
    found = load_champion(settings).model
    return replace(found, no_signal=False, bands=(("critical", 1.2), ("high", 1.0), ("medium", 0.8)))


@pytest.fixture(scope="module")
def rows(settings):
    return read_features(published(settings))


@pytest.fixture(scope="module")
def found(model, rows):
    """Account to its row and its levers, for all accounts that have any."""
    all_of_them = {account: levers(model, rows[rows.account_id == account], rows) for account in rows.account_id[:80]}
    return {account: told for account, told in all_of_them.items() if told}


def test_each_lever_scored_again_gives_the_band_it_promises(model, rows, found):
    order = ["low", "medium", "high", "critical"]

    assert found
    for account, told in found.items():
        row = rows[rows.account_id == account]
        before = model.band(float(model.probabilities(row)[0]))
        for lever in told:
            chance = float(model.probabilities(row.assign(**{lever.feature: lever.then}))[0])
            assert (chance, model.band(chance)) == (lever.probability, lever.band)
            assert order.index(lever.band) < order.index(before)


def test_each_lever_can_be_worked_on_and_others_are_there(rows, found):
    for told in found.values():
        assert len(told) <= MOST
        assert len({lever.feature for lever in told}) == len(told)
        for lever in told:
            item = feature(lever.feature)
            assert item.actionable
            assert item.sign * (lever.now - lever.then) > 0
            assert lever.then in rows[lever.feature].to_numpy()
            assert 0 < lever.share_of_peers <= 1


def test_a_model_without_signal_and_an_account_of_the_lowest_band_have_none(model, rows):
    mute, calm = replace(model, no_signal=True), replace(model, base_rate=1.0)

    assert levers(mute, rows.head(1), rows) == []
    assert levers(calm, rows.head(1), rows) == []


def test_another_version_than_the_one_of_the_list_says_nothing_of_it(settings):
    answers = Answers(settings, load_champion(settings))
    account = read_list(published(settings))["rows"][0]["account_id"]

    assert answers.levers_of(account, model_version="another") == []
    assert answers.levers_of("nobody", model_version="1") == []
