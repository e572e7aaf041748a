"""Features that know too much: what no honest feature of the past should show, each with its figure and its limit.

Planting rows (`features/certificate.py`) shows that tenure's own formulas see nothing later. It cannot show that a
column was not filled in afterwards at the source, or what was learned from in the end; these checks look at that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from training import metrics

Floats = npt.NDArray[np.float64]

MAX_AUC = 0.95
"""Of a single feature, either way round."""
MAX_SHARE = 0.9
"""Lost among the rows of one value, one bin, or of those that have a value or none."""
MIN_ROWS, MIN_GROUPS = 10, 5
"""Rows, and accounts, that a value must have before its share says anything."""
BINS = 20
MIN_LEAD = 0.1
"""|AUC − 0.5| from which a feature's fall a week earlier is looked at."""
KEPT_LEAD = 0.5
"""Share of it that must be left a week earlier."""
MIN_LOST = 20
"""Lost accounts below which a feature's fall may be chance."""
DENIED = re.compile(
    r"(^|_)(churn\w*|status|cancel\w*|ended?_at|end_reason|terminat\w*|exit\w*|lost|left|outcome|reason_lost)(_|$)"
)
"""Names of fields that are filled in when an account leaves."""
DENIED_NEEDS = frozenset({"accounts.churned_at", "contracts.end_reason", "contracts.ended_at", "actions.outcome"})


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A feature beyond a limit."""

    feature: str
    check: str
    value: float
    limit: float
    said: str

    def __str__(self) -> str:
        return f"{self.feature}: {self.said}"


def inspected(
    rows: pd.DataFrame, features: Sequence[str], *, needs: Mapping[str, Sequence[str]] | None = None
) -> list[Finding]:
    """Every check of one feature on rows that were judged.

    Parameters
    ----------
    rows : with account_id, churned (0 or 1) and the features, numbers all
    needs : feature → columns of the data contract that it reads, where it was made by tenure
    """
    lost = rows.churned.to_numpy(dtype=float)
    groups = pd.factorize(rows.account_id)[0]
    found: list[Finding] = []
    for name in features:
        values = rows[name].to_numpy(dtype=float)
        found += _denied(name, None if needs is None else needs.get(name))
        found += _too_good(name, values, lost)
        found += _too_pure(name, values, lost, groups)
    return found


def faded(rows: pd.DataFrame, earlier: pd.DataFrame, features: Sequence[str], *, days: int = 7) -> list[Finding]:
    """Features that told far less `days` before: filled in, or known, only when the account was already leaving.

    `rows` and `earlier` hold account_id, as_of and the features; those of `earlier` were built `days` before, under
    the `as_of` of `rows`. Rows without an earlier one are left out.
    """
    both = rows.merge(earlier, on=["account_id", "as_of"], suffixes=("", "_before"))
    lost = both.churned.to_numpy(dtype=float)
    if both.loc[both.churned == 1, "account_id"].nunique() < MIN_LOST:
        return []
    found = []
    for name in features:
        now, before = (_lead(both[column].to_numpy(dtype=float), lost) for column in (name, f"{name}_before"))
        if now >= MIN_LEAD and before < KEPT_LEAD * now:
            said = f"|AUC - 0.5| is {now:.3f}, and {before:.3f} when built {days} days earlier"
            found.append(Finding(feature=name, check="rebuilt_earlier", value=before / now, limit=KEPT_LEAD, said=said))
    return found


def _denied(name: str, needs: Sequence[str] | None) -> Iterator[Finding]:
    if needs is None:
        is_denied = DENIED.search(name) is not None
        why = "its name is one of a field that is filled in when an account leaves"
    else:
        denied = [need for need in needs if need in DENIED_NEEDS]
        is_denied = bool(denied)
        why = f"it reads {', '.join(denied)}, filled in when an account leaves"
    if is_denied:
        yield Finding(feature=name, check="denied_field", value=1.0, limit=0.0, said=why)


def _too_good(name: str, values: Floats, lost: Floats) -> Iterator[Finding]:
    auc = 0.5 + _lead(values, lost)
    if auc > MAX_AUC:
        said = f"alone it tells the lost from the kept with an AUC of {auc:.3f}"
        yield Finding(feature=name, check="single_auc", value=auc, limit=MAX_AUC, said=said)


def _lead(values: Floats, lost: Floats) -> float:
    """|AUC − 0.5| of a feature; a missing value is a value of its own, below or above all others."""
    filled = values[~np.isnan(values)]
    if not filled.size:
        return 0.0
    leads = []
    for rest in (filled.min() - 1, filled.max() + 1) if filled.size < values.size else (0.0,):
        auc = metrics.roc_auc(lost, np.where(np.isnan(values), rest, values))
        leads.append(0.0 if auc is None else abs(auc - 0.5))
    return max(leads)


def _too_pure(name: str, values: Floats, lost: Floats, groups: npt.NDArray[np.intp]) -> Iterator[Finding]:
    """At most one finding a feature: the part of its values with the largest share lost."""
    worst: tuple[float, str, int] | None = None
    for shown, chosen in _portions(values):
        rows = int(chosen.sum())
        if rows < MIN_ROWS or rows == values.size or np.unique(groups[chosen]).size < MIN_GROUPS:
            continue
        share = float(lost[chosen].mean())
        if share >= MAX_SHARE and (worst is None or (share, rows) > (worst[0], worst[2])):
            worst = share, shown, rows
    if worst is not None:
        share, shown, rows = worst
        said = f"{share:.0%} of the {rows} rows where it is {shown} were lost"
        yield Finding(feature=name, check="pure_value", value=share, limit=MAX_SHARE, said=said)


def _portions(values: Floats) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    missing = np.isnan(values)
    yield "missing", missing
    yield "given", ~missing
    kinds = np.unique(values[~missing])
    if kinds.size <= BINS:
        yield from ((f"{kind:g}", values == kind) for kind in kinds)
        return
    edges = np.unique(np.quantile(values[~missing], np.linspace(0, 1, BINS + 1)))
    for low, high in pairwise(edges):
        top = values <= high if high == edges[-1] else values < high
        yield f"between {low:g} and {high:g}", (values >= low) & top & ~missing


@dataclass(frozen=True, kw_only=True)
class Permuted:
    """What the whole procedure reaches on labels that mean nothing."""

    mean_auc: float
    low: float
    high: float
    """99 % of random scores lie between `low` and `high` on the same labels."""
    times: int

    @property
    def is_clean(self) -> bool:
        """Whether the procedure reaches no more than chance.

        Less than chance is no leak: an account that is lost at the last instant was kept at those learned from.
        """
        return self.mean_auc <= self.high

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "is_clean": self.is_clean}


Procedure = Callable[[pd.DataFrame], tuple[Floats, Floats]]
"""From rows with other labels to what was judged: churned and score, (n,) each."""


def permuted(rows: pd.DataFrame, procedure: Procedure, *, times: int, seed: int) -> Permuted:
    """Whole histories of accounts swapped `times` times, the procedure run on each.

    An account keeps its rows and takes the labels of another one, instant by instant; so a procedure that learns from
    what it is judged on is found, while features that leak are not.
    """
    rng = np.random.default_rng(seed)
    found, chance = [], []
    for _ in range(times):
        lost, score = procedure(_swapped(rows, rng))
        auc = metrics.roc_auc(lost, score)
        if auc is None:
            continue
        found.append(auc)
        chance.append([metrics.roc_auc(lost, rng.random(lost.size)) or 0.5 for _ in range(20)])
    if not found:
        return Permuted(mean_auc=0.5, low=0.0, high=1.0, times=0)
    # Means of as many random scores as there are permutations, drawn again and again.
    pools = np.asarray(chance)
    means = np.asarray([pools[np.arange(len(pools)), rng.integers(0, 20, len(pools))].mean() for _ in range(2000)])
    low, high = np.quantile(means, [0.005, 0.995])
    return Permuted(mean_auc=float(np.mean(found)), low=float(low), high=float(high), times=len(found))


def _swapped(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Each account with the labels of another one at the same instants; kept where that one had no row.

    Accounts of every length are swapped with each other: swapped among their like, the length itself would tell.
    """
    labels = rows.pivot(index="account_id", columns="as_of", values="churned").fillna(0)
    table = labels.to_numpy()[rng.permutation(len(labels))]
    account = labels.index.get_indexer(pd.Index(rows.account_id))
    instant = labels.columns.get_indexer(pd.Index(rows.as_of))
    return rows.assign(churned=table[account, instant].astype("int8"))
