"""Lists of the trained company, made as the service makes them but from what a test gives."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pandas as pd

from features.model_settings import PolicySettings
from features.settings import Settings
from serving.champion import Champion, load_champion
from serving.list_parts import Made, Rules
from serving.retention.playbooks import read_playbooks
from serving.risklist import risk_list

AS_OF = datetime(2025, 5, 1)
TODAY = "2025-05-01"


def speaking_champion(settings: Settings, *, speaks: bool = True) -> Champion:
    """The champion, made to speak: what is tested must not hang on what a small company teaches."""
    found = load_champion(settings)
    return replace(found, model=replace(found.model, no_signal=not speaks))


def whole(
    champion: Champion, features: pd.DataFrame, people: pd.DataFrame, capacity: float = 0.1, *,
    as_of: datetime = AS_OF, **more: Any,
) -> Made:  # fmt: skip
    """The list of `as_of` with what the next one needs of it."""
    rules = Rules(plays=read_playbooks(), policy=PolicySettings(capacity=capacity), lead_days=30)
    return risk_list(champion, features, people, rules, as_of=as_of, **more)


def listed(*inputs: Any, **more: Any) -> dict[str, Any]:
    """The list alone, as it is published; the inputs are those of `whole`."""
    return whole(*inputs, **more).risk_list
