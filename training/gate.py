"""Whether a challenger may replace the champion: both judged on the same later rows, each check with its figures.

The first check that fails decides. A challenger is *rejected* where it is worse or unsafe, *kept* as challenger where
nothing shows that it is better, and *promoted* where something does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.model_settings import PolicySettings
from training import metrics
from training.calibration_line import calibration_line
from training.intervals import Estimate, drawn_sums, ece_noise_floor, paired_difference, parents_of
from training.views import MIN_LOST, with_lists

Floats = npt.NDArray[np.float64]
Verdict = Literal["passed", "failed", "watch", "not judged"]
Outcome = Literal["promote", "keep", "reject"]

CHAMPION, CHALLENGER = "champion", "challenger"
MOST_LOST_RECALL = 0.10
"""MRR recall that a segment may lose before the gate must be sure that it lost no more."""
LEVEL = 0.05
SURE = (2.5, 97.5)
CALIBRATION_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part of the gate."""

    name: str
    verdict: Verdict
    said: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What became of a challenger, and why."""

    outcome: Outcome
    checks: tuple[Check, ...]

    @property
    def reason(self) -> str:
        """The check that decided, in words."""
        failed = [check for check in self.checks if check.verdict == "failed"]
        decided = failed or [check for check in self.checks if check.name == "better"] or list(self.checks)
        return "; ".join(f"{check.name}: {check.said}" for check in decided)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"outcome": self.outcome, "reason": self.reason, "checks": [asdict(check) for check in self.checks]}


def decide(
    rows: pd.DataFrame,
    policy: PolicySettings,
    *,
    is_refresh: bool,
    faults: Sequence[str] = (),
    draws: int = 2000,
    seed: int = 0,
) -> Decision:
    """Judge a challenger beside the champion.

    Parameters
    ----------
    rows : one per account and later instant, with account_id, parent_id, segment, as_of, churned, mrr and the
        probabilities `champion` and `challenger`, of models that knew only what was known at the instant
    is_refresh : the same recipe on newer data; it is promoted unless it is worse, a new recipe only if it is better
    faults : why the challenger is unsafe whatever its figures, in words
    """
    checks = [Check(name="leakage", verdict="failed", said=fault) for fault in faults]
    checks += [_calibration(rows, draws=min(draws, CALIBRATION_DRAWS), seed=seed)]
    checks += _segments(rows, policy, draws=draws, seed=seed)
    loss = paired_difference(rows, CHALLENGER, CHAMPION, "log_loss", draws=draws, seed=seed)
    profit = _profit_gained(rows, policy, draws=draws, seed=seed)
    checks.append(_loss_check(loss))
    if any(check.verdict == "failed" for check in checks):
        return Decision(outcome="reject", checks=tuple(checks))
    better = _is_sure(loss, below=True) or _is_sure(profit, below=False)
    checks.append(_profit_check(profit, is_better=better, is_refresh=is_refresh))
    return Decision(outcome="promote" if better or is_refresh else "keep", checks=tuple(checks))


def _is_sure(estimate: Estimate, *, below: bool) -> bool:
    """Whether the whole interval lies on one side of 0."""
    if estimate.low is None or estimate.high is None:
        return False
    return estimate.high < 0 if below else estimate.low > 0


def _loss_check(loss: Estimate) -> Check:
    if loss.value is None or loss.low is None:
        return Check(name="log loss", verdict="not judged", said=str(loss.reason))
    said = f"challenger less champion {loss.value:+.5f} (95 % {loss.low:+.5f} to {loss.high:+.5f})"
    return Check(name="log loss", verdict="failed" if loss.low > 0 else "passed", said=said)


def _profit_check(profit: Estimate, *, is_better: bool, is_refresh: bool) -> Check:
    said = f"profit per account at capacity {profit.value:+.2f} (95 % {profit.low:+.2f} to {profit.high:+.2f})"
    if is_better:
        return Check(name="better", verdict="passed", said=f"log loss or profit is surely better; {said}")
    if is_refresh:
        return Check(name="better", verdict="passed", said=f"the same recipe on newer data, not worse; {said}")
    return Check(name="better", verdict="watch", said=f"neither log loss nor profit is surely better; {said}")


def _calibration(rows: pd.DataFrame, *, draws: int, seed: int) -> Check:
    """Failed where the gap is wider than chance leaves and intercept or slope is surely off.

    The noise floor alone takes rows for independent; an account judged at several instants is not.
    """
    lost, chance = rows.churned.to_numpy(float), rows[CHALLENGER].to_numpy(float)
    gap, floor = metrics.ece(lost, chance), ece_noise_floor(chance, draws=500, seed=seed)
    if gap is None:
        return Check(name="calibration", verdict="not judged", said=str(metrics.why_undefined(lost, chance)))
    lines = (calibration_line(lost, chance, weights=weights) for weights in _draws(rows, draws, seed))
    fits = np.asarray([(line.intercept, line.slope) for line in lines if line is not None])
    low, high = np.percentile(fits, SURE, axis=0)
    is_off = low[0] > 0 or high[0] < 0 or low[1] > 1 or high[1] < 1
    said = (
        f"ECE {gap:.4f}, chance leaves up to {floor:.4f}; intercept {low[0]:+.2f} to {high[0]:+.2f}, "
        f"slope {low[1]:.2f} to {high[1]:.2f}"
    )
    return Check(name="calibration", verdict="failed" if gap > floor and is_off else "passed", said=said)


def _draws(rows: pd.DataFrame, draws: int, seed: int) -> Iterator[Floats]:
    """Weights of each row, Poisson by parent."""
    parents = parents_of(rows)
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield rng.poisson(1.0, parents.max() + 1).astype(float)[parents]


def _segments(rows: pd.DataFrame, policy: PolicySettings, *, draws: int, seed: int) -> list[Check]:
    """Segments that lose recall: failed where surely more than the limit (Holm over segments), else watched."""
    found = _found(rows, policy)
    drops: dict[str, tuple[float, float]] = {}
    for segment, part in found.groupby("segment"):
        if part.loc[part.lost_mrr > 0, "account_id"].nunique() >= MIN_LOST:
            drops[str(segment)] = _recall_drop(part, draws=draws, seed=seed)
    checks, is_open = [], True
    for number, (segment, (drop, chance)) in enumerate(sorted(drops.items(), key=lambda item: item[1][1])):
        is_open = is_open and chance <= LEVEL / (len(drops) - number)
        verdict: Verdict = "failed" if is_open else ("watch" if drop < -MOST_LOST_RECALL else "passed")
        limit = f"{MOST_LOST_RECALL:.0%}"
        said = f"{segment}: MRR recall {drop:+.1%}, chance that it fell by no more than {limit} is {chance:.3f}"
        checks.append(Check(name="segment", verdict=verdict, said=said))
    return checks


def _recall_drop(part: pd.DataFrame, *, draws: int, seed: int) -> tuple[float, float]:
    """Challenger's recall less the champion's, and the share of draws in which it fell by no more than the limit."""
    lost = part.lost_mrr.to_numpy()
    gain = (part[f"is_{CHALLENGER}"].to_numpy(float) - part[f"is_{CHAMPION}"].to_numpy(float)) * lost
    drawn = drawn_sums(part, {"gain": gain, "lost": lost}, draws=draws, seed=seed)
    deltas = drawn["gain"][drawn["lost"] > 0] / drawn["lost"][drawn["lost"] > 0]
    return float(gain.sum() / lost.sum()), float((deltas >= -MOST_LOST_RECALL).mean())


def _found(rows: pd.DataFrame, policy: PolicySettings) -> pd.DataFrame:
    """`rows` with the lists that each of the two would have made, and the money lost."""
    found = rows.assign(segment=rows.segment.fillna("(none)"), worth=rows.mrr.fillna(1.0))
    found["lost_mrr"] = found.worth.where(found.churned == 1, 0.0)
    for name in (CHAMPION, CHALLENGER):
        lists = with_lists(found.assign(probability=found[name], raw_score=found[name]), policy)
        found[f"is_{name}"] = lists.is_listed.reindex(found.index)
    return found


def _profit_gained(rows: pd.DataFrame, policy: PolicySettings, *, draws: int, seed: int) -> Estimate:
    """Money per account that the challenger's lists earn above the champion's, as `[policy]` values a contact."""
    found = _found(rows, policy)
    value = 12 * found.worth
    margin = np.where(
        found.churned == 1,
        policy.saved_share * (1 - policy.offer_share) * value - policy.contact_cost,
        -policy.offer_share * value - policy.contact_cost,
    )
    gain = (found[f"is_{CHALLENGER}"].to_numpy(float) - found[f"is_{CHAMPION}"].to_numpy(float)) * margin
    drawn = drawn_sums(found, {"gain": gain, "rows": np.ones(len(found))}, draws=draws, seed=seed)
    low, high = np.percentile(drawn["gain"] / drawn["rows"], SURE)
    return Estimate(float(gain.mean()), float(low), float(high))
