"""What `tenure.toml` says about models: how one is trained, what its leakage gate lets pass, how its list is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from features.settings_file import require


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training run; each field is an option of `tenure train`."""

    seed: int = 7
    """Same seed, same data: same model."""
    folds: int = 6
    """Latest instants at which the recipe is judged on labels it could not know."""
    min_lost: int = 20
    """Lost accounts below which nothing is learned."""
    draws: int = 2000
    """Bootstrap draws behind each 95 % interval."""

    def __post_init__(self) -> None:
        require(self.folds >= 1, "[train] folds", self.folds, "at least 1")
        require(self.draws >= 50, "[train] draws", self.draws, "at least 50")
        require(self.min_lost >= 20, "[train] min_lost", self.min_lost, "at least 20")


@dataclass(frozen=True, kw_only=True)
class LeakageSettings:
    """What the leakage gate lets pass."""

    accept: Mapping[str, str] = field(default_factory=dict)
    """Feature → why it may be beyond a limit; the certificate says so."""
    permutations: int = 10
    """Times the labels are swapped between accounts to show that the procedure learns nothing from nothing."""

    def __post_init__(self) -> None:
        require(self.permutations >= 0, "[leakage] permutations", self.permutations, "0 or more")
        unsaid = sorted(name for name, why in self.accept.items() if not why.strip())
        require(not unsaid, "[leakage.accept]", unsaid, "features with a reason each")


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """How a list is cut."""

    capacity: float = 0.10
    """Share of the scored accounts the team can contact per list, in (0, 1]."""
    hours_per_contact: float = 2.5
    """CSM hours one listed account costs; used by the back-test."""
    offer_share: float = 0.05
    """Offer to a contacted account as a share of its yearly value, taken by those who stay."""
    contact_cost: float = 150.0
    """Money that contacting one account costs."""
    saved_share: float = 0.3
    """Share of the contacted losses that stay: assumed, until outcomes have measured it."""
    stale_days: int = 3
    """Newest usage may be this many days older than `as_of`."""

    def __post_init__(self) -> None:
        require(0 < self.capacity <= 1, "[policy] capacity", self.capacity, "a share above 0, at most 1")
        require(self.hours_per_contact >= 0, "[policy] hours_per_contact", self.hours_per_contact, "0 or more hours")
        for name in ("offer_share", "saved_share"):
            require(0 <= getattr(self, name) <= 1, f"[policy] {name}", getattr(self, name), "a share from 0 to 1")
        require(self.contact_cost >= 0, "[policy] contact_cost", self.contact_cost, "0 or more")
        require(self.stale_days >= 0, "[policy] stale_days", self.stale_days, "0 or more days")


def places(scored: int, capacity: float) -> int:
    """How many of `scored` accounts a list has room for: `capacity` of them, rounded up."""
    return ceil(round(scored * capacity, 9))
