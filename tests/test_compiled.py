"""The statements of a build are the same text in every process, so that their hash says whether the code changed."""

from __future__ import annotations

from features.compiled import settled


def test_columns_that_are_left_out_stand_in_order():
    """ibis keeps them in a set, whose order is another one in each process."""
    one = 'select "t1".* EXCLUDE ("b", "a") from (select "t0".* EXCLUDE ("z") from x) as t0'
    other = 'select "t1".* EXCLUDE ("a", "b") from (select "t0".* EXCLUDE ("z") from x) as t0'

    assert settled(one) == settled(other) == other


def test_a_statement_without_any_is_left_alone():
    assert settled("select count(*) from x") == "select count(*) from x"
