"""What the service answers: scores of given rows, scores of known accounts, the latest list.

One bad row fails alone: its answer carries an error with a code, the field and a sentence; its neighbours are scored.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from pathlib import Path
from sys import float_info
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from features.errors import DataError, TenureError
from features.settings import Settings
from features.tables import open_tables
from serving.access import Token, sees
from serving.champion import Champion, load_champion, registered_version
from serving.levers import levers
from serving.list_parts import NOT_SCORED
from serving.publication import read_features
from serving.published import published, read_list
from serving.reasons import Why, reasons
from serving.scoring import features_at, people_at, staleness
from training.model import Floats

_log = logging.getLogger(__name__)

MOST_OF_NAME = 64
"""Characters of an unknown feature that are told again."""


@dataclass(frozen=True)
class RowFault(Exception):
    """Why one row cannot be scored."""

    code: str
    field: str | None
    message: str

    def as_dict(self) -> dict[str, str | None]:
        """For JSON."""
        return {"code": self.code, "field": self.field, "message": self.message}


@dataclass(frozen=True, kw_only=True)
class Swap:
    """How the last look at the registry ended."""

    looked_at: str | None = None
    failed: str | None = None
    """Why a newer champion was not taken."""


@dataclass(frozen=True, kw_only=True)
class _Others:
    """The accounts of a list, by their probabilities."""

    list_id: str | None = None
    model_version: str | None = None
    chances: Sequence[float] = ()
    """Ascending."""

    def percentile_of(self, probability: float) -> float | None:
        """The share of them below a probability, 0 to 100; None where there is nobody to compare with."""
        if not self.chances:
            return None
        return round(100 * bisect_left(self.chances, probability) / len(self.chances), 1)


class TooOld(DataError):
    """Scores were asked for of features that are older than the company allows."""


class _Person(NamedTuple):
    """What is known of an account that need not be active."""

    phase: str
    csm_id: object


@dataclass(frozen=True, kw_only=True)
class _Snapshot:
    """A day: the features of its active accounts, and every account with its phase and owner, both by account."""

    day: str
    features: pd.DataFrame
    people: Mapping[str, _Person]
    warnings: list[str]


class Answers:
    """The champion and the company behind the routes; holds no request."""

    def __init__(self, settings: Settings, champion: Champion) -> None:
        self.settings, self.champion = settings, champion
        self.swap = Swap()
        self._others = _Others()
        self._building = Lock()

    def follow(self, now: datetime) -> None:
        """Take the version that carries the alias now; the one at hand stays where that fails, and says so.

        The reference is replaced whole: a request that has begun ends with the version it began with.
        """
        try:
            version = registered_version(self.settings)
            if version not in (None, self.champion.version):
                self.champion = load_champion(self.settings)
                _log.info("version %s answers from now on", self.champion.version)
        except TenureError as error:
            if self.swap.failed != str(error):
                _log.error("version %s goes on answering: %s", self.champion.version, error)
            self.swap = Swap(looked_at=f"{now:%Y-%m-%dT%H:%M:%SZ}", failed=str(error))
        else:
            self.swap = Swap(looked_at=f"{now:%Y-%m-%dT%H:%M:%SZ}")

    def compare_with(self, list_id: str, model_version: str, probabilities: Callable[[], Sequence[float]]) -> None:
        """Tell from now on where accounts would stand on a list; its probabilities are read where it is another one."""
        if list_id != self._others.list_id:
            self._others = _Others(list_id=list_id, model_version=model_version, chances=sorted(probabilities()))

    def score_rows(
        self, rows: Sequence[tuple[str, Mapping[str, Any]]], *, with_reasons: bool, partial: bool
    ) -> dict[str, Any]:
        """Score rows of account_id and features, in their order."""
        return next(self.score_parts(rows, size=len(rows), with_reasons=with_reasons, partial=partial))

    def score_parts(
        self, rows: Sequence[tuple[str, Mapping[str, Any]]], *, size: int, with_reasons: bool, partial: bool
    ) -> Iterator[dict[str, Any]]:
        """The answers to `size` rows after `size` rows, all by the version that was champion at the first."""
        champion, others = self.champion, self._others
        for start in range(0, max(1, len(rows)), max(1, size)):
            answers = _rows_scored(
                champion, rows[start : start + size], others, with_reasons=with_reasons, partial=partial
            )
            yield _enveloped(champion, answers, feature_as_of=None, warnings=[])

    def score_accounts(
        self, accounts: Sequence[str], *, as_of: date | None, with_reasons: bool, token: Token | None, now: datetime
    ) -> dict[str, Any]:
        """Score known accounts from the features of the latest list, or of `as_of` built now."""
        champion, found = self.champion, self._snapshot(as_of, now)
        known = [(account, found.people[account]) for account in accounts if account in found.people]
        phases = {account: person.phase for account, person in known if sees(token, person.csm_id)}
        asked = [account for account in accounts if account in phases and account in found.features.index]
        matrix = champion.model.matrix(found.features.loc[asked])
        scored = dict(zip(asked, _scored(champion, matrix, self._others, with_reasons=with_reasons), strict=True))
        answers = [
            {"account_id": account, **scored[account]}
            if account in scored
            else _failed(account, _why(phases.get(account)))
            for account in accounts
        ]
        warnings = [*found.warnings, *self.warnings_of(found.day, now=now)]
        if warnings and self.settings.serve.refuse_stale:
            raise TooOld(f"Nobody is scored on features that are too old ([serve] refuse_stale): {warnings[0]}.")
        return _enveloped(champion, answers, feature_as_of=found.day, warnings=warnings)

    def levers_of(self, account: str, *, model_version: str) -> list[dict[str, Any]]:
        """What would lower the band of an account on the latest list; nothing where another version made that."""
        champion, folder = self.champion, published(self.settings)
        if champion.version != model_version:
            return []
        rows = _published_snapshot(folder).features
        row = rows[rows.index == account]
        return [] if row.empty else [lever.as_dict() for lever in levers(champion.model, row, rows)]

    def _snapshot(self, as_of: date | None, now: datetime) -> _Snapshot:
        folder = _found(self.settings, as_of)
        if folder is not None:
            return _published_snapshot(folder)
        moment = datetime.combine(as_of or now.date(), datetime.min.time())
        with self._building:
            tables = open_tables(self.settings, now=now.replace(tzinfo=None))
            stale = staleness(tables, self.settings, moment)
            people = people_at(tables, self.settings, moment)
            return _Snapshot(
                day=f"{moment:%Y-%m-%d}",
                features=features_at(tables, self.settings, moment).set_index("account_id"),
                people=dict(zip(people.account_id, map(_Person, people.phase, people.csm_id), strict=True)),
                warnings=[f"stale:{stale}"] if stale else [],
            )

    def warnings_of(self, day: str, *, now: datetime) -> list[str]:
        """What a reader of the list of a day must know."""
        age = now.date() - date.fromisoformat(day)
        limit = timedelta(days=self.settings.policy.stale_days)
        return [f"stale:features are of {day}, {age.days} days old"] if age > limit else []


def _rows_scored(
    champion: Champion,
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    others: _Others,
    *,
    with_reasons: bool,
    partial: bool,
) -> list[dict[str, Any]]:
    checked = [_checked(features, champion.model.features, partial=partial) for _, features in rows]
    good = [values for values in checked if not isinstance(values, RowFault)]
    scored = iter(_scored(champion, np.array(good, dtype=np.float64), others, with_reasons=with_reasons))
    return [
        _failed(account, values) if isinstance(values, RowFault) else {"account_id": account, **next(scored)}
        for (account, _), values in zip(rows, checked, strict=True)
    ]


def _checked(features: Mapping[str, Any], names: Sequence[str], *, partial: bool) -> list[float | None] | RowFault:
    if unknown := sorted(set(features) - set(names)):
        name = unknown[0][:MOST_OF_NAME]
        said = f"'{name}' must be a feature of the model's contract.{_hint(name, tuple(names))}"
        return RowFault("unknown_feature", name, said)
    missing = [name for name in names if name not in features]
    if missing and not partial:
        said = f"'{missing[0]}' must be given, null where it is not known; or send \"partial\": true."
        return RowFault("missing_feature", missing[0], said)
    for name, value in features.items():
        if value is not None and not _is_number(value):
            said = f"'{name}' must be a finite number or null; found {_shown(value)}."
            return RowFault("not_a_number", name, said)
    return [features.get(name) for name in names]


@lru_cache(maxsize=1024)
def _hint(name: str, names: tuple[str, ...]) -> str:
    """The name that may have been meant, looked for among those that begin alike: to compare with all is slow."""
    close = get_close_matches(name, [each for each in names if each[:1] == name[:1]], n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _scored(champion: Champion, matrix: Floats, others: _Others, *, with_reasons: bool) -> list[dict[str, Any]]:
    """What is said of each row of the model's features."""
    if not len(matrix):
        return []
    model = champion.model
    if model.no_signal or champion.version != others.model_version:
        others = _Others()  # Probabilities of two models are not of one scale.
    _, chances = model.scores(matrix)
    if not all(map(isfinite, chances.tolist())):
        raise ValueError("A probability must be a number; the model gave none.")
    told: Sequence[Why | None] = [None] * len(matrix)
    if with_reasons:
        told = reasons(model, matrix)
    return [
        {
            "probability": float(probability),
            "band": model.band(float(probability)),
            "rank_percentile": others.percentile_of(float(probability)),
            "reasons": None if why is None else [reason.as_dict() for reason in why.raises],
            "eases": None if why is None or why.eases is None else why.eases.as_dict(),
            "error": None,
        }
        for probability, why in zip(chances, told, strict=True)
    ]


