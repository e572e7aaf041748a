"""What the command line prints for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from features.text_tables import rendered, text_table


class Estimate(Protocol):
    """A figure of an evaluation."""

    @property
    def value(self) -> float | None:
        """None where it cannot be computed."""


def list_text(risk_list: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The list as a table, with its heading, its counts and who is leaving."""
    counts = risk_list["counts"]
    lines = [
        f"{risk_list['heading']} on {risk_list['as_of']} (model version {risk_list['model_version']}, "
        f"{risk_list['horizon_days']} days ahead)",
        f"{counts['scored']} scored, {counts['listed']} within this list's capacity, {counts['leaving']} leaving, "
        f"{counts['excluded']} excluded",
    ]
    table = text_table("#", "Account", "Risk", "MRR at risk", "Renewal", "Owner", "Why", "Do first, by")
    for row in rows:
        table.add_row(*_cells(row))
    return "\n".join(lines) + "\n" + rendered(table)


def _cells(row: Mapping[str, Any]) -> list[str]:
    renewal = "–" if row["days_to_renewal"] is None else f"{row['days_to_renewal']} d"
    at_risk = "–" if row["mrr_at_risk"] is None else f"{row['mrr_at_risk']:,.0f} of {row['mrr']:,.0f}"
    play = row["play"]
    step = "–" if play is None else f"{play['step']}\n{play['name']}, {play['due_date']}"
    return [
        str(row["rank"]),
        f"{row['account_id']}\n{row['name'] or ''}",
        "–" if row["probability"] is None else f"{row['probability']:.1%}\n{row['band']}".replace("%", " %"),
        at_risk,
        renewal,
        row["csm_id"] or "–",
        "\n".join(reason["text"] for reason in row["reasons"]) or "–",
        step,
    ]


def explanation(row: Mapping[str, Any], risk_list: Mapping[str, Any]) -> str:
    """One account of a list, in sentences."""
    scored = risk_list["counts"]["scored"]
    place = f"Rank {row['rank']} of {scored} on {risk_list['as_of']}"
    if row["probability"] is None:
        place += f", {len(row['reasons'])} rules met; no model is champion yet."
    else:
        place += (
            f": {row['probability']:.1%} within {risk_list['horizon_days']} days ({row['band']}; "
            f"base rate {risk_list['base_rate']:.1%})."
        )
    lines = [f"{row['account_id']} {row['name'] or ''}".rstrip(), place]
    if row["mrr"] is not None:
        at_risk = "" if row["mrr_at_risk"] is None else f", of it {row['mrr_at_risk']:,.0f} at risk"
        lines.append(f"MRR {row['mrr']:,.0f}{at_risk}.")
    if row["days_to_renewal"] is not None:
        lines.append(f"Renewal in {row['days_to_renewal']} days.")
    lines += ["Why:", *(f"  {number}. {reason['text']}" for number, reason in enumerate(row["reasons"], start=1))]
    if not row["reasons"]:
        is_blind = risk_list["heading"].startswith("No")
        lines[-1] = f"Why: {'no better than the prior' if is_blind else 'no fact stands out'}."
    if play := row["play"]:
        lines.append(f'Do: {play["name"]} ({play["owner"]}); first "{play["step"]}", by {play["due_date"]}.')
    return "\n".join(lines)


def demo_text(
    figures: str,
    reachable: Mapping[str, Estimate],
    risk_list: Mapping[str, Any],
    summary: Sequence[str],
    *,
    folder: Path,
) -> str:
    """How the demo ends: honest figures, the top ten, the past in three lines, and the commands to go on with."""
    best = ", ".join(f"{name} {item.value:.3f}" for name, item in reachable.items() if item.value is not None)
    config = f"--config {folder}/tenure.toml"
    return "\n".join(
        [
            figures,
            f"Best reachable on these rows, from the true probabilities: {best}.",
            "",
            list_text(risk_list, risk_list["rows"][:10]),
            "",
            "Looking back:",
            *(f"  {line}" for line in summary),
            "",
            "Go on with (after `. .venv/bin/activate`, or with .venv/bin/ before the command):",
            f"  tenure list {config}          the list; --format csv or json, --csm NAME",
            f"  tenure explain ACCOUNT {config}",
            f"  tenure backtest {config}      every lost account by name",
            f"  mlflow ui --backend-store-uri sqlite:///{folder}/.tenure/mlflow.db",
            f"  tenure token create --role admin {config} && tenure serve {config}",
            "  your own data: write a tenure.toml (features/README.md), then `tenure check`",
        ]
    )
