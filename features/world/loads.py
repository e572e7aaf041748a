"""When rows of a generated company reach its warehouse, and lots that depend on nothing but a row's own keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.world.state import Floats

_DAY_SECONDS = 86_400
_NIGHT = 2 / 24
"""The nightly load runs at two."""
_LATEST = 13.0


def lots(seed: int, purpose: str, *keys: npt.NDArray[np.generic]) -> Floats:
    """Numbers in [0, 1) from whole-number keys, (rows,): a row keeps its lot whatever becomes of the others.

    The mixing function is splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    """
    state = np.array(int.from_bytes(f"{seed} {purpose}".encode(), "big") % 2**64, dtype=np.uint64)
    for key in keys:
        state = _mixed(state ^ key.astype(np.int64).view(np.uint64))
    return np.asarray((state >> np.uint64(11)) * 2.0**-53)


def _mixed(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


@dataclass(frozen=True)
class Loads:
    """The loads of the warehouse: every hour or every night, and for `late_share` of the rows days later."""

    seed: int
    late_share: float = 0.0

    def hourly(self, purpose: str, account: npt.NDArray[np.generic], happened: Floats) -> Floats:
        """When rows that happened at these days are known, by the hour."""
        return self._late(purpose, account, happened, np.ceil(happened * 24) / 24)

    def nightly(self, purpose: str, account: npt.NDArray[np.generic], happened: Floats) -> Floats:
        """When rows that happened at these days are known, by the night."""
        return self._late(purpose, account, happened, np.ceil(happened - _NIGHT) + _NIGHT)

    def _late(self, purpose: str, account: npt.NDArray[np.generic], happened: Floats, usual: Floats) -> Floats:
        if self.late_share == 0:
            return usual
        # What has no date yet, such as the start of an account that is yet to come, is never known.
        lot = lots(self.seed, f"late {purpose}", account, np.round(np.nan_to_num(happened) * _DAY_SECONDS))
        # The lots of late rows are even below the share: they say at once how late.
        return np.where(lot < self.late_share, usual + 1 + _LATEST * (lot / self.late_share) ** 2, usual)
