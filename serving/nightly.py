"""The night's work: features of today, scores by the champion, the list published."""

from __future__ import annotations

from datetime import datetime, timedelta

import ibis

from features.errors import StaleData
from features.settings import Settings
from features.tables import Tables
from serving.champion import load_champion
from serving.publication import one_at_a_time, publish
from serving.retention.playbooks import read_playbooks
from serving.risklist import RiskList, risk_list
from serving.scoring import features_at, people_at

_PERIOD_DAYS = {None: 0, "day": 0, "month": 31}


def score_and_publish(tables: Tables, settings: Settings, *, as_of: datetime) -> RiskList:
    """Publish the list of `as_of`; all of it or nothing."""
    _refuse_stale(tables, settings, as_of)
    with one_at_a_time(settings):
        champion = load_champion(settings)
        features = features_at(tables, settings, as_of)
        people = people_at(tables, settings, as_of)
        made = risk_list(champion, features, people, read_playbooks(), as_of=as_of, capacity=settings.policy.capacity)
        publish(made, features, settings)
    return made


def _refuse_stale(tables: Tables, settings: Settings, as_of: datetime) -> None:
    if not tables.has("usage"):
        return
    usage = tables["usage"]
    newest = usage.filter(usage.event_at < ibis.timestamp(as_of)).event_at.max().to_pyarrow().as_py()
    limit = settings.policy.stale_days + _PERIOD_DAYS[tables.usage_period]
    if newest is None or as_of - newest > timedelta(days=limit):
        raise StaleData(newest, as_of, limit_days=limit)
