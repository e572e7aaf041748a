"""The list of a morning: who is at risk, in which order, why, and what to do first.

Every account of the company is in exactly one part: ranked, leaving (notice known), or excluded with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from features.errors import TenureError
from features.settings import PolicySettings, places
from serving.champion import Champion
from serving.changes import Before, kind_of, moves, settled_band, who_left
from serving.reasons import Contributions, Why, contributions_of, told
from serving.retention.playbooks import Play, suggest
from serving.scoring import score
from training.model import ChurnModel

NO_SIGNAL_HEADING = "No better than the prior"
EXCLUDED = {
    "lost": "no live contract",
    "potential": "never a customer so far",
    "already_silent": "no use for as long as counts as lost",
}
NOT_SCORED = {"notice": "it is leaving; notice is known, or its contract ended lately", **EXCLUDED}
"""Why an account of a phase is not scored."""

RiskList = dict[str, Any]
"""`as_of`, `model_version`, `heading`, `counts`, `rows`, `leaving`, `excluded`: plain values, ready for JSON."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A list, and what the next one will need of it."""

    risk_list: RiskList
    contributions: pd.DataFrame
    """Raw score and contribution of each group to it, by account_id; empty from a model without signal."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a list follows beside the model."""

    plays: Sequence[Play]
    policy: PolicySettings
    lead_days: int
    """A notice deadline within so many days makes the account one for *now*."""
    threads: int = 1
    """Of the contributions, whose values do not depend on it."""


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
    ranked = ranked.reset_index(drop=True)
    speaks = not (model.no_signal or ranked.empty)
    found = contributions_of(model, ranked, threads=rules.threads) if speaks else None
    why = [Why()] * len(ranked) if found is None else told(model, ranked, found)
    moved = {} if found is None or before is None else moves(model, champion.artefact, ranked, found, before)
    most = places(len(ranked), rules.policy.capacity)
    rows = []
    for rank, (row, reasons) in enumerate(zip(_records(ranked), why, strict=True), start=1):
        made = _row(row, reasons, rules, as_of, rank=rank, within=rank <= most)
        rows.append({**made, **_changed(model, made, before, moved)})
    leaving = people[people.phase == "notice"]
    excluded = people[people.phase.isin(list(EXCLUDED))]
    _refuse_lost_rows(people, len(rows) + len(leaving) + len(excluded), as_of)
    others = {row["account_id"]: NOT_SCORED[row["phase"]] for row in _records(people) if row["phase"] in NOT_SCORED}
    listed = {
        "as_of": f"{as_of:%Y-%m-%d}",
        "before": None if before is None else {"as_of": before.as_of, "list_id": before.list_id},
        "model_version": champion.version,
        "model_artefact": champion.artefact,
        "horizon_days": model.horizon_days,
        "base_rate": model.base_rate,
        "heading": NO_SIGNAL_HEADING if model.no_signal else "Accounts at risk",
        "counts": {"accounts": len(people), "scored": len(rows), "listed": min(most, len(rows)),
                   "leaving": len(leaving), "excluded": len(excluded)},
        "rows": rows,
        "leaving": [
            {**_plain(row), "reason": NOT_SCORED["notice"]}
            for row in _records(leaving[["account_id", "name", "csm_id", "mrr"]])
        ],
        "excluded": [
            {**_plain(row), "reason": EXCLUDED[row["phase"]]}
            for row in _records(excluded[["account_id", "name", "csm_id", "phase"]])
        ],
        "left": who_left(before, {row["account_id"] for row in rows}, others),
    }  # fmt: skip
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
    return scored.assign(**by).sort_values(order, ascending=[False, False, True], na_position="last")


def _row(row: dict[str, Any], why: Why, rules: Rules, as_of: datetime, *, rank: int, within: bool) -> dict[str, Any]:
    play = suggest(rules.plays, row, [reason.group for reason in why.raises], as_of.date())
    plain = {name: _value(row[name]) for name in _SHOWN}
    notice = plain["days_to_notice_deadline"]
    return {
        "rank": rank,
        "is_listed": within,
        "account_id": plain["account_id"],
        "name": plain["name"],
        "csm_id": plain["csm_id"],
        "parent_id": plain["parent_id"],
        "segment": plain["segment"],
        "probability": plain["probability"],
        "raw_score": plain["raw_score"],
        "band": plain["band"],
        "part": "now" if notice is not None and 0 <= notice <= rules.lead_days else "act",
        "mrr": plain["mrr"],
        "mrr_at_risk": None if plain["mrr"] is None else plain["probability"] * plain["mrr"],
        "days_to_renewal": None if plain["days_to_renewal"] is None else int(plain["days_to_renewal"]),
        "days_to_notice_deadline": None if notice is None else int(notice),
        "reasons": [reason.as_dict() for reason in why.raises],
        "eases": None if why.eases is None else why.eases.as_dict(),
        "play": None if play is None else {**vars(play), "due_date": play.due_date.isoformat()},
    }


_SHOWN = (
    "account_id", "name", "csm_id", "parent_id", "segment", "probability", "raw_score", "band", "mrr",
    "days_to_renewal", "days_to_notice_deadline",
)  # fmt: skip


def _value(value: Any) -> Any:
    return None if pd.isna(value) else value


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in row.items()}


def _refuse_lost_rows(people: pd.DataFrame, accounted: int, as_of: datetime) -> None:
    if accounted != len(people):
        raise TenureError(
            f"The list of {as_of:%Y-%m-%d} must account for all {len(people)} accounts; found {accounted}. "
            "Nothing was published; please report this."
        )
