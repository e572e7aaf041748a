"""Names of ranges of a value. Published bands are references from elsewhere, not verified, and no targets."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf, isnan
from typing import Literal

NO_DATA = "no_data"


@dataclass(frozen=True)
class Band:
    """A named range; `closed` says which of its ends belongs to it."""

    label: str
    low: float
    high: float
    closed: Literal["low", "high", "both"] = "low"

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the band."""
        above = value > self.low or (value == self.low and self.closed != "high")
        below = value < self.high or (value == self.high and self.closed != "low")
        return above and below


@dataclass(frozen=True)
class BandSet:
    """Bands from the lowest to the highest, without a gap and without an overlap."""

    name: str
    bands: tuple[Band, ...]

    def __post_init__(self) -> None:
        for lower, upper in pairwise(self.bands):
            held = lower.holds(lower.high) + upper.holds(upper.low)
            if lower.high != upper.low or held != 1:
                raise ValueError(
                    f"bands of {self.name} must meet without gap or overlap; found {lower} before {upper}; "
                    "correct their ends."
                )


def band_of(value: float | None, bands: BandSet) -> str:
    """The label of the band that holds `value`; `no_data` where there is no value."""
    if value is None:
        return NO_DATA
    for band in bands.bands:
        if band.holds(value):
            return band.label
    found = "no number" if isnan(value) else f"{value:g}"
    raise ValueError(
        f"a value of {bands.name} must be from {bands.bands[0].low:g} to {bands.bands[-1].high:g}; found {found}; "
        "correct the value."
    )


TRAFFIC_LIGHT = BandSet(
    "the traffic light", (Band("red", -inf, 70), Band("amber", 70, 100), Band("green", 100, inf, "both"))
)
"""Of an attainment in percent."""

NPS_BANDS_ASG = BandSet(
    "nps_bands.asg",
    (
        Band("unsatisfactory", -100, 10),
        Band("satisfactory", 10, 50),
        Band("good", 50, 80),
        Band("good_extended", 80, 100, "both"),
    ),
)
"""As published 50 lies in two bands and nothing above 80 in any; here it begins the upper one."""

NPS_BANDS_CX_BOOK = BandSet(
    "nps_bands.cx_book",
    (
        Band("alarming", -100, 0),
        Band("neutral", 0, 0, "both"),
        Band("good_sign", 0, 50, "high"),
        Band("excellent", 50, 70, "high"),
        Band("world_class", 70, 100, "high"),
    ),
)
"""As published 0 has no band. The two sets contradict each other: a report names the one it uses."""

CES7_BANDS = BandSet("ces7_bands", (Band("poor", 1, 4), Band("good", 4, 6), Band("excellent", 6, 7, "both")))
"""Of a mean effort score of 1 to 7 where high is easy."""
