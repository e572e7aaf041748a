"""The leakage certificate: nothing that happens, or is learned, after an instant moves a feature at it.

About 200 rows that no feature may see are planted in every table of a copy of the company, together; the features are
built once with them and once without, and must agree to the last bit. A copy, because no wrong row may ever stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from features.build import feature_table
from features.catalogue import grade, told_features
from features.csv_files import quoted
from features.data_contract import CONTRACT
from features.errors import ConfigurationError
from features.plants import KINDS, OPEN, OUTCOME, Planter
from features.schema import Column, Kind, Table
from features.settings import LabelSettings, Settings
from features.snapshots import account_phases
from features.sources import CLEAN, engine
from features.staging import TIMES
from features.tables import Tables
from features.windows import instants_table

BASE, PLANTED = "base", "planted"
ROLLED_UP = ("account_days", "user_days", "feature_days")
"""What features read of `usage`, which therefore is not copied itself."""
KEYS = ("account_id", "as_of")
ROSTER = "accounts scored"
"""What is said to move where other accounts have a row."""
SEVERAL = "several tables"

Build = Callable[[Tables, Sequence[datetime], LabelSettings], pa.Table]


@dataclass(frozen=True, order=True)
class Moved:
    """A feature that saw what it must not see."""

    feature: str
    table: str
    kind: str

    def __str__(self) -> str:
        return f"{self.feature} (table {self.table}, {self.kind})"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was planted, what was compared, and what moved."""

    as_of: datetime
    accounts: int
    """Around which rows were planted."""
    planted: Mapping[str, Mapping[str, int]]
    """Rows by table and kind."""
    features: tuple[str, ...]
    """Compared, for every account that is scored at the instant."""
    moved: tuple[Moved, ...]
    grades: Mapping[str, str]
    """Of each feature that the company's sources can tell: whether they say when they learned what they say."""

    @property
    def verdict(self) -> str:
        """In one sentence, no stronger than what was shown."""
        if self.moved:
            return f"leak found: {', '.join(map(str, self.moved))}"
        if not self.planted:
            return f"nothing shown; no account is scored at {self.as_of:%Y-%m-%d}"
        assumed = sum(grade != "recorded" for grade in self.grades.values())
        return f"no leak found; {assumed} features rest on assumed times" if assumed else "leak-proof"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "verdict": self.verdict,
            "as_of": self.as_of.isoformat(),
            "accounts": self.accounts,
            "planted": {table: dict(kinds) for table, kinds in self.planted.items()},
            "features": list(self.features),
            "moved": [{"feature": one.feature, "table": one.table, "kind": one.kind} for one in self.moved],
            "grades": dict(self.grades),
        }

    def refuse_leaks(self) -> None:
        """Stop the run where a feature moved.

        Raises
        ------
        ConfigurationError
            Names each feature, the table and what was planted.
        """
        if self.moved:
            raise ConfigurationError(
                f"Features at {self.as_of:%Y-%m-%d} must be the same whatever happens or is learned later; found "
                f"{len({one.feature for one in self.moved})} that moved: {', '.join(map(str, self.moved))}. "
                "Correct their formulas or leave them out of the catalogue."
            )


def certify(
    tables: Tables, settings: Settings, *, as_of: datetime, rows: int = 200, build: Build = feature_table
) -> Certificate:
    """Plant forbidden rows around `as_of`, build the features, and compare.

    Parameters
    ----------
    rows : planted per table, around as many scored accounts or all there are
    build : makes the feature table; another one is for proving that a wrong feature is found
    """
    trial = _Trial(tables, settings, as_of=as_of, rows=rows)
    before = build(trial.tables, [as_of], settings.label)
    trial.plant(dict.fromkeys(trial.planted, KINDS))
    moved = _differing(before, build(trial.tables, [as_of], settings.label))
    return Certificate(
        as_of=as_of,
        accounts=len(trial.accounts),
        planted=trial.planted,
        features=tuple(name for name in before.column_names if name not in KEYS),
        moved=tuple(sorted(_attributed(trial, before, moved, build))) if moved else (),
        grades={item.name: grade(item, tables) for item in told_features(tables)},
    )


def _attributed(trial: _Trial, before: pa.Table, moved: set[str], build: Build) -> Iterator[Moved]:
    """Who moved what: the features built once more with the rows of each table, then of each kind, alone."""
    label, left = trial.settings.label, set(moved)

    def moved_by(kinds: Mapping[str, Sequence[str]]) -> set[str]:
        trial.plant(kinds)
        return _differing(before, build(trial.tables, [trial.as_of], label))

    for name, kinds in trial.planted.items():
        if not moved_by({name: tuple(kinds)}):
            continue
        for kind in kinds:
            found = moved_by({name: (kind,)})
            left -= found
            yield from (Moved(feature, name, kind) for feature in found)
    yield from (Moved(feature, SEVERAL, "planted together") for feature in left)


def _differing(before: pa.Table, after: pa.Table) -> set[str]:
    """The columns in which two feature tables are not the same to the last bit."""
    if any(not before[key].equals(after[key]) for key in KEYS):
        return {ROSTER}
    return {name for name in before.column_names if name not in KEYS and _bits(before[name]) != _bits(after[name])}


