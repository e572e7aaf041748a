"""What `tenure check` says: what every source holds, what is missing and what it costs, and what labels allow."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import ibis.expr.types as ir

from features.catalogue import FEATURES, grade, told_features
from features.data_contract import CONTRACT
from features.maturity import Maturity, advice, maturity, windows_that_work
from features.schema import Table
from features.settings import Settings
from features.snapshots import data_span
from features.tables import Tables
from features.text_tables import facts_table


@dataclass(frozen=True, kw_only=True)
class Report:
    """The state of a company's data, as plain values."""

    tables: list[dict[str, Any]]
    accounts: dict[str, int | None]
    """How many there are, and of how many each source says nothing; None where it is not mapped."""
    grades: dict[str, int]
    """How many of the features that can be told are of each grade."""
    quarantine: dict[str, Any]
    """What became of the rows that the run before had set aside."""
    label: dict[str, Any]
    notes: list[str]
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For a person: tables, then labels by instant, then problems."""
        columns = (
            "table", "rows", "kept", "from", "to", "days_old", "lag_p50_days", "lag_p95_days", "grade", "set_aside",
            "before_start",
        )  # fmt: skip
        label = self.label
        windows = (
            f"Labels: an account {label['loss']} within {label['horizon_days']} days, grace {label['grace_days']}, "
            f"reporting delay {label['reporting_delay_days']} days; {label['lost_accounts']} lost accounts in "
            f"{len(label['instants'])} mature instants, {len(label['folds'])} of them allow a fold."
        )
        instants = facts_table(label["instants"], ("as_of", "accounts", "lost", "now", "act"))
        lacking = [
            f"{table['table']} has no {', '.join(table['missing_columns'])}."
            for table in self.tables
            if table["missing_columns"]
        ]
        lines = [facts_table(self.tables, columns), "", *lacking, "", windows, instants]
        return "\n".join([*lines, "", *self.notes, *(f"! {problem}" for problem in self.problems)]).rstrip()


def check(tables: Tables, settings: Settings, *, now: datetime) -> Report:
    """Look at every table and at the labels under the configured windows."""
    span = data_span(tables, now)
    labels = maturity(tables, span, settings.label, min_lost=settings.train.min_lost)
    accounts = _accounts(tables)
    problems = [f"{change}." for change in tables.warnings] + _unmapped(tables) + _missing_features(tables)
    problems += _uncovered(accounts) + _disagreement(tables) + _without_copies(tables, settings)
    label = _label_facts(labels)
    if not labels.folds() or labels.lost < settings.train.min_lost:
        works = windows_that_work(tables, span, settings.label, min_lost=settings.train.min_lost)
        problems.append(f"Training would be refused: {labels.lost} lost accounts. " + advice(works, settings.label))
    facts = [_table_facts(tables, table, now) for table in CONTRACT if tables.has(table.name)]
    grades = Counter(grade(item, tables) for item in told_features(tables))
    graded = ", ".join(f"{count} {name}" for name, count in sorted(grades.items()))
    notes = [*_replayed(tables), f"Features that can be told: {graded}."]
    return Report(
        tables=facts,
        accounts=accounts,
        grades=dict(grades),
        quarantine=tables.replay.as_dict(),
        label=label,
        notes=notes,
        problems=problems,
    )


def _unmapped(tables: Tables) -> list[str]:
    """One line for all tables that are not mapped: most companies have a few of them."""
    absent = [f"{table.name} ({table.costs})" for table in CONTRACT if not tables.has(table.name)]
    return [f"Not mapped: {', '.join(absent)}."] if absent else []


def _replayed(tables: Tables) -> list[str]:
    replay = tables.replay
    said = [f"{count} rows of {name} came back" for name, count in replay.replayed.items()]
    said += [f"{count} rows of {name} are gone from the source" for name, count in replay.removed.items()]
    if replay.remaining_since is not None:
        said.append(f"{replay.remaining} remain, the oldest since {_day(replay.remaining_since)}")
    return [f"Of the rows that the last run set aside {', '.join(said)}."] if said else []


def _without_copies(tables: Tables, settings: Settings) -> list[str]:
    waiting = [
        name
        for name, source in settings.tables.items()
        if source.history == "snapshot" and not tables.loaded[name].recorded
    ]
    return [f"No copies yet of {', '.join(waiting)}: run `tenure snapshot` every night."] if waiting else []


def _accounts(tables: Tables) -> dict[str, int | None]:
    """The accounts, and those without a row of use, without a contract and without an owner."""
    accounts = tables["accounts"]
    owned = [accounts.filter(accounts.csm_id.notnull())] if tables.has("accounts", "csm_id") else []
    owned += [tables["assignments"]] if tables.has("assignments") else []
    covered = {
        "without_usage": [tables["account_days"]] if tables.has("usage") else [],
        "without_contract": [tables["contracts"]] if tables.has("contracts") else [],
        "without_owner": owned,
    }
    everyone = accounts.select("account_id").distinct()
    return {"accounts": _counted(everyone)} | {
        name: _counted(_uncovered_by(everyone, sources)) if sources else None for name, sources in covered.items()
    }


def _uncovered_by(accounts: ir.Table, sources: list[ir.Table]) -> ir.Table:
    for source in sources:
        accounts = accounts.anti_join(source.select("account_id"), "account_id")
    return accounts


def _counted(rows: ir.Table) -> int:
    return int(rows.count().to_pyarrow().as_py())


def _uncovered(accounts: dict[str, int | None]) -> list[str]:
    names = {"without_usage": "usage", "without_contract": "contract", "without_owner": "owner"}
    said = [f"{accounts[name]} without {what}" for name, what in names.items() if accounts[name]]
    return [f"Of {accounts['accounts']} accounts {', '.join(said)}."] if said else []


def _lag_days(tables: Tables, name: str) -> dict[str, float | None]:
    """Days from what happened to when it was known, where the source says; to whole days for usage."""
    if not tables.loaded[name].recorded:
        return {"lag_p50_days": None, "lag_p95_days": None}
    rows = tables["account_days" if name == "usage" else name]
    days = (rows.known_at.epoch_seconds() - rows.event_at.epoch_seconds()) / 86400
    found = rows.agg(lag_p50_days=days.quantile(0.5), lag_p95_days=days.quantile(0.95)).to_pyarrow().to_pylist()[0]
    return {part: None if value is None else round(value, 2) for part, value in found.items()}


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
        **_lag_days(tables, table.name),
        "grade": loaded.grade,
        "missing_columns": sorted(known - loaded.columns),
        "set_aside": {str(rule): int(count) for rule, count in by_rule.items()},
        "unknown_accounts": int(by_rule.get("unknown_account", 0)),
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
