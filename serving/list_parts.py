"""What every list is made of, whoever ranked it: rows of one shape, and each account of the company in one part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import pandas as pd
import pyarrow as pa

from features.errors import TenureError
from features.model_settings import PolicySettings, places
from serving.retention.playbooks import Play, suggest

EXCLUDED = {
    "lost": "no live contract",
    "potential": "never a customer so far",
    "already_silent": "no use for as long as counts as lost",
}
NOT_SCORED = {"notice": "it is leaving; notice is known, or its contract ended lately", **EXCLUDED}
"""Why an account of a phase is not scored."""

RiskList = dict[str, Any]
"""`as_of`, `model_version`, `heading`, `counts`, `rows`, `leaving`, `excluded`, `left`: plain values."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a list follows beside the model."""

    plays: Sequence[Play]
    policy: PolicySettings
    lead_days: int
    """A notice deadline within so many days makes the account one for *now*."""
    threads: int = 1
    """Of the contributions, whose values do not depend on it."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A list, and what the next one will need of it."""

    risk_list: RiskList
    contributions: pd.DataFrame
    """Raw score and contribution of each group to it, by account_id; empty where no model spoke."""
    timeline: pa.Table | None = None
    """What happened to each account, as `features.timeline` tells it; None for a list that shows none."""


def row_of(
    row: Mapping[str, Any], reasons: Sequence[Mapping[str, Any]], eases: Mapping[str, Any] | None, rules: Rules,
    as_of: datetime,
) -> dict[str, Any]:  # fmt: skip
    """One ranked account, without its rank.

    Parameters
    ----------
    row : its features, and account_id, name, csm_id, parent_id, segment, mrr, probability, raw_score, band
    reasons, eases : as `Reason.as_dict` gives them
    """
    play = suggest(rules.plays, row, [reason["group"] for reason in reasons], as_of.date())
    plain = {name: value_of(row[name]) for name in _SHOWN}
    notice, renewal = plain.pop("days_to_notice_deadline"), plain.pop("days_to_renewal")
    is_valued = plain["mrr"] is not None and plain["probability"] is not None
    return {
        **plain,
        "part": "now" if notice is not None and 0 <= notice <= rules.lead_days else "act",
        "mrr_at_risk": plain["probability"] * plain["mrr"] if is_valued else None,
        "days_to_renewal": None if renewal is None else int(renewal),
        "days_to_notice_deadline": None if notice is None else int(notice),
        "reasons": list(reasons),
        "eases": eases,
        "play": None if play is None else {**vars(play), "due_date": play.due_date.isoformat()},
    }


_SHOWN = (
    "account_id", "name", "csm_id", "parent_id", "segment", "probability", "raw_score", "band", "mrr",
    "days_to_renewal", "days_to_notice_deadline",
)  # fmt: skip


def parts_of(
    ranked: Sequence[Mapping[str, Any]], people: pd.DataFrame, rules: Rules, *, as_of: datetime
) -> dict[str, Any]:
    """The parts of a list around its ranked accounts, and how many are in each.

    Parameters
    ----------
    ranked : rows in their order
    people : every account with phase, mrr, name, csm_id
    """
    most = places(len(ranked), rules.policy.capacity)
    rows = [{"rank": rank, "is_listed": rank <= most, **row} for rank, row in enumerate(ranked, start=1)]
    leaving = people[people.phase == "notice"]
    excluded = people[people.phase.isin(list(EXCLUDED))]
    _refuse_lost_rows(people, len(rows) + len(leaving) + len(excluded), as_of)
    return {
        "as_of": f"{as_of:%Y-%m-%d}",
        "counts": {"accounts": len(people), "scored": len(rows), "listed": min(most, len(rows)),
                   "leaving": len(leaving), "excluded": len(excluded)},
        "rows": rows,
        "leaving": [
            {**_plain(row), "reason": NOT_SCORED["notice"]}
            for row in records(leaving[["account_id", "name", "csm_id", "mrr"]])
        ],
        "excluded": [
            {**_plain(row), "reason": EXCLUDED[row["phase"]]}
            for row in records(excluded[["account_id", "name", "csm_id", "phase"]])
        ],
    }  # fmt: skip


def others_of(people: pd.DataFrame) -> dict[str, str]:
    """What each account that is not ranked is, by id."""
    return {row["account_id"]: NOT_SCORED[row["phase"]] for row in records(people) if row["phase"] in NOT_SCORED}


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as mappings."""
    return cast("list[dict[str, Any]]", rows.to_dict("records"))


def value_of(value: Any) -> Any:
    """A value, None where it is missing."""
    return None if pd.isna(value) else value


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value_of(value) for name, value in row.items()}


def _refuse_lost_rows(people: pd.DataFrame, accounted: int, as_of: datetime) -> None:
    if accounted != len(people):
        raise TenureError(
            f"The list of {as_of:%Y-%m-%d} must account for all {len(people)} accounts; found {accounted}. "
            "Nothing was published; please report this."
        )
