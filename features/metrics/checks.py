"""What every metric refuses: negative or missing numbers, a part above its whole, a value off its scale."""

from __future__ import annotations

import math


def amount(name: str, value: float) -> float:
    """`value`, refused unless it is a finite number of at least 0."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a number of at least 0; found {value}; correct what was counted.")
    return value


def finite(name: str, value: float) -> float:
    """`value`, refused unless it is a finite number."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number; found {value}; leave out what is not known.")
    return value


def within(name: str, value: float, low: float, high: float) -> float:
    """`value`, refused unless it lies in [low, high]."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}; found {value}; correct it or leave it out.")
    return value


def quotient(top: tuple[str, float], bottom: tuple[str, float]) -> float | None:
    """Of two named amounts the first over the second; None where the second is 0."""
    upper, lower = amount(*top), amount(*bottom)
    return upper / lower if lower else None


def share(part: tuple[str, float], whole: tuple[str, float]) -> float | None:
    """Of two named amounts the first as a fraction of the second, which it may not exceed; None where that is 0."""
    result = quotient(part, whole)
    if part[1] > whole[1]:
        raise ValueError(
            f"{part[0]} must be at most {whole[0]}; found {part[1]:g} of {whole[1]:g}; count both over the same base."
        )
    return result


def same_length(names: str, first: int, second: int) -> None:
    """Refuse two sequences of which each element of one belongs to one of the other, but whose lengths differ."""
    if first != second:
        raise ValueError(f"{names} must be equally many; found {first} and {second}; give one of each per case.")
