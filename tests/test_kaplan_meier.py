"""Medians of durations of which some are still open: the golden values of the literature, in the engine."""

from __future__ import annotations

import ibis
import pytest

from features.kaplan_meier import km_median


def median(text):
    """Of durations written as `5, 8, 12+`, where `+` is still open."""
    parts = [part.strip() for part in text.split(",")]
    rows = ", ".join(f"('a', 1, {part.rstrip('+')}.0::double, {0 if part.endswith('+') else 1})" for part in parts)
    backend = ibis.duckdb.connect()
    backend.raw_sql(f"create table spans as from (values {rows}) as v(account_id, as_of, duration, observed)")
    found = km_median(backend.table("spans"), "median").to_pyarrow().to_pylist()
    return found[0]["median"] if found else None


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ("5,8,12+,14,20+,21,40+,60+", 21),
        ("5,30+,30+,30+", None),
        ("10,20,30,45,60+", 30),
        ("2,4,6,8,10+,30+", 6),
        ("45,45,45,45+,15+", 45),
        ("7", 7),
        ("7+", None),
        ("3,3+", 3),  # censored at the moment of an end, still at risk there
        ("1,2,3,4", 2),  # S(2) is one half to the last bit, or a rounding error above
    ],
)
def test_the_median_counts_what_is_still_open(durations, expected):
    assert median(durations) == expected