def _bits(column: pa.ChunkedArray) -> tuple[bytes, bytes]:
    values = column.cast(pa.float64()).fill_null(0)
    return np.asarray(column.is_null()).tobytes(), np.asarray(values).tobytes()


class _Trial:
    """A copy of the clean tables in an engine of its own, in which rows can be planted and taken out again."""

    def __init__(self, tables: Tables, settings: Settings, *, as_of: datetime, rows: int) -> None:
        self.settings, self.as_of = settings, as_of
        self._backend = engine(settings)
        for schema in (BASE, PLANTED, CLEAN):
            self._backend.raw_sql(f"create schema {schema}")
        self.tables = replace(tables, backend=self._backend)
        self._schemas: dict[str, pa.Schema] = {}
        self.planted: dict[str, dict[str, int]] = {}
        for name in _copied(tables):
            clean = tables[name].to_pyarrow()
            self._schemas[name] = clean.schema
            self._take(BASE, name, clean)
            self._show(name, ())
        self.accounts = self._sampled(rows)
        made = {table.name: self._made(table, rows) for table in self._plantable()}
        self.planted = {name: kinds for name, kinds in made.items() if kinds}
        self.plant({})

    def plant(self, kinds: Mapping[str, Sequence[str]]) -> None:
        """Show the forbidden rows of these kinds, by table, and no others."""
        for name in self.planted:
            self._show(name, kinds.get(name, ()))

    def _show(self, name: str, kinds: Sequence[str]) -> None:
        rows = f"select * from {BASE}.{name}"
        if name in self.planted:
            shown = [*kinds, *(() if OUTCOME in kinds else (OPEN,))]
            listed = ", ".join(quoted(kind) for kind in shown)
            rows += f" union all select * exclude (plant_kind) from {PLANTED}.{name} where plant_kind in ({listed})"
        self._backend.raw_sql(f"create or replace view {CLEAN}.{name} as {rows}")

    def _take(self, schema: str, name: str, rows: pa.Table) -> None:
        self._backend.con.register("taken", rows)
        self._backend.raw_sql(f"create or replace table {schema}.{name} as from taken")
        self._backend.con.unregister("taken")

    def _plantable(self) -> list[Table]:
        """The tables of the contract, and what use is rolled up to, as tables of the same kind."""
        contract = [table for table in CONTRACT if table.name in self._schemas]
        return contract + [_described(name, self._schemas[name]) for name in ROLLED_UP if name in self._schemas]

    def _sampled(self, number: int) -> list[str]:
        """Accounts scored at the instant, spread evenly over their ids."""
        moments = instants_table(self._backend, [self.as_of])
        phases = account_phases(self.tables, moments, grace_days=self.settings.label.grace_days)
        scored = phases.filter(phases.phase == "active").account_id.to_pyarrow().to_pylist()
        return sorted(scored)[:: max(1, len(scored) // number)][:number]

    def _made(self, table: Table, number: int) -> dict[str, int]:
        """Keep the rows to plant in a table of their own; how many there are of each kind."""
        templates = self._templates(table.name, number)
        if not templates or not self.accounts:
            return {}
        planter = Planter(table=table, as_of=self.as_of, by_day=table.name in ROLLED_UP)
        made = list(planter.rows(templates, self.accounts, number))
        schema = self._schemas[table.name].append(pa.field("plant_kind", pa.string()))
        listed = [{**row, "plant_kind": kind} for kind, row in made]
        self._take(PLANTED, table.name, pa.Table.from_pylist(listed, schema))
        counts = Counter(kind for kind, _ in made if kind != OPEN)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}

    def _templates(self, name: str, number: int) -> list[dict[str, Any]]:
        """Of each sampled account what was known last at the instant, and rows of all others to vary."""
        self._take("main", "sampled", pa.table({"account_id": pa.array(self.accounts, pa.string())}))
        at = f"timestamp '{self.as_of}'"
        chosen = (
            f"select * from {BASE}.{name} as clean where event_at < {at} and known_at <= {at} and {{}} "
            "order by {}hash(clean)"
        )
        newest = "qualify row_number() over (partition by account_id order by known_at desc, hash(clean)) <= 2"
        own = f"account_id in (from sampled) {newest}"
        queries = (chosen.format(own, "account_id, "), chosen.format("true", "") + f" limit {number}")
        return [row for query in queries for row in self._rows(query)]

    def _rows(self, query: str) -> list[dict[str, Any]]:
        return list(self._backend.con.sql(query).to_arrow_table().to_pylist())


def _copied(tables: Tables) -> list[str]:
    """The clean tables that features may read."""
    found = tables.backend.raw_sql(
        f"select distinct table_name from information_schema.tables where table_schema = {quoted(CLEAN)}"
    ).fetchall()
    return sorted(row[0] for row in found if row[0] != "usage")


def _described(name: str, schema: pa.Schema) -> Table:
    """A table of rolled-up use as one of the contract."""
    columns = [Column(name=field.name, kind=_kind(field)) for field in schema if field.name not in TIMES]
    return Table(name=name, grain="day", columns=tuple(columns), event="event_at")


def _kind(field: pa.Field) -> Kind:
    if pa.types.is_string(field.type):
        return "id" if field.name.endswith("_id") else "text"
    return "time" if pa.types.is_timestamp(field.type) else "number"
