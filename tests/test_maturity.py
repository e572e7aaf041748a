"""Where too little was lost to learn from, training is refused and windows that work are named."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from features.errors import TooFewChurns
from features.maturity import maturity, windows_that_work
from features.settings import LabelSettings, read_settings
from features.snapshots import Span, data_span
from features.tables import open_tables
from features.world import write_world
from training.dataset import build_dataset

# ibis 12 still asks pandas 3 for this option.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning")

NOW = datetime(2026, 1, 1)


@pytest.fixture(scope="module")
def company(generated):
    return generated


def test_too_few_lost_accounts_are_refused_and_windows_that_work_are_named(company):
    settings, tables = company
    long = replace(settings, label=LabelSettings(horizon_days=520))

    with pytest.raises(TooFewChurns, match=r"found 0 .*Windows that would work: \[label\] horizon_days = 90") as few:
        build_dataset(tables, long, now=NOW)
    assert few.value.exit_code == 65


def test_windows_that_are_said_to_work_do_work(company):
    settings, tables = company
    (named,) = windows_that_work(
        tables, data_span(tables, NOW), LabelSettings(horizon_days=520), min_lost=settings.train.min_lost
    )

    assert maturity(tables, data_span(tables, NOW), named, min_lost=settings.train.min_lost).folds()


def test_a_company_that_lost_hardly_anyone_is_told_that_no_windows_would_do(tmp_path):
    write_world(tmp_path, accounts=40, months=6, seed=3)
    settings = read_settings(tmp_path / "tenure.toml")
    tables = open_tables(settings, now=NOW)

    with pytest.raises(TooFewChurns, match="No windows from 90 to 30 days would give one") as few:
        build_dataset(tables, settings, now=NOW)
    assert few.value.lost < 20
    assert few.value.exit_code == 65


def test_a_company_without_any_snapshot_is_told_the_same(tmp_path):
    write_world(tmp_path, accounts=40, months=1, seed=3)
    settings = read_settings(tmp_path / "tenure.toml")
    tables = open_tables(settings, now=NOW)

    with pytest.raises(TooFewChurns, match=r"found 0 .*No windows"):
        build_dataset(tables, settings, now=NOW)


def test_who_lost_enough_accounts_is_not_told_to_lose_more(company):
    """One more lost account than needed, but no instant to judge at: the sentence must not contradict itself."""
    settings, tables = company
    crowded = replace(settings, label=LabelSettings(horizon_days=300))
    known = maturity(tables, data_span(tables, NOW), crowded.label, min_lost=20)
    assert known.lost >= 20
    assert not known.folds()

    with pytest.raises(TooFewChurns, match="must have an instant at which 20 losses were known") as few:
        build_dataset(tables, crowded, now=NOW)
    assert f"at least 20 lost accounts; found {known.lost}" not in str(few.value)


def test_spans_without_an_instant_have_nothing_to_learn(company):
    settings, tables = company
    nothing = maturity(tables, Span(NOW, NOW), settings.label, min_lost=20)

    assert (nothing.lost, nothing.folds()) == (0, [])
    assert not nothing.can_train_at(NOW)
