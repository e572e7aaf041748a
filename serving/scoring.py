"""Score a feature table: the one function behind the nightly list and the online answers."""

from __future__ import annotations

from datetime import datetime, timedelta

import ibis
import pandas as pd

from features.build import feature_table
from features.errors import StaleData
from features.settings import Settings
from features.snapshots import phases_at
from features.tables import Tables
from features.windows import instants_table
from training.model import ChurnModel

_PERIOD_DAYS = {None: 0, "day": 0, "month": 31}
"""An aggregate is as old as its period before it is complete."""


def score(model: ChurnModel, rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with raw_score, probability and band beside them."""
    if rows.empty:
        return rows.assign(raw_score=[], probability=[], band=[])
    raw, probability = model.scores(model.matrix(rows))
    return rows.assign(raw_score=raw, probability=probability, band=[model.band(value) for value in probability])


def features_at(tables: Tables, settings: Settings, *instants: datetime) -> pd.DataFrame:
    """The features of every account active at each instant."""
    return pd.DataFrame(feature_table(tables, instants, settings.label).to_pandas())


def people_at(tables: Tables, settings: Settings, as_of: datetime) -> pd.DataFrame:
    """Every account with phase, recurring revenue, name, parent, segment and owner at `as_of`, sorted by account."""
    phases = phases_at(tables, instants_table(tables.backend, [as_of]), settings.label)
    accounts = tables["accounts"].filter(ibis._.known_at <= ibis.timestamp(as_of))
    newest = accounts.group_by("account_id").agg(
        name=accounts.name.argmax(accounts.known_at),
        csm_id=accounts.csm_id.argmax(accounts.known_at),
        parent_id=accounts.parent_id.argmax(accounts.known_at),
        segment=accounts.segment.argmax(accounts.known_at),
    )
    rows = phases.left_join(newest, "account_id").drop("account_id_right", "as_of").order_by("account_id")
    return pd.DataFrame(rows.to_pandas())


def staleness(tables: Tables, settings: Settings, as_of: datetime) -> StaleData | None:
    """What to say where the newest use is too old to tell who is at risk at `as_of`."""
    if not tables.has("usage"):
        return None
    usage = tables["usage"]
    newest = usage.filter(usage.event_at < ibis.timestamp(as_of)).event_at.max().to_pyarrow().as_py()
    limit = settings.policy.stale_days + _PERIOD_DAYS[tables.usage_period]
    is_stale = newest is None or as_of - newest > timedelta(days=limit)
    return StaleData(newest, as_of, limit_days=limit) if is_stale else None
