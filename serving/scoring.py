"""Score a feature table: the one function behind the nightly list and the online answers."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from features.build import feature_table
from features.settings import Settings
from features.snapshots import account_phases
from features.tables import Tables
from features.windows import instants_table
from training.model import ChurnModel


def score(model: ChurnModel, rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with raw_score, probability and band beside them."""
    if rows.empty:
        return rows.assign(raw_score=[], probability=[], band=[])
    raw = model.raw_scores(rows)
    probability = model.probabilities(rows)
    return rows.assign(raw_score=raw, probability=probability, band=[model.band(value) for value in probability])


def features_at(tables: Tables, settings: Settings, as_of: datetime) -> pd.DataFrame:
    """The features of every account active at `as_of`."""
    return pd.DataFrame(feature_table(tables, [as_of], settings.label).to_pandas())


def people_at(tables: Tables, settings: Settings, as_of: datetime) -> pd.DataFrame:
    """Every account with its phase, recurring revenue, name and owner at `as_of`, sorted by account."""
    phases = account_phases(tables, instants_table(tables.backend, [as_of]), grace_days=settings.label.grace_days)
    accounts = tables["accounts"]
    newest = accounts.group_by("account_id").agg(
        name=accounts.name.argmax(accounts.known_at),
        csm_id=accounts.csm_id.argmax(accounts.known_at),
        parent_id=accounts.parent_id.argmax(accounts.known_at),
    )
    rows = phases.join(newest, "account_id").order_by("account_id").drop("as_of")
    return pd.DataFrame(rows.to_pandas())
