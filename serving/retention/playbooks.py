"""Plays: what to do about a risk, when it applies, and by when the first step is due."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from features.catalogue import FEATURE_NAMES
from features.errors import ConfigurationError

PLAYBOOKS = Path(__file__).with_name("playbooks.toml")


@dataclass(frozen=True)
class Condition:
    """A feature within limits; a missing value meets no condition."""

    feature: str
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, values: Mapping[str, float | None]) -> bool:
        """Whether the account's value lies within the limits."""
        value = values.get(self.feature)
        if value is None or value != value:
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True)
class Step:
    """A step and its day: after the play begins, or before the deadline the play counts down to."""

    day: int
    do: str


@dataclass(frozen=True, kw_only=True)
class Play:
    """One playbook."""

    id: str
    name: str
    group: str
    owner: str
    channel: str
    cool_down_days: int
    hours: float
    when: tuple[tuple[Condition, ...], ...]
    """Alternatives; within one all conditions must hold."""
    steps: tuple[Step, ...]
    deadline: str | None = None
    """Feature that counts the days to the deadline; step days then count back from it."""

    def applies(self, values: Mapping[str, float | None]) -> bool:
        """Whether the account's features call for this play."""
        return any(all(condition.holds(values) for condition in every) for every in self.when)

    def next_step(self, values: Mapping[str, float | None], as_of: date) -> tuple[Step, date]:
        """The step to take first, and its due date: never before `as_of`."""
        if self.deadline is None:
            return self.steps[0], as_of + timedelta(days=self.steps[0].day)
        days = values.get(self.deadline)
        left = 0 if days is None or days != days else int(days)
        step = next((step for step in self.steps if step.day <= left), self.steps[-1])
        return step, as_of + timedelta(days=max(0, left - step.day))


@dataclass(frozen=True)
class Suggestion:
    """A play for one account, with its first step and the date it is due."""

    play: str
    name: str
    step: str
    due_date: date
    owner: str


def suggest(
    plays: Sequence[Play], values: Mapping[str, float | None], reason_groups: Sequence[str], as_of: date
) -> Suggestion | None:
    """The play that answers the strongest reason; else the first that applies; None where none does."""
    order = {group: place for place, group in enumerate(reason_groups)}
    fitting = [play for play in plays if play.applies(values)]
    if not fitting:
        return None
    best = min(fitting, key=lambda play: order.get(play.group, len(order)))
    step, due = best.next_step(values, as_of)
    return Suggestion(play=best.id, name=best.name, step=step.do, due_date=due, owner=best.owner)


def read_playbooks(path: Path = PLAYBOOKS) -> tuple[Play, ...]:
    """The plays in `path`, checked: known features, at least one condition and one step, unique ids."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["play"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{path.name} must be TOML with [[play]] tables; found a fault: {error}.") from error
    plays = tuple(_play(entry, path) for entry in entries)
    ids = [play.id for play in plays]
    if len(set(ids)) != len(ids):
        raise ConfigurationError(f"{path.name} must name each play once; found {sorted(ids)}. Rename one of them.")
    return plays


def _play(entry: Mapping[str, Any], path: Path) -> Play:
    try:
        when = tuple(tuple(_condition(name, limits) for name, limits in every.items()) for every in entry["when"])
        steps = tuple(Step(day=step["day"], do=step["do"]) for step in entry["steps"])
        play = Play(**{**entry, "when": when, "steps": steps})
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"Play '{entry.get('id', '?')}' in {path.name} must have id, name, group, owner, channel, cool_down_days, "
            f"hours, when and steps; found a fault at {error}. Correct it."
        ) from error
    unknown = {c.feature for every in when for c in every} | ({play.deadline} if play.deadline else set())
    if strangers := sorted(unknown - set(FEATURE_NAMES)):
        raise ConfigurationError(
            f"Play '{play.id}' in {path.name} must ask for features of the catalogue; found {strangers}. "
            "`tenure features list` names them."
        )
    if not when or not all(when) or not steps:
        raise ConfigurationError(f"Play '{play.id}' in {path.name} must have a condition and a step; found none.")
    return play


def _condition(name: str, limits: Mapping[str, float]) -> Condition:
    return Condition(name, **limits)
