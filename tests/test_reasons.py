"""Why an account is on the list: the reasons add up, are few, and tell the numbers of the feature table."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest

from features.catalogue import FEATURES, feature
from serving.reasons import MIN_SHARE, reasons, shown
from serving.scoring import features_at, people_at, score
from tests.made_lists import AS_OF, listed, speaking_champion

# ibis 12 still asks pandas 3 for an option that pandas 4 will not have.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")


@pytest.fixture(scope="module")
def champion(project):
    return speaking_champion(project.settings)


@pytest.fixture(scope="module")
def features(project):
    return features_at(project.tables, project.settings, AS_OF)


@pytest.fixture(scope="module")
def made(project, champion, features):
    return listed(champion, features, people_at(project.tables, project.settings, AS_OF))


def test_contributions_and_base_add_up_to_the_raw_score(champion, features):
    contributions, base = champion.model.contributions(champion.model.matrix(features))
    groups = [feature(name).group for name in champion.model.features]
    by_group = pd.DataFrame(contributions.T).groupby(groups).sum()
    raw_score = score(champion.model, features).raw_score

    np.testing.assert_allclose(by_group.sum().to_numpy() + base, raw_score.to_numpy(), rtol=0, atol=1e-9)


def test_a_reason_carries_the_sum_of_its_group(champion, features):
    contributions, _ = champion.model.contributions(champion.model.matrix(features))
    groups = np.array([feature(name).group for name in champion.model.features])

    for why, row in zip(reasons(champion.model, champion.model.matrix(features)), contributions, strict=True):
        for reason in [*why.raises, *([why.eases] if why.eases else [])]:
            inside = groups == reason.group
            place = champion.model.features.index(reason.feature)
            assert reason.contribution == pytest.approx(row[inside].sum(), abs=1e-12)
            assert inside[place]
            assert (row[place] > 0) == (reason is not why.eases)
            assert shown(reason.value, feature(reason.feature).unit) != shown(
                reason.typical, feature(reason.feature).unit
            )


def test_there_are_at_most_three_reasons_each_worth_a_sentence(champion, features):
    whole = np.abs(champion.model.contributions(champion.model.matrix(features))[0]).sum(axis=1)
    told = [why.raises for why in reasons(champion.model, champion.model.matrix(features))]

    assert max(map(len, told)) == 3
    for row, total in zip(told, whole, strict=True):
        shares = [reason.contribution / total for reason in row]
        assert len(row) <= 3
        assert shares == sorted(shares, reverse=True)
        assert all(share > MIN_SHARE == 0.05 for share in shares)
        assert len({reason.group for reason in row}) == len(row)


def tells(text, value, unit):
    """Whether `text`, such as `−12 % (…)`, is `value` rounded to the digits that are shown."""
    if unit == "0/1" or value is None:
        return text == {None: "not known", 0: "no", 1: "yes"}[value]
    held = math.exp(value) - 1 if unit == "log ratio" else value
    sign, whole, _, decimals = re.match(r"([+−]?)([\d,]+)(\.(\d+))?", text).groups()
    told = float(f"{sign}{whole}.{decimals or 0}".replace("−", "-").replace(",", ""))
    digits = len(decimals or "")
    if text.endswith(" %"):
        told, digits = told / 100, digits + 2
    return abs(told - held) <= 0.5 * 10**-digits + 1e-9


def test_the_numbers_in_a_reason_are_those_of_the_feature_table(made, features):
    table = features.set_index("account_id")

    for row in made["rows"]:
        for reason in row["reasons"]:
            unit, held = feature(reason["feature"]).unit, table.loc[row["account_id"], reason["feature"]]
            value, _, typical = reason["text"].rsplit(": ", 1)[1].removesuffix(")").partition(" (typical ")
            assert reason["value"] == (None if pd.isna(held) else held)
            assert tells(value, reason["value"], unit), reason
            assert not typical or tells(typical, reason["typical"], unit), reason


@pytest.mark.parametrize("unit", sorted({item.unit for item in FEATURES} - {"0/1"}))
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0, -0.3, 7.6, -2.2])
def test_every_unit_tells_its_number(unit, value):
    assert tells(shown(value, unit), value, unit)


@pytest.mark.parametrize("unit", ["share", "points", "log ratio"])
def test_nothing_is_told_as_minus_zero(unit):
    assert not shown(-0.001, unit).startswith("−0")


@pytest.mark.parametrize("unit", ["points", "sd", "log ratio", "share"])
def test_zero_and_minus_zero_read_alike_whichever_is_asked_first(unit):
    texts = []
    for values in ((0.0, -0.0), (-0.0, 0.0)):
        shown.cache_clear()
        texts += [shown(value, unit) for value in values]

    assert len(set(texts)) == 1