def _enveloped(
    champion: Champion, answers: list[dict[str, Any]], *, feature_as_of: str | None, warnings: list[str]
) -> dict[str, Any]:
    if champion.model.no_signal:
        warnings = [*warnings, "no_signal:no better than the prior; every account gets the base rate"]
    return {
        "model_version": champion.version,
        "feature_as_of": feature_as_of,
        "warnings": warnings,
        "rows": answers,
    }


@lru_cache(maxsize=2)
def _published_snapshot(folder: Path) -> _Snapshot:
    """Read once: what lies under its hash does not change."""
    made = read_list(folder)
    people = {row["account_id"]: _Person(row["phase"], row["csm_id"]) for row in made["excluded"]}
    for part, phase in (("leaving", "notice"), ("rows", "active")):
        people |= {row["account_id"]: _Person(phase, row["csm_id"]) for row in made[part]}
    features = read_features(folder).set_index("account_id")
    return _Snapshot(day=made["as_of"], features=features, people=people, warnings=[])


def _found(settings: Settings, as_of: date | None) -> Path | None:
    """The published list of `as_of`, the latest by default; None where it has to be built."""
    if as_of is None:
        return published(settings)
    try:
        return published(settings, as_of.isoformat())
    except DataError:
        return None


def _why(phase: str | None) -> RowFault:
    if phase is None:
        return RowFault("unknown_account", "account_id", "There is no such account.")
    return RowFault("not_scored", "account_id", f"The account is not scored: {NOT_SCORED[phase]}.")


def _failed(account: str, fault: RowFault) -> dict[str, Any]:
    return {
        "account_id": account,
        "probability": None,
        "band": None,
        "rank_percentile": None,
        "reasons": None,
        "eases": None,
        "error": fault.as_dict(),
    }


def _is_number(value: object) -> bool:
    if isinstance(value, bool):  # A boolean is an integer.
        return False
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, int) and abs(value) <= float_info.max


def _shown(value: object) -> str:
    """A bad value by its kind: what a caller sent is not repeated to whoever reads the logs."""
    return str(value) if isinstance(value, float) else f"a {type(value).__name__}"
