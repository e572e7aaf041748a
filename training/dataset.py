"""Features and labels of every snapshot, joined: what a model learns from and is judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow as pa

from features.build import feature_table
from features.catalogue import told_features
from features.errors import TooFewChurns
from features.maturity import Maturity, advice, maturity, windows_that_work
from features.settings import LabelSettings, Settings
from features.silence import BARRED_BY_SILENCE
from features.snapshots import Span, data_span
from features.tables import Tables
from features.windows import instants_table, known_before


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One row per active account and instant, sorted by instant and account.

    `rows` has account_id, parent_id, segment, as_of, all features that the sources tell, the company's own
    health_score, mrr, state, churned (null while immature) and the other outcomes of `labelled`.
    """

    rows: pd.DataFrame
    features: tuple[str, ...]
    """Those to learn from."""
    maturity: Maturity
    span: Span

    @property
    def identity(self) -> str:
        """sha256 of all rows: the same data give the same model."""
        return identity_of(self.rows)

    @property
    def labelled(self) -> pd.DataFrame:
        """The rows whose label is final, in the order of `rows`."""
        return self.rows[self.rows.churned.notna()]

    @property
    def X(self) -> pd.DataFrame:
        """The features of the labelled rows."""
        return self.labelled[list(self.features)]

    @property
    def y(self) -> pd.Series:
        """Whether the account of each labelled row decided to leave within the horizon: 1 or 0."""
        return self.labelled.churned.astype("int8")

    @property
    def groups(self) -> pd.Series:
        """Who shares a fate: the parent of each labelled row's account, else the account itself."""
        return self.labelled.parent_id.fillna(self.labelled.account_id).rename("group")

    @property
    def instants(self) -> pd.Series:
        """The instant of each labelled row."""
        return self.labelled.as_of

    @property
    def embargo_days(self) -> int:
        """Days after an instant until its labels are final: for `EmbargoedTimeSplit`."""
        return self.maturity.final_after.days

    def known_at(self, instant: datetime) -> pd.DataFrame:
        """The rows whose labels were final at `instant`, with the labels known then."""
        past = self.maturity.known_at(instant)[["account_id", "as_of", "churned"]]
        return self.rows.drop(columns="churned").merge(past, on=["account_id", "as_of"])

    def at(self, instant: datetime) -> pd.DataFrame:
        """The rows of one instant."""
        return self.rows[self.rows.as_of == pd.Timestamp(instant)]


def identity_of(rows: pd.DataFrame) -> str:
    """sha256 of all values of a table, in their order."""
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def build_dataset(tables: Tables, settings: Settings, *, now: datetime) -> Dataset:
    """All snapshots of the company's calendar.

    Raises
    ------
    TooFewChurns
        Too few accounts were lost to learn from, or none of it can be judged; names windows that would work.
    """
    span = data_span(tables, now)
    labels = maturity(tables, span, settings.label, min_lost=settings.train.min_lost)
    if labels.lost < settings.train.min_lost or not labels.folds():
        works = windows_that_work(tables, span, settings.label, min_lost=settings.train.min_lost)
        raise TooFewChurns(
            labels.lost,
            needed=settings.train.min_lost,
            instants=labels.lost_by_instant().size,
            advice=advice(works, settings.label),
        )
    told = tuple(item.name for item in told_features(tables))
    values = feature_table(tables, span.instants(), settings.label).to_pandas()
    rows = values[["account_id", "as_of", *told]].merge(labels.rows, on=["account_id", "as_of"])
    rows = rows.merge(_described(tables), on="account_id", how="left").sort_values(["as_of", "account_id"])
    rows = rows.merge(_own_scores(tables, span.instants()), on=["account_id", "as_of"], how="left")
    filled = tuple(name for name in told if rows[name].notna().any() and name not in _barred(settings.label))
    return Dataset(rows=rows.reset_index(drop=True), features=filled, maturity=labels, span=span)


def _barred(label: LabelSettings) -> tuple[str, ...]:
    """Features that would give the label away."""
    return BARRED_BY_SILENCE if label.kind == "silence" else ()


def _described(tables: Tables) -> pd.DataFrame:
    accounts = tables["accounts"]
    described = accounts.group_by("account_id").agg(parent_id=accounts.parent_id.max(), segment=accounts.segment.max())
    return pd.DataFrame(described.to_pandas())


def _own_scores(tables: Tables, instants: Sequence[datetime]) -> pd.DataFrame:
    """The last score that the company gave each account itself, as known at each instant: a baseline."""
    seen = known_before(tables["health_scores"], instants_table(tables.backend, instants, name="score_instants"))
    last = seen.group_by("account_id", "as_of").agg(health_score=seen.score.argmax(seen.event_at))
    return pd.DataFrame(last.to_pandas())
