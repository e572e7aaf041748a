"""`tenure verify`: the leakage certificate of a registered version made again from the stored data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features.build import statements_hash
from features.catalogue import FEATURES, catalogue_hash
from features.certificate import certify
from features.errors import ConfigurationError
from features.settings import Settings
from features.tables import Tables
from training.dataset import build_dataset
from training.leakage import inspected
from training.tracking import load_version

Progress = Callable[[str], None]


class NotVerified(ConfigurationError):
    """A certificate that does not hold any more."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was made again and agreed."""

    version: str
    verdict: str
    hashes: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"version": self.version, "verdict": self.verdict, "hashes": self.hashes}


def verify(tables: Tables, settings: Settings, version: str, *, progress: Progress) -> Verified:
    """Check the artefact, then make its certificate again from the tables as they were when it was trained.

    Raises
    ------
    NotVerified
        The data, the statements that make features or the findings are no longer those of the certificate.
    ConfigurationError
        The artefact is not what was signed.
    """
    model = load_version(settings, version)
    said = model.certificate
    until = datetime.fromisoformat(said["trained_at"])
    progress(f"building the snapshots up to {until:%Y-%m-%d} again")
    dataset = build_dataset(tables, settings, now=until)
    hashes = {
        "data": dataset.identity,
        "catalogue": catalogue_hash(item for item in FEATURES if item.name in dataset.features),
        "statements": statements_hash(tables, settings.label),
    }
    told = {
        "data": "the data, or what is known of them,",
        "catalogue": "the catalogue of features",
        "statements": "the code that makes features",
    }
    faults = [f"{told[name]} changed" for name, found in hashes.items() if said["hashes"][name] != found]
    if not faults:
        progress("planting rows that no feature may see")
        faults += _planted_again(tables, settings, dataset.span.instants()[-1])
        judged = dataset.rows[
            dataset.rows.as_of.isin(model.evaluation["instants"]) & (dataset.rows.state == "labelled")
        ]
        needs = {item.name: item.needs for item in FEATURES}
        again = {(one.feature, one.check) for one in inspected(judged, dataset.features, needs=needs)}
        before = {(one["feature"], one["check"]) for one in said["findings"] if one["check"] != "rebuilt_earlier"}
        faults += [f"{feature} is beyond the limit of {check}" for feature, check in sorted(again - before)]
    if not said.get("is_valid"):
        faults.append(f"it was never valid: {said['verdict']}")
    if faults:
        raise NotVerified(
            f"The certificate of version {version} must hold again; found that {'; '.join(faults)}. "
            "Put back what changed, or train again."
        )
    return Verified(version=version, verdict=said["verdict"], hashes=hashes)


def _planted_again(tables: Tables, settings: Settings, as_of: datetime) -> list[str]:
    certificate = certify(tables, settings, as_of=as_of)
    return [certificate.verdict] if certificate.moved else []
