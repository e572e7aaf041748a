"""The published list as it is read: cut, filtered, in one of its formats; and one account of it explained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from features.errors import Misuse
from features.settings import Settings
from serving.published import head_and_rows, published, read_list
from serving.text import explanation, list_text

_TOLD = ("as_of", "model_version", "heading", "horizon_days", "base_rate", "counts")


def chosen(settings: Settings, *, as_of: str | None, csm: str | None, top: int | None) -> dict[str, Any]:
    """The list of `as_of`, by default the latest: one CSM's rows, the first `top` or those within capacity."""
    folder = published(settings, as_of)
    owned = [] if csm is None else [f'"csm_id": {json.dumps(csm)}']
    within = ['"is_listed": true'] if top is None else []
    head, found = head_and_rows(folder, *owned, *within)
    rows = (row for row in found if (csm is None or row["csm_id"] == csm) and (top is not None or row["is_listed"]))
    kept = list(islice(rows, top))
    if csm is not None and not kept:
        _require_owner(csm, folder)
    return {**{name: head[name] for name in _TOLD}, "rows": kept}


def _require_owner(csm: str, folder: Path) -> None:
    owners = {row["csm_id"] for row in read_list(folder)["rows"]} - {None}
    if csm not in owners:
        named = ", ".join(sorted(owners)[:40])
        raise Misuse(f"--csm must own an account of this list; found '{csm}'. Owners are {named}.")


def formatted(found: Mapping[str, Any], form: str) -> bytes:
    """A chosen list as table or json, or in a form of `FORMS`."""
    match form:
        case "json":
            return json.dumps(found, indent=1, allow_nan=False).encode() + b"\n"
        case "table":
            return list_text(found, found["rows"]).encode() + b"\n"
    from serving.exports import exported  # noqa: PLC0415 - a person who reads the table need not wait for its libraries

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
