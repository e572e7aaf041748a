"""Before the first model: a list by rules, named as such, whole, and without a probability."""

from __future__ import annotations

import json
import shutil

import pytest

from features.settings import read_settings
from serving.day_one import HEADING, RULES
from serving.exports import exported
from serving.ledger import open_ledger
from serving.ledger.lists import View, list_head, list_rows
from serving.published import published, read_list
from tests.commands import run

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")


@pytest.fixture(scope="module")
def company(trained_world, tmp_path_factory):
    """The company before it trained anything."""
    folder = tmp_path_factory.mktemp("day-one") / "world"
    shutil.copytree(trained_world, folder, ignore=shutil.ignore_patterns(".tenure"))
    return folder / "tenure.toml"


@pytest.fixture(scope="module")
def made(company):
    done = run(company, "run", "--as-of=2025-05-01")
    assert done.exit_code == 0, done.stderr
    return read_list(published(read_settings(company)))


def test_it_is_said_to_be_rules_and_has_no_probability(made):
    assert made["heading"] == HEADING
    assert made["model_version"] == "rules"
    assert {row["probability"] for row in made["rows"]} == {row["band"] for row in made["rows"]} == {None}


def test_every_account_is_in_one_part(made, trained_world):
    judged = json.loads((trained_world / "score.json").read_text())
    assert made["counts"] == judged["counts"]


def test_more_rules_come_first_then_more_money(made):
    order = [(-len(row["reasons"]), -(row["mrr"] or 0), row["account_id"]) for row in made["rows"]]
    assert order == sorted(order)
    assert order[0][0] < 0


def test_each_row_names_the_rules_it_meets(made):
    limits = {rule.condition.feature: rule.condition for rule in RULES}
    for row in made["rows"]:
        for reason in row["reasons"]:
            assert limits[reason["feature"]].holds({reason["feature"]: reason["value"]})
            assert reason["text"]


def test_it_reads_back_exports_and_explains_like_any_list(company, made):
    with open_ledger(read_settings(company)).reading() as connection:
        head = list_head(connection)
        rows, total = list_rows(connection, "2025-05-01", True, View(limit=1000))
    told = run(company, "explain", made["rows"][0]["account_id"])

    assert head["base_rate"] is None
    assert (rows, total) == (made["rows"], len(made["rows"]))
    assert all(exported(made["rows"], form)[0] for form in ("csv", "xlsx", "parquet"))
    assert "rules met; no model is champion yet" in told.stdout
    assert run(company, "list").exit_code == 0


@pytest.mark.long("a training")
def test_the_first_model_takes_over_without_calling_anything_a_fall(company, made, trained_world):
    earlier = run(company, "score", "--as-of=2025-04-20")
    shutil.copytree(trained_world / ".tenure" / "models", company.parent / ".tenure" / "models")
    shutil.copy(trained_world / ".tenure" / "champion.json", company.parent / ".tenure" / "champion.json")
    shutil.copy(trained_world / ".tenure" / "signing.key", company.parent / ".tenure" / "signing.key")
    done = run(company, "score", "--as-of=2025-05-01")
    later = read_list(published(read_settings(company), "2025-05-01"))

    assert (earlier.exit_code, done.exit_code) == (0, 0), done.stderr
    assert later["model_version"] == "1"
    assert later["before"]["as_of"] == "2025-04-20"
    assert all(row["change"]["moved_by"] is None for row in later["rows"])
    assert not any(row["change"]["kind"] == "down" for row in later["rows"])
