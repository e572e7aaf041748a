"""Cuts in time for scikit-learn: learned before, judged later, and nothing that was not final then."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator

Rows = NDArray[np.intp]


class EmbargoedTimeSplit(BaseCrossValidator):  # type: ignore[misc]
    """Rolling origin with an embargo: each fold is judged at one instant on rows that were final before it.

    The labels of an instant are final only `embargo_days` later, so a fold at T learns from rows with
    `as_of + embargo_days <= T` and is judged on the rows of T. A cut without the embargo lets a model learn from
    outcomes that nobody knew at T.

    Parameters
    ----------
    instants : (n_rows,) of datetime
        The instant of each row, in the order of `X`: `dataset.instants`.
    embargo_days : int
        Horizon, grace and reporting delay together: `dataset.embargo_days`.
    n_splits : int
        The latest instants that have rows to learn from and both outcomes among them.
    new_only : bool
        Judge only rows whose group was in no row learned from; asks for `groups`.
    """

    def __init__(self, instants: ArrayLike, *, embargo_days: int, n_splits: int = 4, new_only: bool = False) -> None:
        self.instants = instants
        self.embargo_days = embargo_days
        self.n_splits = n_splits
        self.new_only = new_only

    def split(
        self, X: object, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[Rows, Rows]]:
        """Row numbers to learn from and to be judged on, the earliest fold first.

        Raises
        ------
        ValueError
            The instants are not those of `X`, no instant can be judged, or `groups` is missing.
        """
        instants = pd.to_datetime(pd.Series(np.asarray(self.instants)))
        n_rows = len(X)  # type: ignore[arg-type]
        if n_rows != len(instants):
            raise ValueError(f"instants must have one entry per row of X; found {len(instants)} for {n_rows} rows.")
        if self.new_only and groups is None:
            raise ValueError("groups must say who each row is about, where new_only is set; found none.")
        labels = None if y is None else np.asarray(y)
        found = [fold for at in sorted(instants.unique()) if (fold := self._fold(instants, at, labels, groups))]
        if not found:
            span = f"{instants.min():%Y-%m-%d} to {instants.max():%Y-%m-%d}"
            raise ValueError(
                f"Some instant must have rows that were final {self.embargo_days} days before it; found none from "
                f"{span}. Take a shorter embargo_days, or more instants."
            )
        yield from found[-self.n_splits :]

    def get_n_splits(self, X: object = None, y: ArrayLike | None = None, groups: ArrayLike | None = None) -> int:
        """Folds that `split` gives: at most `n_splits`."""
        return self.n_splits if X is None else sum(1 for _ in self.split(X, y, groups))

    def _fold(
        self, instants: pd.Series, at: pd.Timestamp, labels: NDArray[np.generic] | None, groups: ArrayLike | None
    ) -> tuple[Rows, Rows] | None:
        learned = (instants + pd.Timedelta(days=self.embargo_days) <= at).to_numpy()
        judged = (instants == at).to_numpy()
        if self.new_only:
            who = np.asarray(groups)
            judged = judged & ~np.isin(who, who[learned])
        if not learned.any() or not judged.any():
            return None
        if labels is not None and np.unique(labels[learned]).size < 2:
            return None
        return np.flatnonzero(learned), np.flatnonzero(judged)
