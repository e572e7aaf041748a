"""Why an account is on the list: the reasons add up, are few, and tell the numbers of the feature table."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.catalogue import FEATURES, feature
from serving.reasons import MIN_SHARE, contributions_of, percentile_of, reasons, shown, told
from serving.scoring import features_at, people_at, score
from tests.made_lists import AS_OF, listed, speaking_champion
from training.train import percentiles

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
            assert reason.mixed == (abs(row[inside].sum()) < 0.3 * np.abs(row[inside]).sum())
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


def standing_of(reason):
    """How the text of a reason tells its percentile."""
    if reason["percentile"] is None or feature(reason["feature"]).unit == "0/1":
        return ""
    if reason["value"] > reason["typical"]:
        return f"above {reason['percentile']:.0f} % of others"
    return f"below {100 - reason['percentile']:.0f} % of others"


def test_the_numbers_in_a_reason_are_those_of_the_feature_table(made, features):
    table = features.set_index("account_id")

    for row in made["rows"]:
        for reason in row["reasons"]:
            unit, held = feature(reason["feature"]).unit, table.loc[row["account_id"], reason["feature"]]
            text = reason["text"].removesuffix(", mixed signs")
            value, _, others = text.rsplit(": ", 1)[1].removesuffix(")").partition(" (typical ")
            typical, _, standing = others.partition("; ")
            assert reason["mixed"] == (text != reason["text"])
            assert standing == standing_of(reason), reason
            assert reason["value"] == (None if pd.isna(held) else held)
            assert tells(value, reason["value"], unit), reason
            assert not typical or tells(typical, reason["typical"], unit), reason


def test_a_group_whose_features_speak_against_each_other_is_mixed(champion, features):
    model, matrix = champion.model, champion.model.matrix(features)[:1]
    group = feature(model.features[0]).group
    inside = [place for place, name in enumerate(model.features) if feature(name).group == group]
    for against, mixed in ((-0.6, True), (-0.5, False)):  # 0.4 of 1.6 is a fourth, 0.5 of 1.5 a third.
        pushes = np.zeros_like(matrix)
        pushes[0, inside[0]], pushes[0, inside[1]] = 1.0, against
        found = contributions_of(model, matrix)
        sums = [pushes[0, [feature(name).group == each for name in model.features]].sum() for each in found.groups]
        found = replace(found, by_feature=pushes, by_group=np.array([sums]))
        [why] = told(without_typical(model), matrix, found)

        assert [(reason.group, reason.mixed) for reason in why.raises] == [(group, mixed)]
        assert why.raises[0].text.endswith(", mixed signs") == mixed


def without_typical(model):
    """The model, to which nothing is like all others."""
    return replace(model, typical={})


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300)
    | st.lists(st.integers(0, 3), min_size=1, max_size=99),
    chosen=st.data(),
)
def test_a_percentile_never_says_more_than_the_accounts_do(values, chosen):
    known = pd.Series(values, dtype=float)
    grid = percentiles(pd.DataFrame({"x": known}), ("x",))["x"]
    value = chosen.draw(st.sampled_from(values) | st.floats(-2e6, 2e6))
    typical = float(known.median())
    found = percentile_of(grid, value, typical)

    if value > typical:
        assert 0 <= found <= 99
        assert (known < value).mean() >= found / 100
        assert (known < value).mean() <= found / 100 + 0.0200001 or found == 99
    elif value < typical:
        assert 1 <= found <= 100
        assert (known > value).mean() >= 1 - found / 100
        assert (known > value).mean() <= 1 - found / 100 + 0.0200001 or found == 1
    else:
        assert found is None


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
