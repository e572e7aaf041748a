"""`tenure promote` and `tenure rollback`: which version is champion, by the gate, and on the record."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.errors import CannotWrite, ConfigurationError
from features.settings import Settings
from features.tables import Tables
from training.dataset import Dataset, build_dataset
from training.evaluation import rolling_predictions
from training.gate import CHALLENGER, CHAMPION, Check, Decision, decide
from training.intervals import paired_difference
from training.learners import Trees
from training.model import ChurnModel, signing_key
from training.monitoring import gains, input_shifts, reference_instant
from training.tracking import PREVIOUS, aliases, load_version, move_aliases, tag_version

Progress = Callable[[str], None]

AUDIT_FILE = "audit.jsonl"
SLOWEST_MS = 50.0
"""99 % of single rows must be scored within so many milliseconds."""


class GateRefused(ConfigurationError):
    """The gate refused a version; nothing was changed."""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """Which version became champion in place of which, and the record of the gate."""

    version: str
    replaced: str | None
    decision: Decision
    record: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"version": self.version, "replaced": self.replaced, **self.record}

    def text(self) -> str:
        """The checks, a line each, and what became of the version."""
        lines = [f"{check.verdict:<10} {check.name}: {check.said}" for check in self.decision.checks]
        was = "the first one" if self.replaced is None else f"version {self.replaced} is previous"
        return "\n".join([*lines, f"Version {self.version} is champion, {was}."])


def promote(
    tables: Tables, settings: Settings, version: str, *, now: datetime, progress: Progress, despite_drift: bool = False
) -> Promotion:
    """Make `version` champion if the gate lets it pass.

    Parameters
    ----------
    despite_drift : take it though the features it leans on moved by more than chance since it learned

    Raises
    ------
    GateRefused
        It is not better, or not safe; names the check that failed.
    ConfigurationError
        There is no such version, it is champion already, or its artefact is not what was signed.
    """
    named = aliases(settings)
    champion = named.get(CHAMPION)
    if champion == version:
        raise ConfigurationError(f"Version {version} must not be champion yet; it is. There is nothing to promote.")
    offered = load_version(settings, version)
    current = None if champion is None else load_version(settings, champion)
    dataset = build_dataset(tables, settings, now=now)
    decision = judged(dataset, settings, offered, current, progress=progress, despite_drift=despite_drift)
    record = _record(settings, decision, version=version, champion=champion, now=now)
    tag_version(settings, version, {"gate": decision.outcome, "gate_reason": decision.reason[:4000]})
    if decision.outcome != "promote":
        raise GateRefused(
            f"Version {version} must be better than the champion{'' if champion is None else f' {champion}'} and safe; "
            f"the gate says {decision.outcome}: {decision.reason}. The champion is as it was."
        )
    moves: dict[str, str | None] = {CHAMPION: version}
    if champion is not None:
        moves[PREVIOUS] = champion
    if named.get(CHALLENGER) == version:
        moves[CHALLENGER] = None
    move_aliases(settings, moves)
    _append(settings, {"action": "promote", "from": champion, "to": version, "gate": record["hmac"]}, now=now)
    return Promotion(version=version, replaced=champion, decision=decision, record=record)


def rollback(settings: Settings, *, now: datetime) -> dict[str, str]:
    """Swap `champion` and `previous`; what comes back is verified first.

    Raises
    ------
    ConfigurationError
        There is no previous version, or its artefact is not what was signed.
    """
    named = aliases(settings)
    if PREVIOUS not in named or CHAMPION not in named:
        raise ConfigurationError(
            f"A version must carry the alias '{PREVIOUS}' to go back to; found aliases {sorted(named)}. "
            "Promote another one with `tenure promote V`."
        )
    load_version(settings, named[PREVIOUS])
    move_aliases(settings, {CHAMPION: named[PREVIOUS], PREVIOUS: named[CHAMPION]})
    _append(settings, {"action": "rollback", "from": named[CHAMPION], "to": named[PREVIOUS]}, now=now)
    return {"champion": named[PREVIOUS], "previous": named[CHAMPION]}


def judged(
    dataset: Dataset, settings: Settings, offered: ChurnModel, current: ChurnModel | None, *, progress: Progress,
    despite_drift: bool = False,
) -> Decision:  # fmt: skip
    """What the gate says of a model beside the champion; without a champion it must only be safe."""
    faults = [] if offered.certificate.get("is_valid") else [str(offered.certificate.get("verdict", "none was made"))]
    latency = _latency(offered)
    drift = _drift(dataset, offered, despite=despite_drift)
    if current is None:
        return _with(Decision(outcome="promote", checks=()), faults, latency, drift)
    unseen = _unseen(dataset, offered, current)
    is_refresh = offered.evaluation["recipe"] == current.evaluation["recipe"]
    if is_refresh:
        rows = unseen
        if rows.empty or rows.churned.nunique() < 2:
            said = "no instant became final since both were trained; the same recipe on newer data is taken"
            slice_ = Check(name="unseen slice", verdict="not judged", said=said)
            return _with(Decision(outcome="promote", checks=()), faults, latency, drift, slice_)
    else:
        progress("fitting both recipes at every fold")
        rows = _refitted(dataset, offered, current, settings, progress=progress)
    decision = decide(
        rows, settings.policy, is_refresh=is_refresh, faults=faults, draws=settings.train.draws,
        seed=settings.train.seed,
    )  # fmt: skip
    return _with(decision, (), latency, drift, *([] if is_refresh else [_on_slice(unseen, settings)]))


def _with(decision: Decision, faults: Sequence[str], *more: Check) -> Decision:
    checks = (*(Check(name="leakage", verdict="failed", said=fault) for fault in faults), *decision.checks, *more)
    failed = any(check.verdict == "failed" for check in checks)
    return replace(decision, checks=checks, outcome="reject" if failed else decision.outcome)


def _refitted(
    dataset: Dataset, offered: ChurnModel, current: ChurnModel, settings: Settings, *, progress: Progress
) -> pd.DataFrame:
    """Both recipes fitted at each fold on what was known then, and what they said of the same later rows."""
    instants = dataset.maturity.folds()[-settings.train.folds :]
    keys = ["account_id", "as_of"]
    found = None
    for name, model in ((CHAMPION, current), (CHALLENGER, offered)):
        missing = sorted(set(model.features) - set(dataset.rows.columns))
        if missing:
            raise ConfigurationError(
                f"The {name} must find its features in the data; {missing[:5]} are gone. Train again, then promote."
            )
        recipe = replace(dataset, features=model.features)
        learner = Trees(dict(model.evaluation["recipe"]["parameters"]))
        rows, _ = rolling_predictions(recipe, instants, seed=settings.train.seed, learner=learner, progress=progress)
        said = rows.rename(columns={"probability": name})
        found = said if found is None else found.merge(said[[*keys, name]], on=keys)
    assert found is not None
    return found[found.state == "labelled"].assign(churned=lambda each: each.churned.astype(int))


def _unseen(dataset: Dataset, offered: ChurnModel, current: ChurnModel) -> pd.DataFrame:
    """The rows that became final after both artefacts were made, as the artefacts score them."""
    seen = max(pd.Timestamp(model.evaluation["learned_until"]) for model in (offered, current))
    rows = dataset.labelled
    rows = rows[rows.as_of > seen].assign(churned=lambda each: each.churned.astype(int))
    told = {*offered.features, *current.features} <= set(rows.columns)
    if rows.empty or not told:
        return rows.iloc[:0]
    return rows.assign(**{CHAMPION: current.probabilities(rows), CHALLENGER: offered.probabilities(rows)})


def _on_slice(rows: pd.DataFrame, settings: Settings) -> Check:
    """Both artefacts as they are, on rows that neither learned from."""
    if rows.empty:
        return Check(name="unseen slice", verdict="not judged", said="no instant became final since both were trained")
    options = settings.train
    loss = paired_difference(rows, CHALLENGER, CHAMPION, "log_loss", draws=options.draws, seed=options.seed)
    if loss.low is None:
        return Check(name="unseen slice", verdict="not judged", said=str(loss.reason))
    said = f"{len(rows):,} rows, log loss {loss.value:+.5f} (95 % {loss.low:+.5f} to {loss.high:+.5f})"
    return Check(name="unseen slice", verdict="failed" if loss.low > 0 else "passed", said=said)


def _drift(dataset: Dataset, offered: ChurnModel, *, despite: bool) -> Check:
    """Whether what the model leans on is still what it learned from."""
    missing = sorted(set(offered.features) - set(dataset.rows.columns))
    if missing:
        return Check(name="drift", verdict="failed", said=f"its features {missing[:5]} are gone from the data")
    then = dataset.at(reference_instant(dataset, offered))
    now = dataset.at(max(dataset.rows.as_of))
    moved = [shift for shift in input_shifts(then, now, gains(offered)) if shift.is_alarm]
    if not moved:
        return Check(name="drift", verdict="passed", said="no feature it leans on moved by more than chance")
    told = ", ".join(f"{shift.name} (PSI {shift.psi:.2f} above {shift.limit:.2f})" for shift in moved[:5])
    if despite:
        return Check(name="drift", verdict="watch", said=f"{told} moved; taken despite it")
    return Check(name="drift", verdict="failed", said=f"{told} moved since it learned; train again, or --despite-drift")


def _latency(model: ChurnModel) -> Check:
    row = model.golden.head(1)
    taken = []
    for _ in range(50):
        start = time.perf_counter()
        model.probabilities(row)
        taken.append(1000 * (time.perf_counter() - start))
    slowest = float(np.quantile(taken, 0.99))
    said = f"a row alone takes {slowest:.1f} ms at the 99th percentile, at most {SLOWEST_MS:g}"
    return Check(name="latency", verdict="passed" if slowest <= SLOWEST_MS else "failed", said=said)


def _record(
    settings: Settings, decision: Decision, *, version: str, champion: str | None, now: datetime
) -> dict[str, Any]:
    """The signed record of a gate, kept beside the state under its version."""
    facts = {"offered": version, "champion": champion, "at": now.isoformat(), **decision.as_dict()}
    text = json.dumps(facts, sort_keys=True)
    signed = facts | {"hmac": hmac.new(signing_key(settings.state_dir), text.encode(), hashlib.sha256).hexdigest()}
    place = settings.state_dir / "gate" / f"version-{version}.json"
    _write(place, json.dumps(signed, indent=1))
    return signed


def _write(place: Path, text: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        staged = place.with_suffix(f".{os.getpid()}")
        staged.write_text(text, encoding="utf-8")
        os.replace(staged, place)
    except OSError as error:
        raise _unwritable(place, error) from error


def _append(settings: Settings, line: dict[str, Any], *, now: datetime) -> None:
    """One line of the audit file, which is never rewritten."""
    place = settings.state_dir / AUDIT_FILE
    said = {"at": now.isoformat(), "by": os.environ.get("USER") or getpass.getuser(), **line}
    try:
        with place.open("a", encoding="utf-8") as file:
            file.write(json.dumps(said, sort_keys=True) + "\n")
    except OSError as error:
        raise _unwritable(place, error) from error


def _unwritable(place: Path, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"{place} must be a file that can be written; {error.strerror}. Free space, or change its permissions."
    )
