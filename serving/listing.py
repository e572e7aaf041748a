"""The published list as it is read: cut, filtered, in one of its formats; and one account of it explained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from features.errors import Misuse
from features.settings import Settings
from serving.exports import exported
from serving.published import published, read_list
from serving.text import explanation, list_text


def chosen(settings: Settings, *, as_of: str | None, csm: str | None, top: int | None) -> dict[str, Any]:
    """The list of `as_of`, by default the latest: one CSM's rows, the first `top` or those within capacity."""
    risk_list = read_list(published(settings, as_of))
    rows = [row for row in risk_list["rows"] if csm is None or row["csm_id"] == csm]
    if csm is not None and not rows:
        owners = sorted({row["csm_id"] for row in risk_list["rows"] if row["csm_id"]})
        raise Misuse(f"--csm must own an account of this list; found '{csm}'. Owners are {', '.join(owners[:40])}.")
    rows = [row for row in rows if row["is_listed"]] if top is None else rows[:top]
    head = ("as_of", "model_version", "heading", "horizon_days", "base_rate", "counts")
    return {**{name: risk_list[name] for name in head}, "rows": rows}


def formatted(found: Mapping[str, Any], form: str) -> bytes:
    """A chosen list as table or json, or in a form of `FORMS`."""
    match form:
        case "json":
            return json.dumps(found, indent=1, allow_nan=False).encode() + b"\n"
        case "table":
            return list_text(found, found["rows"]).encode() + b"\n"
    return exported(found["rows"], form)[0]


def explained(settings: Settings, account: str, *, as_of: str | None) -> tuple[Mapping[str, Any], str]:
    """What the list says of one account, as facts and as text; also why it is not ranked."""
    risk_list = read_list(published(settings, as_of))
    day = risk_list["as_of"]
    for row in risk_list["rows"]:
        if row["account_id"] == account:
            return {"as_of": day, **row}, explanation(row, risk_list)
    for row in risk_list["leaving"]:
        if row["account_id"] == account:
            told = "notice is known, or its contract ended lately; it is leaving, not predicted"
            return {"as_of": day, **row, "state": "leaving"}, f"{account} is not ranked on {day}: {told}."
    for row in risk_list["excluded"]:
        if row["account_id"] == account:
            return {"as_of": day, **row, "state": "excluded"}, f"{account} is not ranked on {day}: {row['reason']}."
    raise Misuse(f"Account '{account}' must be in the list of {day}; found no such account. Ids are case-sensitive.")
