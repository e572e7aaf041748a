"""What a model must beat: each baseline fitted and judged on the very same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

Floats = npt.NDArray[np.float64]
Baseline = Callable[[pd.DataFrame, pd.DataFrame, tuple[str, ...]], Floats]
"""Training rows, rows to judge and feature names → probabilities of shape (n,)."""


def prior(past: pd.DataFrame, rows: pd.DataFrame, features: tuple[str, ...]) -> Floats:
    """The share lost in the training rows, for everyone."""
    return np.full(len(rows), past.churned.mean())


def logistic(past: pd.DataFrame, rows: pd.DataFrame, features: tuple[str, ...]) -> Floats:
    """A logistic regression over all features, medians for what is missing and a flag that it was."""
    told = [name for name in features if past[name].notna().any()]
    pipeline = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), LogisticRegression(C=0.1, max_iter=500)
    )
    return _fitted(pipeline, past, rows, told)


def days_to_renewal(past: pd.DataFrame, rows: pd.DataFrame, features: tuple[str, ...]) -> Floats:
    """The share lost in the training rows at a like distance from the renewal."""
    return _single_fact("days_to_renewal", past, rows, features)


def tenure(past: pd.DataFrame, rows: pd.DataFrame, features: tuple[str, ...]) -> Floats:
    """The share lost in the training rows at a like age of the account: what a life table knows."""
    return _single_fact("tenure_days", past, rows, features)


def usage_trend(past: pd.DataFrame, rows: pd.DataFrame, features: tuple[str, ...]) -> Floats:
    """The share lost in the training rows at a like change of use."""
    return _single_fact("usage_trend_28v91", past, rows, features)


def health_score(past: pd.DataFrame, rows: pd.DataFrame, features: tuple[str, ...]) -> Floats:
    """The share lost in the training rows at a like score that the company gave itself."""
    return _single_fact("health_score", past, rows, ("health_score",))


def _single_fact(name: str, past: pd.DataFrame, rows: pd.DataFrame, features: tuple[str, ...]) -> Floats:
    if name not in features or name not in past or past[name].nunique() < 2:
        return prior(past, rows, features)
    bins = KBinsDiscretizer(10, encode="onehot", strategy="quantile", quantile_method="averaged_inverted_cdf")
    pipeline = make_pipeline(SimpleImputer(strategy="constant", fill_value=-1e4), bins, LogisticRegression(C=10.0))
    return _fitted(pipeline, past, rows, [name])


def _fitted(pipeline: Pipeline, past: pd.DataFrame, rows: pd.DataFrame, names: list[str]) -> Floats:
    pipeline.fit(past[names], past.churned)
    return np.asarray(pipeline.predict_proba(rows[names])[:, 1])


SINGLE_FACTS: Mapping[str, Baseline] = {
    "prior": prior,
    "tenure": tenure,
    "days_to_renewal": days_to_renewal,
    "usage_trend": usage_trend,
    "health_score": health_score,
}
"""Baselines that know one fact of an account at most; a model no better than these has learned nothing."""

BASELINES: Mapping[str, Baseline] = {**SINGLE_FACTS, "logistic": logistic}


def told_baselines(rows: pd.DataFrame, features: tuple[str, ...]) -> dict[str, Baseline]:
    """The baselines whose fact the company's data tell; the others would repeat the prior."""
    needs = {"tenure": "tenure_days", "days_to_renewal": "days_to_renewal", "usage_trend": "usage_trend_28v91",
             "health_score": "health_score"}  # fmt: skip
    return {
        name: baseline
        for name, baseline in BASELINES.items()
        if name not in needs or (needs[name] in rows and rows[needs[name]].notna().any())
    }
