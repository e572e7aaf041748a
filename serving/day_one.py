"""The list before there is a model: accounts by the rules they meet, said to be rules, without a probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from serving.list_parts import Made, Rules, parts_of, records, row_of
from serving.reasons import sentence
from serving.retention.playbooks import Condition

HEADING = "By rules: no model is champion yet"
VERSION = "rules"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A sign of risk that needs no model."""

    condition: Condition
    group: str


RULES = (
    Rule(condition=Condition("days_to_notice_deadline", at_least=0, at_most=90), group="commercial"),
    Rule(condition=Condition("usage_trend_28v91", at_most=-0.35), group="usage"),
    Rule(condition=Condition("days_since_core_use", at_least=28), group="usage"),
    Rule(condition=Condition("days_since_last_touch", at_least=60), group="engagement"),
    Rule(condition=Condition("is_nps_detractor", at_least=1), group="sentiment"),
    Rule(condition=Condition("sla_breaches_28d", at_least=1), group="support"),
    Rule(condition=Condition("max_days_past_due", at_least=15), group="billing"),
    Rule(condition=Condition("champion_left_91d", at_least=1), group="relationship"),
)


def day_one_list(
    features: pd.DataFrame, people: pd.DataFrame, rules: Rules, *, as_of: datetime, horizon_days: int
) -> Made:
    """Rank the accounts active at `as_of` by the rules they meet, then by what they pay; parameters as `risk_list`."""
    rows = records(features.merge(people, on="account_id"))
    met = {row["account_id"]: [rule for rule in RULES if rule.condition.holds(row)] for row in rows}
    order = sorted(rows, key=lambda row: _place(row, met[row["account_id"]]))
    ranked = [_ranked(row, met[row["account_id"]], rules, as_of) for row in order]
    head = {
        "before": None,
        "model_version": VERSION,
        "model_artefact": VERSION,
        "horizon_days": horizon_days,
        "base_rate": None,
        "heading": HEADING,
    }
    listed = parts_of(ranked, people, rules, as_of=as_of)
    return Made(risk_list={**listed, **head, "left": []}, contributions=pd.DataFrame({"account_id": []}, dtype=str))


def _place(row: Mapping[str, Any], met: list[Rule]) -> tuple[float, float, str]:
    mrr = row["mrr"]
    return (-len(met), 0.0 if pd.isna(mrr) else -float(mrr), str(row["account_id"]))


def _ranked(row: dict[str, Any], met: list[Rule], rules: Rules, as_of: datetime) -> dict[str, Any]:
    reasons = [
        {
            "group": rule.group,
            "feature": rule.condition.feature,
            "value": float(row[rule.condition.feature]),
            "typical": None,
            "percentile": None,
            "contribution": 1.0,
            "actionable": True,
            "mixed": False,
            "text": sentence(rule.condition.feature, float(row[rule.condition.feature]), None),
        }
        for rule in met
    ]
    unscored = {"probability": None, "raw_score": None, "band": None}
    return {**row_of({**row, **unscored}, reasons, None, rules, as_of), "change": None}
