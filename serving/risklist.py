"""The list of a morning: who is at risk, in which order, why, and what changed since the one before.

Every account of the company is in exactly one part: ranked, leaving (notice known), or excluded with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from serving.champion import Champion
from serving.changes import Before, kind_of, moves, settled_band, who_left
from serving.list_parts import Made, Rules, others_of, parts_of, records, row_of
from serving.reasons import Contributions, Why, contributions_of, told
from serving.scoring import score
from training.model import ChurnModel

NO_SIGNAL_HEADING = "No better than the prior"


def risk_list(
    champion: Champion, features: pd.DataFrame, people: pd.DataFrame, rules: Rules, *, as_of: datetime,
    before: Before | None = None,
) -> Made:  # fmt: skip
    """Rank every account scored at `as_of`.

    Parameters
    ----------
    features : features of the accounts active at `as_of`
    people : every account with phase, mrr, name, csm_id, parent_id, segment
    before : the list of an earlier day: a band is left only where it is clearly left, and changes are told
    """
    model = champion.model
    ranked = _ranked(score(model, features).merge(people, on="account_id"), no_signal=model.no_signal)
    speaks = not (model.no_signal or ranked.empty)
    matrix = model.matrix(ranked)
    found = contributions_of(model, matrix, threads=rules.threads) if speaks else None
    reasons = [Why()] * len(ranked) if found is None else told(model, matrix, found)
    moved = {} if found is None or before is None else moves(model, champion.artefact, ranked, found, before)
    rows = []
    for row, why in zip(records(ranked), reasons, strict=True):
        eases = None if why.eases is None else why.eases.as_dict()
        made = row_of(row, [reason.as_dict() for reason in why.raises], eases, rules, as_of)
        rows.append({**made, **_changed(model, made, before, moved)})
    listed = {
        "before": None if before is None else {"as_of": before.as_of, "list_id": before.list_id},
        "model_version": champion.version,
        "model_artefact": champion.artefact,
        "horizon_days": model.horizon_days,
        "base_rate": model.base_rate,
        "heading": NO_SIGNAL_HEADING if model.no_signal else "Accounts at risk",
        **parts_of(rows, people, rules, as_of=as_of),
        "left": who_left(before, {row["account_id"] for row in rows}, others_of(people)),
    }
    return Made(risk_list=listed, contributions=_kept(ranked, found))


def _changed(
    model: ChurnModel, row: Mapping[str, Any], before: Before | None, moved: Mapping[str, Any]
) -> dict[str, Any]:
    """The band as it settles, and what is different from the list before."""
    account = row["account_id"]
    then = None if before is None else before.rows.get(account)
    band = settled_band(model, row["probability"], None if then is None else then["band"])
    if before is None:
        return {"band": band, "change": None}
    change = {
        "kind": kind_of(then, band, [name for name, _ in model.bands]),
        "probability_before": None if then is None else then["probability"],
        "band_before": None if then is None else then["band"],
        "rank_before": None if then is None else then["rank"],
        "moved_by": moved.get(account),
    }
    return {"band": band, "change": change}


def _kept(ranked: pd.DataFrame, found: Contributions | None) -> pd.DataFrame:
    if found is None:
        return pd.DataFrame({"account_id": pd.Series(dtype=str)})
    sums = pd.DataFrame(found.by_group, columns=list(found.groups))
    return pd.concat([ranked[["account_id", "raw_score"]], sums], axis=1).sort_values("account_id", ignore_index=True)


def _ranked(scored: pd.DataFrame, *, no_signal: bool) -> pd.DataFrame:
    """By probability × value; without signal by value, then by the nearer renewal."""
    value = scored.probability * scored.mrr.fillna(1.0)
    by = {"value": value, "tie": -scored.days_to_renewal if no_signal else scored.raw_score}
    order = ["value", "tie", "account_id"]
    ranked = scored.assign(**by).sort_values(order, ascending=[False, False, True], na_position="last")
    return ranked.reset_index(drop=True)
