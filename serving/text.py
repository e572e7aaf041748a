"""What the command line prints for a person."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from features.check import Report


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
    table = _table("#", "Account", "Risk", "MRR at risk", "Renewal", "Owner", "Why", "Do first, by")
    for row in rows:
        table.add_row(*_cells(row))
    return "\n".join(lines) + "\n" + _rendered(table)


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


def check_text(report: Report) -> str:
    """What `tenure check` found: tables, then labels by instant, then problems."""
    columns = (
        "table", "rows", "kept", "from", "to", "days_old", "lag_p50_days", "lag_p95_days", "grade", "set_aside",
        "before_start",
    )  # fmt: skip
    label = report.label
    windows = (
        f"Labels: an account {label['loss']} within {label['horizon_days']} days, grace {label['grace_days']}, "
        f"reporting delay {label['reporting_delay_days']} days; {label['lost_accounts']} lost accounts in "
        f"{len(label['instants'])} mature instants, {len(label['folds'])} of them allow a fold."
    )
    instants = facts_table(label["instants"], ("as_of", "accounts", "lost", "now", "act"))
    lacking = [
        f"{table['table']} has no {', '.join(table['missing_columns'])}."
        for table in report.tables
        if table["missing_columns"]
    ]
    lines = [facts_table(report.tables, columns), "", *lacking, "", windows, instants]
    return "\n".join([*lines, "", *report.notes, *(f"! {problem}" for problem in report.problems)]).rstrip()


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


def facts_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Plain facts as a table, one mapping a line."""
    table = _table(*(column.replace("_", " ") for column in columns))
    for row in rows:
        table.add_row(*(_fact(row[column]) for column in columns))
    return _rendered(table)


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    if value is None or value != value:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(*columns: str) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _rendered(table: Table) -> str:
    width = max(shutil.get_terminal_size((160, 24)).columns, 120)
    sink = io.StringIO()
    Console(file=sink, width=width, highlight=False, markup=False).print(table)
    return sink.getvalue().rstrip("\n")
