"""ChurnClassifier is a scikit-learn classifier, and EmbargoedTimeSplit a splitter."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from training.classifier import ChurnClassifier
from training.splits import EmbargoedTimeSplit


@parametrize_with_checks([ChurnClassifier(min_data_in_leaf=2)])
def test_every_check_of_scikit_learn_passes(estimator, check):
    check(estimator)


def history(months=12, accounts=60, seed=0):
    """Rows of several instants: one feature that tells of the loss, one that does not."""
    rng = np.random.default_rng(seed)
    instants = np.repeat([datetime(2024, month, 1) for month in range(1, months + 1)], accounts)
    groups = np.tile(np.arange(accounts), months)
    risk = rng.normal(size=len(groups))
    churned = (rng.random(len(groups)) < 1 / (1 + np.exp(2 - 1.5 * risk))).astype(int)
    rows = pd.DataFrame({"risk": risk, "noise": rng.normal(size=len(groups))})
    return rows, churned, groups, instants


def test_no_row_is_learned_from_before_its_label_is_final():
    rows, churned, groups, instants = history()
    embargo = pd.Timedelta(days=120)
    folds = list(EmbargoedTimeSplit(instants, embargo_days=120, n_splits=3).split(rows, churned, groups))

    assert len(folds) == 3
    for learned, judged in folds:
        at = pd.to_datetime(instants[judged]).unique()
        assert len(at) == 1
        assert (pd.to_datetime(instants[learned]) + embargo <= at[0]).all()
        assert (pd.to_datetime(instants) + embargo <= at[0]).sum() == len(learned), "all that was final is used"
    assert [instants[judged][0] for _, judged in folds] == [datetime(2024, month, 1) for month in (10, 11, 12)]


def test_new_accounts_alone_can_be_judged():
    rows, churned, groups, instants = history()
    late = (groups < 30) | (instants >= datetime(2024, 9, 1))
    rows, churned, groups, instants = rows[late], churned[late], groups[late], instants[late]
    splitter = EmbargoedTimeSplit(instants, embargo_days=60, n_splits=2, new_only=True)

    for learned, judged in splitter.split(rows, churned, groups):
        assert not set(groups[learned]) & set(groups[judged])
    with pytest.raises(ValueError, match="groups must say who each row is about"):
        next(splitter.split(rows, churned))


def test_the_classifier_goes_through_cross_validation():
    rows, churned, groups, instants = history()
    scores = cross_val_score(
        ChurnClassifier(min_data_in_leaf=10),
        rows,
        churned,
        groups=groups,
        cv=EmbargoedTimeSplit(instants, embargo_days=60, n_splits=3),
        scoring="roc_auc",
    )

    assert scores.shape == (3,)
    assert scores.mean() > 0.65


def test_instants_that_allow_no_fold_are_refused_and_say_why():
    rows, churned, _, instants = history(months=3)
    with pytest.raises(ValueError, match=r"final 365 days before it; found none from 2024-01-01 to 2024-03-01"):
        next(EmbargoedTimeSplit(instants, embargo_days=365).split(rows, churned))
    with pytest.raises(ValueError, match="one entry per row of X; found 180 for 10"):
        next(EmbargoedTimeSplit(instants, embargo_days=60).split(rows[:10], churned[:10]))


def test_probabilities_are_calibrated_on_groups_that_were_held_out():
    rows, churned, groups, _ = history(accounts=400)
    model = ChurnClassifier().fit(rows, churned, groups)
    fresh, fate, _, _ = history(accounts=400, seed=1)
    found = model.predict_proba(fresh)[:, 1]

    assert abs(found.mean() - fate.mean()) < 0.02
    assert ((found > 0) & (found < 1)).all()
