"""Ways of looking back that are faster than laying every row beside every instant see the same rows."""

from __future__ import annotations

from datetime import datetime, timedelta

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.windows import bit_or, instants_table, known_before, marked_before, numbered

START = datetime(2024, 1, 1)
DAY = timedelta(days=1)
WITHIN = {"lately": 28, "used": 91}

DAYS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(-120, 200), st.one_of(st.integers(0, 1), st.integers(2, 150))),
    min_size=1, max_size=30,
)  # fmt: skip
"""Whose row, of which day, and how many days later it was known."""


@pytest.fixture(scope="module")
def backend():
    return ibis.duckdb.connect()


def table_of(backend, rows):
    days = ((name, START + day * DAY, START + (day + late) * DAY) for name, day, late in rows)
    listed = ", ".join(f"('{name}', timestamp '{event}', timestamp '{known}')" for name, event, known in days)
    backend.raw_sql(f"create or replace table days as from (values {listed}) as v(account_id, event_at, known_at)")
    return backend.table("days")


def seen_by_pairs(days, instants, longest):
    rows = known_before(days, instants, within_days=longest)
    return set(rows.select("account_id", "as_of").distinct().to_pandas().itertuples(index=False, name=None))


def seen_by_bits(days, instants, name):
    moments = numbered(instants)
    marks = marked_before(days, moments, **WITHIN)
    found = marks.group_by("account_id", "block").agg(bits=bit_or(marks[name])).join(moments, "block")
    rows = found.filter((found.bits & found.bit) > 0)
    return set(rows.select("account_id", "as_of").to_pandas().itertuples(index=False, name=None))


@settings(deadline=None, max_examples=25)
@given(rows=DAYS, every=st.sampled_from([1, 7, 30, 120]), number=st.integers(1, 140))
def test_bits_mark_the_instants_that_see_a_row(backend, rows, every, number):
    days = table_of(backend, rows)
    instants = instants_table(backend, [START + every * n * DAY for n in range(number)], name="moments")

    for name, longest in WITHIN.items():
        assert seen_by_bits(days, instants, name) == seen_by_pairs(days, instants, longest)


def test_the_bits_of_many_instants_fill_several_integers(backend):
    rows = numbered(instants_table(backend, [START + n * DAY for n in range(125)], name="moments")).to_pandas()

    assert rows.block.nunique() == 3
    assert len(set(zip(rows.block, rows.bit, strict=True))) == 125
    assert (rows.bit > 0).all()
