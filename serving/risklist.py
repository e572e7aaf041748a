"""The list of a morning: who is at risk, in which order, why, and what to do first.

Every account of the company is in exactly one part: ranked, leaving (notice known), or excluded with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import pandas as pd

from features.errors import TenureError
from features.settings import places
from serving.champion import Champion
from serving.reasons import Reason, reasons
from serving.retention.playbooks import Play, suggest
from serving.scoring import score

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


def risk_list(
    champion: Champion, features: pd.DataFrame, people: pd.DataFrame, plays: Sequence[Play], *, as_of: datetime,
    capacity: float,
) -> RiskList:  # fmt: skip
    """Rank every account scored at `as_of`.

    Parameters
    ----------
    features : features of the accounts active at `as_of`
    people : every account with phase, mrr, name, csm_id
    capacity : share of the scored accounts that the team can contact
    """
    model = champion.model
    ranked = _ranked(score(model, features).merge(people, on="account_id"), no_signal=model.no_signal)
    told = reasons(model, ranked)
    most = places(len(ranked), capacity)
    rows = [
        _row(row, why, plays, as_of, rank=rank, within=rank <= most)
        for rank, (row, why) in enumerate(zip(_records(ranked), told, strict=True), start=1)
    ]
    leaving = people[people.phase == "notice"]
    excluded = people[people.phase.isin(list(EXCLUDED))]
    _refuse_lost_rows(people, len(rows) + len(leaving) + len(excluded), as_of)
    return {
        "as_of": f"{as_of:%Y-%m-%d}",
        "model_version": champion.version,
        "model_artefact": champion.artefact,
        "horizon_days": model.horizon_days,
        "base_rate": model.base_rate,
        "heading": NO_SIGNAL_HEADING if model.no_signal else "Accounts at risk",
        "counts": {"accounts": len(people), "scored": len(rows), "listed": min(most, len(rows)),
                   "leaving": len(leaving), "excluded": len(excluded)},
        "rows": rows,
        "leaving": [_plain(row) for row in _records(leaving[["account_id", "name", "csm_id", "mrr"]])],
        "excluded": [
            {**_plain(row), "reason": EXCLUDED[row["phase"]]}
            for row in _records(excluded[["account_id", "csm_id", "phase"]])
        ],
    }  # fmt: skip


def _ranked(scored: pd.DataFrame, *, no_signal: bool) -> pd.DataFrame:
    """By probability × value; without signal by value, then by the nearer renewal."""
    value = scored.probability * scored.mrr.fillna(1.0)
    by = {"value": value, "tie": -scored.days_to_renewal if no_signal else scored.raw_score}
    order = ["value", "tie", "account_id"]
    return scored.assign(**by).sort_values(order, ascending=[False, False, True], na_position="last")


def _row(
    row: dict[str, Any], why: Sequence[Reason], plays: Sequence[Play], as_of: datetime, *, rank: int, within: bool
) -> dict[str, Any]:
    play = suggest(plays, row, [reason.group for reason in why], as_of.date())
    plain = _plain(row)
    return {
        "rank": rank,
        "is_listed": within,
        "account_id": plain["account_id"],
        "name": plain["name"],
        "csm_id": plain["csm_id"],
        "probability": plain["probability"],
        "band": plain["band"],
        "mrr": plain["mrr"],
        "mrr_at_risk": None if plain["mrr"] is None else plain["probability"] * plain["mrr"],
        "days_to_renewal": None if plain["days_to_renewal"] is None else int(plain["days_to_renewal"]),
        "reasons": [reason.as_dict() for reason in why],
        "play": None if play is None else {**asdict(play), "due_date": play.due_date.isoformat()},
    }


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if pd.isna(value) else value for name, value in row.items()}


def _refuse_lost_rows(people: pd.DataFrame, accounted: int, as_of: datetime) -> None:
    if accounted != len(people):
        raise TenureError(
            f"The list of {as_of:%Y-%m-%d} must account for all {len(people)} accounts; found {accounted}. "
            "Nothing was published; please report this."
        )
