"""The list: who stands on it, in which order, and when none is made."""

from __future__ import annotations

import json
import math
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from features.errors import StaleData, TenureError
from serving.risklist import NO_SIGNAL_HEADING
from serving.scoring import features_at, people_at, score
from tests.made_lists import AS_OF, TODAY, listed, speaking_champion

# ibis 12 still asks pandas 3 for an option that pandas 4 will not have.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")


@pytest.fixture(scope="module")
def champion(project):
    return speaking_champion(project.settings)


@pytest.fixture(scope="module")
def mute(project):
    return speaking_champion(project.settings, speaks=False)


@pytest.fixture(scope="module")
def features(project):
    return features_at(project.tables, project.settings, AS_OF)


@pytest.fixture(scope="module")
def people(project):
    return people_at(project.tables, project.settings, AS_OF)


@pytest.fixture(scope="module")
def scored(champion, features):
    return score(champion.model, features)


@pytest.fixture(scope="module")
def made(champion, features, people):
    return listed(champion, features, people)


def test_every_account_is_in_exactly_one_part(made, people):
    parts = [[row["account_id"] for row in made[part]] for part in ("rows", "leaving", "excluded")]
    counts = made["counts"]

    assert sorted(account for part in parts for account in part) == sorted(people.account_id)
    assert [counts["scored"], counts["leaving"], counts["excluded"]] == [len(part) for part in parts]
    assert counts["accounts"] == len(people)
    assert all(parts), "the company must have accounts in each part for this to say anything"


def test_a_list_that_would_lose_an_account_is_not_made(champion, features, people):
    strange = people.assign(phase=people.phase.replace("lost", "asleep"))

    with pytest.raises(TenureError, match=r"must account for all \d+ accounts; found \d+\. Nothing was published"):
        listed(champion, features, strange)


def test_rank_is_by_probability_times_value_then_raw_score_then_id(champion, features, people, scored):
    ids = list(features.account_id)
    values = dict(zip(people.account_id, people.mrr, strict=True))
    values |= dict.fromkeys(ids[:10], None) | dict.fromkeys(ids[10:20], 0.0)
    twins = features.copy().assign(account_id=lambda rows: rows.account_id.replace(ids[21], "0-twin"))
    twins.loc[twins.account_id == "0-twin", twins.columns[2:]] = twins.loc[20, twins.columns[2:]].to_numpy()
    values |= {"0-twin": values[ids[20]]}
    everyone = people.assign(account_id=people.account_id.replace(ids[21], "0-twin"))
    everyone = everyone.assign(mrr=everyone.account_id.map(values))

    rows = listed(champion, twins, everyone)["rows"]
    raw = dict(zip(twins.account_id, champion.model.raw_scores(twins), strict=True))
    worth = {row["account_id"]: row["probability"] * (1 if row["mrr"] is None else row["mrr"]) for row in rows}
    found = [row["account_id"] for row in rows]

    assert found == sorted(found, key=lambda account: (-worth[account], -raw[account], account))
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert found.index(ids[20]) == found.index("0-twin") + 1, "the same in all: the id decides"


def test_without_signal_the_order_is_value_then_renewal(mute, features, people):
    ids = list(features.account_id)
    near = features.copy()
    near.loc[near.account_id.isin(ids[:6]), "days_to_renewal"] = [9.0, 3.0, np.nan, 3.0, 7.0, np.nan]
    same = people.assign(mrr=people.mrr.where(~people.account_id.isin(ids[:6]), 500_000.0))
    same = same.assign(mrr=same.mrr.where(same.account_id != ids[6], np.nan))

    made = listed(mute, near, same)
    found = [row["account_id"] for row in made["rows"]]
    values = [1 if row["mrr"] is None else row["mrr"] for row in made["rows"]]

    assert made["heading"] == NO_SIGNAL_HEADING == "No better than the prior"
    assert {row["probability"] for row in made["rows"]} == {mute.model.base_rate}
    assert not any(row["reasons"] for row in made["rows"])
    assert values == sorted(values, reverse=True)
    assert found[:6] == [ids[1], ids[3], ids[4], ids[0], ids[2], ids[5]], "nearest first, unknown last, then by id"


@pytest.mark.parametrize("capacity", [0.001, 0.1, 0.5, 1])
def test_the_capacity_marks_the_first_rows(champion, features, people, capacity):
    made = listed(champion, features, people, capacity)
    marks = [row["is_listed"] for row in made["rows"]]

    assert made["counts"]["listed"] == sum(marks) == math.ceil(capacity * len(marks))
    assert marks == sorted(marks, reverse=True)


def test_the_order_of_the_rows_given_is_irrelevant(champion, features, people, made):
    shuffled = listed(champion, features.sample(frac=1, random_state=1), people.sample(frac=1, random_state=2))

    assert shuffled["rows"] == made["rows"]


@pytest.mark.parametrize("speaks", [True, False])
def test_a_company_without_active_accounts_has_an_empty_list(champion, mute, features, people, speaks):
    gone = people.assign(phase="lost")

    made = listed(champion if speaks else mute, features.iloc[:0], gone)

    assert (made["rows"], made["counts"]["excluded"]) == ([], len(people))


def owner_of(company, *versions, as_of=AS_OF):
    """The owner at `as_of` of account `a`, whose versions are given as `csm_id,known_at`."""
    company.write("accounts", "\n".join(["account_id,csm_id,known_at", *(f"a,{version}" for version in versions)]))
    company.write("contracts", "account_id,contract_id,start_at,mrr\na,c1,2024-01-01,100")
    owner = people_at(company.open(), company.settings(), as_of).set_index("account_id").csm_id["a"]
    return None if pd.isna(owner) else owner


def test_the_owner_is_that_of_the_newest_version(company):
    assert owner_of(company, "ana,2024-01-01", "ben,2024-06-01") == "ben"


def test_a_list_of_the_past_names_the_owner_of_then(company):
    assert owner_of(company, "ana,2024-01-01", "ben,2025-05-20") == "ana"


def test_an_account_that_was_taken_from_its_owner_has_none(company):
    assert owner_of(company, "ana,2024-01-01", ",2024-06-01") is None


def test_no_step_is_due_before_the_list(made):
    plays = [row["play"] for row in made["rows"] if row["play"]]

    assert plays
    assert min(play["due_date"] for play in plays) >= TODAY


def test_a_list_is_plain_json(made):
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_stale_usage_is_refused(project):
    with pytest.raises(StaleData, match=r"at most 3 days older than --as-of 2025-05-04; the newest .* 2025-04-30"):
        project.score(datetime(2025, 5, 4))


def test_a_day_before_all_usage_is_refused(project):
    with pytest.raises(StaleData, match="2020-01-01"):
        project.score(datetime(2020, 1, 1))
