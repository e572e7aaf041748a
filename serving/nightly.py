"""The night's work: features of today, scores by the champion, the list published."""

from __future__ import annotations

from datetime import datetime

from features.settings import Settings
from features.tables import Tables
from serving.champion import load_champion
from serving.publication import one_at_a_time, publish
from serving.retention.playbooks import read_playbooks
from serving.risklist import RiskList, risk_list
from serving.scoring import features_at, people_at, staleness


def score_and_publish(tables: Tables, settings: Settings, *, as_of: datetime) -> RiskList:
    """Publish the list of `as_of`; all of it or nothing."""
    if stale := staleness(tables, settings, as_of):
        raise stale
    with one_at_a_time(settings):
        champion = load_champion(settings)
        features = features_at(tables, settings, as_of)
        people = people_at(tables, settings, as_of)
        made = risk_list(champion, features, people, read_playbooks(), as_of=as_of, capacity=settings.policy.capacity)
        publish(made, features, settings)
    return made
