"""The recipe as a scikit-learn classifier, for notebooks, cross-validation and pipelines."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from training.calibration import Calibrator, fit_calibrator
from training.fit import ROUNDS
from training.learners import PARAMETERS, Trees

Floats = NDArray[np.float64]


class ChurnClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Boosted trees without class weights, their number and their calibration chosen on groups held out.

    Missing values are allowed. Where a class has fewer than two groups nothing can be held out: the probabilities
    are then those of `rounds` trees, uncalibrated.

    Parameters
    ----------
    rounds : int or None
        Number of trees; chosen on held-out groups where None, 100 where none can be held out.
    learning_rate, num_leaves, min_data_in_leaf : as in LightGBM
    seed : int
        Same seed, same data: same trees.

    Attributes
    ----------
    classes_ : (2,) the labels, sorted; the second one is the loss
    booster_ : the LightGBM booster
    calibrator_ : slope and intercept on its raw log-odds
    rounds_ : number of trees
    """

    def __init__(
        self,
        *,
        rounds: int | None = None,
        learning_rate: float = PARAMETERS["learning_rate"],
        num_leaves: int = PARAMETERS["num_leaves"],
        min_data_in_leaf: int = PARAMETERS["min_data_in_leaf"],
        seed: int = 7,
    ) -> None:
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_data_in_leaf = min_data_in_leaf
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on rows of shape (n_rows, n_features), labels of two kinds, and who each row is about.

        `groups` keeps all rows of an account together when trees are judged; without it each row stands alone.
        """
        rows, targets = validate_data(self, X, y, ensure_all_finite="allow-nan", dtype=np.float64)
        check_classification_targets(targets)
        self.classes_, labels = np.unique(targets, return_inverse=True)
        if self.classes_.size > 2:
            raise ValueError(
                f"Only binary classification is supported. The type of the target is {type_of_target(targets)}."
            )
        if self.classes_.size < 2:
            raise ValueError(f"Classifier can't train when only one class is present; all rows are {self.classes_[0]}.")
        churned = labels.astype(np.int8)
        who = np.arange(len(churned)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        names = tuple(f"f{number}" for number in range(rows.shape[1]))
        trees = self.trees()
        held_out = trees.held_out(rows, churned, who, seed=self.seed)
        self.rounds_ = self.rounds or (ROUNDS if held_out is None else held_out.rounds)
        self.booster_ = trees.learn(rows, churned, names, seed=self.seed, rounds=self.rounds_).booster
        self.calibrator_ = Calibrator() if held_out is None else fit_calibrator(held_out.scores, churned)
        return self

    def decision_function(self, X: ArrayLike) -> Floats:
        """Calibrated log-odds of the second class, (n_rows,); above 0 where `predict` says so."""
        check_is_fitted(self)
        rows = validate_data(self, X, ensure_all_finite="allow-nan", dtype=np.float64, reset=False)
        raw = np.asarray(self.booster_.predict(rows, raw_score=True, num_threads=1))
        return self.calibrator_.slope * raw + self.calibrator_.intercept

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probability of each class, (n_rows, 2)."""
        lost = Calibrator().probability(self.decision_function(X))
        return np.column_stack([1 - lost, lost])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likelier class of each row, (n_rows,)."""
        likelier = (self.decision_function(X) > 0).astype(int)
        return np.asarray(self.classes_[likelier])

    def trees(self) -> Trees:
        """The same way to learn, without scikit-learn around it."""
        shape = ("learning_rate", "num_leaves", "min_data_in_leaf")
        return Trees({name: getattr(self, name) for name in shape})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.classifier_tags.multi_class = False
        return tags
