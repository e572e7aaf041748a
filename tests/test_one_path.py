"""Training, the nightly batch and the service see the same row, and score it the same to the last bit."""

from __future__ import annotations

import os
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

import tenure
from serving.answers import Answers
from serving.champion import load_champion
from serving.scoring import features_at, score

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
PAIRS, INSTANTS = (500, 20) if FULL else (60, 3)
NOW = datetime(2025, 5, 2)


@pytest.fixture(scope="module")
def project(trained_world):
    return tenure.Project(tenure.open(trained_world / "tenure.toml").settings, datetime(2025, 5, 1))


@pytest.fixture(scope="module")
def champion(project):
    return load_champion(project.settings)


@pytest.fixture(scope="module")
def pairs(project):
    """Random accounts at random instants, as training saw them."""
    dataset = project.dataset()
    instants = sorted(dataset.rows.as_of.unique())
    chosen = np.random.default_rng(0).choice(len(instants), min(INSTANTS, len(instants)), replace=False)
    rows = dataset.rows[dataset.rows.as_of.isin([instants[place] for place in chosen])]
    return rows.sample(min(PAIRS, len(rows)), random_state=0)


def test_a_row_and_its_probability_are_the_same_on_every_path(project, champion, pairs):
    names = list(champion.model.features)
    answers = Answers(project.settings, champion)
    for instant, trained in pairs.groupby("as_of"):
        trained = trained.set_index("account_id")
        batch = features_at(project.tables, project.settings, instant.to_pydatetime()).set_index("account_id")
        batch = batch.loc[trained.index]

        pd.testing.assert_frame_equal(trained[names], batch[names], check_exact=True)

        probability = score(champion.model, batch.reset_index())["probability"].to_numpy()
        online = answers.score_accounts(
            list(trained.index), as_of=instant.date(), with_reasons=False, token=None, now=NOW
        )

        assert [row["probability"] for row in online["rows"]] == probability.tolist()

        for account, expected in zip(trained.index, probability, strict=True):
            given = {name: None if np.isnan(value) else value for name, value in trained.loc[account, names].items()}
            alone = answers.score_rows([(account, given)], with_reasons=False, partial=False)["rows"][0]

            assert alone["probability"] == expected
