"""What `tenure check` says: what every source holds, what is missing and what it costs, and what labels allow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features.catalogue import FEATURES, told_features
from features.data_contract import CONTRACT
from features.maturity import Maturity, advice, maturity, windows_that_work
from features.schema import Table
from features.settings import Settings
from features.snapshots import data_span
from features.tables import Tables


@dataclass(frozen=True, kw_only=True)
class Report:
    """The state of a company's data, as plain values."""

    tables: list[dict[str, Any]]
    label: dict[str, Any]
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"tables": self.tables, "label": self.label, "problems": self.problems}


def check(tables: Tables, settings: Settings, *, now: datetime) -> Report:
    """Look at every table and at the labels under the configured windows."""
    span = data_span(tables, now)
    labels = maturity(tables, span, settings.label, min_lost=settings.train.min_lost)
    problems = [_cost_of(table) for table in CONTRACT if not tables.has(table.name)]
    problems += _missing_features(tables) + _disagreement(tables)
    label = _label_facts(labels)
    if not labels.folds() or labels.lost < settings.train.min_lost:
        works = windows_that_work(tables, span, settings.label, min_lost=settings.train.min_lost)
        problems.append(f"Training would be refused: {labels.lost} lost accounts. " + advice(works, settings.label))
    facts = [_table_facts(tables, table, now) for table in CONTRACT if tables.has(table.name)]
    return Report(tables=facts, label=label, problems=problems)


def _cost_of(table: Table) -> str:
    return f"Table '{table.name}' is not mapped: {table.costs}."


def _table_facts(tables: Tables, table: Table, now: datetime) -> dict[str, Any]:
    loaded, rows = tables.loaded[table.name], tables[table.name]
    dated = rows.filter(rows.event_at > datetime(1971, 1, 1))
    span = dated.agg(first=dated.event_at.min(), last=dated.event_at.max()).to_pyarrow().to_pylist()[0]
    bad = tables.quarantine.to_pandas()
    by_rule = bad[bad["table"] == table.name].rule.value_counts().sort_index().to_dict()
    known = {column.name for column in table.columns} - {"known_at", "period_start"}
    return {
        "table": table.name,
        "source": loaded.source,
        "rows": loaded.rows,
        "kept": loaded.kept,
        "from": _day(span["first"]),
        "to": _day(span["last"]),
        "days_old": None if span["last"] is None else max(0, (now - span["last"]).days),
        "grade": "recorded" if loaded.recorded else "assumed",
        "missing_columns": sorted(known - loaded.columns),
        "set_aside": {str(rule): int(count) for rule, count in by_rule.items()},
        "before_start": _before_start(tables, table.name),
    }


def _day(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d}"


def _before_start(tables: Tables, name: str) -> int:
    """Rows dated before their account's start: counted and shown, no rule, for people try before they buy."""
    if name in ("accounts", "contracts"):
        return 0
    accounts = tables["accounts"]
    starts = accounts.group_by("account_id").agg(start_at=accounts.started_at.min())
    rows = tables[name].join(starts, "account_id")
    early = rows.filter(rows.event_at < rows.start_at)
    count = early.events.sum() if name == "usage" else early.count()
    return int(count.to_pyarrow().as_py() or 0)


def _missing_features(tables: Tables) -> list[str]:
    told = {item.name for item in told_features(tables)}
    missing = [item.name for item in FEATURES if item.name not in told]
    if not missing:
        return []
    months = " Usage by the month cannot tell what happened within it." if tables.usage_period == "month" else ""
    return [
        f"{len(missing)} of {len(FEATURES)} features cannot be told and stay missing: {', '.join(missing)}.{months}"
    ]


def _disagreement(tables: Tables) -> list[str]:
    """Accounts on which `churned_at` and the contracts say different things; the contracts decide."""
    if not tables.has("contracts") or not tables.has("accounts", "churned_at"):
        return []
    accounts, contracts = tables["accounts"], tables["contracts"]
    ended = contracts.group_by("account_id").agg(ended_at=contracts.ended_at.max())
    both = accounts.join(ended, "account_id")
    differ = both.filter(both.churned_at.isnull() != both.ended_at.isnull()).count().to_pyarrow().as_py()
    said = f"accounts.churned_at and contracts disagree on {differ} accounts; the contracts decide."
    return [said] if differ else []


def _label_facts(labels: Maturity) -> dict[str, Any]:
    by_instant = labels.lost_by_instant()
    scored = labels.mature.as_of.value_counts().to_dict()
    parts = labels.mature.groupby(["as_of", "part"]).as_of.count().to_dict()
    return {
        "kind": labels.label.kind,
        "loss": labels.label.loss,
        "horizon_days": labels.label.horizon_days,
        "grace_days": labels.label.grace_days,
        "silence_days": labels.label.silence_days,
        "lead_days": labels.label.lead_days,
        "anchor": labels.label.anchor,
        "reporting_delay_days": labels.delay_days,
        "lost_accounts": labels.lost,
        **labels.shares(),
        "folds": [f"{instant:%Y-%m-%d}" for instant in labels.folds()],
        "instants": [
            {"as_of": f"{instant:%Y-%m-%d}", "accounts": int(scored[instant]), "lost": int(lost),
             **{part: int(parts.get((instant, part), 0)) for part in ("now", "act")}}
            for instant, lost in by_instant.items()
        ],
    }  # fmt: skip
