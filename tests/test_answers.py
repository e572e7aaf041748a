"""What the service answers: one bad row fails alone, no score differs from the list, no one sees another's book."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from features.errors import DataError
from features.settings import read_settings
from serving.access import Token
from serving.answers import Answers, TooOld
from serving.champion import load_champion
from serving.publication import read_features
from serving.published import published, read_list

# ibis 12 still asks pandas 3 for an option that pandas 4 will not have.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

NOW = datetime(2025, 5, 2, 6, tzinfo=UTC)
TODAY = date(2025, 5, 1)


@pytest.fixture(scope="module")
def settings(trained_world):
    return read_settings(trained_world / "tenure.toml")


@pytest.fixture(scope="module")
def answers(settings):
    """The answers of a champion that was made to speak, whatever the small company taught it."""
    champion = load_champion(settings)
    return Answers(settings, replace(champion, model=replace(champion.model, no_signal=False)))


@pytest.fixture(scope="module")
def today(settings):
    """The list of the day."""
    return read_list(published(settings))


@pytest.fixture(scope="module")
def rows(answers, settings):
    """Account and features of everyone on the list, as a caller would send them."""
    table = read_features(published(settings))
    names = list(answers.champion.model.features)
    values = table[names].astype(object).where(table[names].notna(), None).to_dict("records")
    return list(zip(table.account_id, values, strict=True))


def token(role, csm_id=None):
    return Token(id="0" * 8, role=role, csm_id=csm_id, created_at=NOW, expires_at=NOW + timedelta(days=1))


def scored(answers, rows, *, partial=False, reasons=False):
    return answers.score_rows(rows, with_reasons=reasons, partial=partial)["rows"]


def asked(answers, accounts, *, as_of=None, caller=None, now=NOW):
    return answers.score_accounts(accounts, as_of=as_of, with_reasons=True, token=caller, now=now)


def spoiled(features):
    """Seven rows, each with a fault of its own: code, field and features."""
    name = next(iter(features))
    less = {key: value for key, value in features.items() if key != name}
    return [
        ("not_a_number", name, {**features, name: math.nan}),
        ("not_a_number", name, {**features, name: math.inf}),
        ("not_a_number", name, {**features, name: -math.inf}),
        ("not_a_number", name, {**features, name: True}),
        ("not_a_number", name, {**features, name: "1"}),
        ("unknown_feature", "mood", {**features, "mood": 1}),
        ("missing_feature", name, less),
    ]


def test_seven_bad_rows_of_a_thousand_fail_alone_and_in_their_places(answers, rows):
    good = [(f"account {place}", rows[place % len(rows)][1]) for place in range(1000)]
    mixed, faults = list(good), dict(zip(range(3, 1000, 150), spoiled(rows[0][1]), strict=True))
    for place, (_, _, features) in faults.items():
        mixed[place] = (good[place][0], features)

    found, clean = scored(answers, mixed), scored(answers, good)
    failed = {place: row["error"] for place, row in enumerate(found) if row["error"]}

    assert [row["account_id"] for row in found] == [account for account, _ in mixed]
    assert {place: (error["code"], error["field"]) for place, error in failed.items()} == {
        place: (code, field) for place, (code, field, _) in faults.items()
    }
    assert [row for place, row in enumerate(found) if place not in faults] == [
        row for place, row in enumerate(clean) if place not in faults
    ], "a neighbour changes no score"
    assert all(found[place]["probability"] is None for place in faults)


def test_a_row_stands_where_its_probability_does_among_those_of_the_latest_list(settings, answers, rows):
    fresh = Answers(settings, answers.champion)
    alone = [row["rank_percentile"] for row in scored(fresh, rows)]
    chances = [row["probability"] for row in scored(fresh, rows)]
    fresh.compare_with("another list", "another version", lambda: chances)
    of_another_model = [row["rank_percentile"] for row in scored(fresh, rows)]
    fresh.compare_with("a list", fresh.champion.version, lambda: chances)
    fresh.compare_with("a list", fresh.champion.version, lambda: pytest.fail("it was read before"))
    found = [row["rank_percentile"] for row in scored(fresh, rows)]

    assert set(alone) == set(of_another_model) == {None}
    assert found == [round(100 * sum(other < own for other in chances) / len(chances), 1) for own in chances]
    assert asked(fresh, [rows[0][0]])["rows"][0]["rank_percentile"] == found[0]


def test_an_unknown_name_is_told_again_only_so_far(answers, rows):
    error = scored(answers, [("a", {**rows[0][1], "x" * 10_000: 1})])[0]["error"]

    assert error["field"] == "x" * 64
    assert len(error["message"]) < 200


@pytest.mark.parametrize("value", [[1.0], [], {"a": 1}, "", "secret-4711", False])
def test_a_value_of_another_kind_is_told_by_its_kind_only(answers, rows, value):
    features = {**rows[0][1], "tenure_days": value}

    error = scored(answers, [("a", features)])[0]["error"]

    assert (error["code"], error["field"]) == ("not_a_number", "tenure_days")
    assert error["message"] == f"'tenure_days' must be a finite number or null; found a {type(value).__name__}."


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_number_beyond_all_bounds_fails_alone(answers, rows, value):
    found = scored(answers, [("a", {**rows[0][1], "tenure_days": value}), rows[1]])

    assert found[0]["error"]["code"] == "not_a_number"
    assert found[1]["error"] is None


@pytest.mark.parametrize("value", [0, -0.0, 1e308, -1e308, 5e-324, 2**53 + 1])
def test_any_finite_number_is_scored(answers, rows, value):
    found = scored(answers, [("a", {**rows[0][1], "tenure_days": value})])[0]

    assert found["error"] is None
    assert 0 <= found["probability"] <= 1


def test_null_is_a_missing_value(answers, rows):
    """Null, and an absent key under `partial`, say the same as the missing value the model learned from."""
    names = list(answers.champion.model.features)
    missing = pd.DataFrame([dict.fromkeys(names, math.nan)])
    empty, partial = dict.fromkeys(names), {}

    found = scored(answers, [("a", empty), ("b", partial)], partial=True)

    assert {row["probability"] for row in found} == {float(answers.champion.model.probabilities(missing)[0])}


def test_partial_excuses_what_is_absent_and_nothing_else(answers, rows):
    codes = [row["error"] and row["error"]["code"] for row in scored(
        answers, [(str(place), features) for place, (_, _, features) in enumerate(spoiled(rows[0][1]))], partial=True
    )]  # fmt: skip

    assert codes == ["not_a_number"] * 5 + ["unknown_feature", None]


def test_the_order_of_the_keys_is_irrelevant(answers, rows):
    account, features = rows[0]
    backwards = dict(reversed(features.items()))

    assert scored(answers, [(account, backwards)]) == scored(answers, [(account, features)])


def test_no_rows_give_no_answers(answers):
    assert scored(answers, []) == []


def test_only_bad_rows_give_only_errors(answers):
    found = scored(answers, [("a", {"mood": 1})], reasons=True)[0]

    nothing = dict.fromkeys(("probability", "band", "rank_percentile", "reasons", "eases"))
    assert found == {"account_id": "a", **nothing, "error": found["error"]}


def of_list(today):
    return {row["account_id"]: (row["probability"], row["band"], row["reasons"]) for row in today["rows"]}


def of_answer(found):
    return {row["account_id"]: (row["probability"], row["band"], row["reasons"]) for row in found["rows"]}


def test_given_features_score_to_the_last_bit_as_on_the_list(settings, rows, today):
    as_published = Answers(settings, load_champion(settings))
    found = as_published.score_rows(rows, with_reasons=True, partial=False)

    assert of_answer(found) == of_list(today)
    assert found["model_version"] == today["model_version"]


def test_known_accounts_score_to_the_last_bit_as_on_the_list(settings, today):
    as_published = Answers(settings, load_champion(settings))
    backwards = [row["account_id"] for row in reversed(today["rows"])]

    found = asked(as_published, backwards)

    assert of_answer(found) == of_list(today)
    assert [row["account_id"] for row in found["rows"]] == backwards
    assert found["feature_as_of"] == "2025-05-01"


@pytest.fixture(scope="module")
def built(settings, trained_world, tmp_path_factory):
    """Answers of the same company before its first list: every day is built when it is asked for."""
    state = tmp_path_factory.mktemp("unpublished") / "state"
    shutil.copytree(settings.state_dir, state, ignore=shutil.ignore_patterns("lists"))
    bare = replace(settings, state_dir=state)
    return Answers(bare, load_champion(bare))


def test_a_day_built_on_demand_scores_to_the_last_bit_as_its_list(built, today):
    found = asked(built, [row["account_id"] for row in today["rows"]], as_of=TODAY)

    assert of_answer(found) == of_list(today)
    assert found["feature_as_of"] == "2025-05-01"


def others(today):
    """One account of each kind that is not scored."""
    return today["leaving"][0]["account_id"], today["excluded"][0]["account_id"], "nobody"


def test_accounts_that_are_not_scored_say_why(answers, today):
    leaving, excluded, unknown = (row["error"] for row in asked(answers, others(today))["rows"])

    assert (leaving["code"], excluded["code"], unknown["code"]) == ("not_scored", "not_scored", "unknown_account")
    assert leaving["message"].startswith("The account is not scored: it is leaving; notice is known")
    assert excluded["message"] in (
        "The account is not scored: no live contract.", "The account is not scored: never a customer so far."
    )  # fmt: skip
    assert unknown["message"] == "There is no such account."


def test_a_day_built_on_demand_says_the_same_of_accounts_that_are_not_scored(answers, built, today):
    published_answer, built_answer = (asked(some, others(today), as_of=TODAY) for some in (answers, built))

    assert built_answer["rows"] == published_answer["rows"]


def test_before_the_first_list_the_caller_is_told_to_score(built):
    with pytest.raises(DataError, match=r"found no list\. Run `tenure score` first"):
        asked(built, ["acc-00001"])


# Who sees what


@pytest.fixture(scope="module")
def owner(today):
    return next(row["csm_id"] for row in today["rows"] if row["csm_id"])


def books(today, owner):
    rows = [*today["rows"], *today["leaving"]]
    own = [row["account_id"] for row in rows if row["csm_id"] == owner]
    return own, [row["account_id"] for row in rows if row["csm_id"] != owner]


@pytest.mark.parametrize("place", ["published", "built"])
def test_another_book_answers_like_an_account_that_does_not_exist(answers, built, today, owner, place):
    own, foreign = books(today, owner)
    some = answers if place == "published" else built
    ask = [*own, *foreign, *(f"x{number}" for number in range(5))]

    found = {row["account_id"]: row for row in asked(some, ask, as_of=TODAY, caller=token("csm", owner))["rows"]}
    said = {account: {**found[account], "account_id": None} for account in ask}

    assert len(own) > 10
    assert len(foreign) > 10
    assert all(said[account] == said["x0"] for account in [*foreign, "x1", "x2", "x3", "x4"])
    assert all(said[account] != said["x0"] for account in own)


def test_an_owner_is_told_the_same_of_a_lost_account_however_the_day_was_made(answers, built, settings, today):
    from features.tables import open_tables
    from serving.scoring import people_at

    people = people_at(open_tables(settings, now=NOW.replace(tzinfo=None)), settings, datetime(2025, 5, 1))
    lost = people[(people.phase == "lost") & people.csm_id.notna()].iloc[0]

    first, second = (
        asked(some, [lost.account_id], as_of=TODAY, caller=token("csm", lost.csm_id))["rows"][0]["error"]["code"]
        for some in (answers, built)
    )
    assert first == second


@pytest.mark.parametrize("caller", [token("csm"), token("csm", ""), token("csm", "nobody")])
def test_a_csm_without_a_book_sees_nothing(answers, today, caller):
    everyone = [row["account_id"] for part in ("rows", "leaving", "excluded") for row in today[part]]

    found = asked(answers, everyone, caller=caller)["rows"]

    assert {row["error"]["code"] for row in found} == {"unknown_account"}


# How old it is


def test_a_company_may_have_old_features_refused(settings, answers, today):
    strict = replace(settings, serve=replace(settings.serve, refuse_stale=True))
    refusing, account = Answers(strict, answers.champion), today["rows"][0]["account_id"]
    fresh = datetime(2025, 5, 2, tzinfo=UTC)

    assert asked(refusing, [account], now=fresh) == asked(answers, [account], now=fresh)
    with pytest.raises(TooOld, match=r"refuse_stale.*features are of 2025-05-01, 31 days old"):
        asked(refusing, [account], now=datetime(2025, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize(("days", "stale"), [(0, False), (3, False), (4, True), (400, True)])
def test_an_old_list_carries_a_warning(answers, today, days, stale):
    now = datetime(2025, 5, 1, 12, tzinfo=UTC) + timedelta(days=days)
    said = [f"stale:features are of 2025-05-01, {days} days old"] if stale else []

    assert asked(answers, [today["rows"][0]["account_id"]], now=now)["warnings"] == said
    assert answers.warnings_of("2025-05-01", now=now) == said


def test_a_day_long_after_the_last_usage_carries_a_warning(built, today):
    """The nightly run refuses such a day; an answer without a word would pass for news."""
    found = asked(built, [today["rows"][0]["account_id"]], as_of=date(2025, 7, 1), now=datetime(2025, 7, 1, tzinfo=UTC))

    assert any(warning.startswith("stale:") for warning in found["warnings"])


def test_a_model_without_signal_says_so_in_every_answer(answers, rows, today):
    champion = replace(answers.champion, model=replace(answers.champion.model, no_signal=True))
    mute = Answers(answers.settings, champion)
    found = mute.score_rows(rows[:3], with_reasons=True, partial=False)

    assert found["warnings"] == ["no_signal:no better than the prior; every account gets the base rate"]
    assert {row["probability"] for row in found["rows"]} == {champion.model.base_rate}
    assert [row["reasons"] for row in found["rows"]] == [[], [], []]


def test_reasons_are_given_only_if_asked_for(answers, rows):
    assert scored(answers, rows[:1])[0]["reasons"] is None
    assert isinstance(scored(answers, rows[:1], reasons=True)[0]["reasons"], list)
