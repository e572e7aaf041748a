"""ABC and XYZ: the worked vectors, ties, and where revenue is read from."""

from __future__ import annotations

from datetime import datetime, timedelta

import ibis
import pytest

from features.build import feature_table
from features.families.classes import ABC, XYZ, variation, xyz_level
from features.settings import LabelSettings

AS_OF = datetime(2025, 3, 1)


def day(age):
    return f"{AS_OF - timedelta(days=age):%Y-%m-%d}"


def customers(revenue, name="a{}"):
    """Tables of accounts a0, a1, … that have paid so much a month for two years."""
    names = [name.format(place) for place in range(len(revenue))]
    return {
        "accounts": "\n".join(["account_id", *names]),
        "contracts": "\n".join(
            ["account_id,start_at,mrr", *(f"{one},{day(730)},{mrr}" for one, mrr in zip(names, revenue, strict=True))]
        ),
    }


def told(company, name):
    rows = feature_table(company.open(), [AS_OF], LabelSettings()).to_pylist()
    return {row["account_id"]: row[name] for row in rows}


def classes(found):
    return "".join("-" if level is None else ABC[int(level)] for level in found.values())


def test_the_share_before_the_account_decides_its_class(make_company):
    found = told(make_company(customers([500, 250, 150, 60, 40])), "abc_class")

    assert classes(found) == "AAABC"


def test_accounts_of_equal_revenue_rank_by_their_id(make_company):
    found = told(make_company(customers([50, 50, 0, 50, 50])), "abc_class")

    assert classes(found) == "AA-AA"  # 0, 0.25, 0.5 and 0.75 come before


def test_a_class_begins_where_the_shares_before_reach_it_exactly(make_company):
    found = told(make_company(customers([80, 15, 5])), "abc_class")

    assert classes(found) == "ABC"


def test_invoices_decide_over_contracts_where_they_are_mapped(make_company):
    invoices = [
        f"i0,a0,40,{day(30)}",
        f"i1,a1,500,{day(364)}",
        f"i2,a2,900,{day(365)}",
        f"i3,a2,60,{day(1)}",
        f"i4,a3,250,{day(9)}",
        f"i5,a4,150,{day(9)}",
        f"i6,a0,999,{day(0)}",
    ]
    tables = customers([500, 250, 150, 60, 40])
    tables["invoices"] = "\n".join(["invoice_id,account_id,amount,issued_at", *invoices])

    assert classes(told(make_company(tables), "abc_class")) == "CABAA"


def test_the_price_of_each_day_counts_and_not_the_last_one(make_company):
    """a0 paid 300 for 264 days and 1 for 100; a1 paid 100 all year; a2 paid 210."""
    tables = {
        "accounts": "account_id\na0\na1\na2",
        "contracts": "\n".join(
            [
                "account_id,contract_id,start_at,mrr,known_at",
                f"a0,c,{day(730)},300,{day(730)}",
                f"a0,c,{day(730)},1,{day(100)}",
                f"a1,c,{day(730)},100,{day(730)}",
                f"a2,c,{day(730)},210,{day(730)}",
            ]
        ),
    }

    # 79,300, 76,440 and 36,400 of 192,140: before a1 lie 0.81.
    assert told(make_company(tables), "abc_class") == {"a0": 0, "a1": 1, "a2": 0}


def test_a_class_that_others_push_down_is_a_drop(make_company):
    """Of two, a0 had 0.6 before it and a1 nothing; a newcomer now puts 0.97 before both."""
    tables = {
        "accounts": "account_id\na0\na1\na2",
        "contracts": "\n".join(
            ["account_id,start_at,mrr", f"a0,{day(730)},40", f"a1,{day(730)},60", f"a2,{day(181)},9000"]
        ),
    }

    assert told(make_company(tables), "abc_class_drop_182d") == {"a0": 1, "a1": 1, "a2": None}


@pytest.mark.parametrize(
    ("users", "expected", "level"),
    [
        ([100, 105, 95, 100], 0.0354, "X"),
        ([10, 12, 8, 14], 0.2033, "Y"),
        ([1, 5, 0, 10], 0.9843, "Z"),
        ([7, 7, 7], 0.0, "X"),
        ([9, 11], 0.1, "X"),
        ([3, 5], 0.25, "Y"),
    ],
)
def test_the_spread_of_users_decides_the_class_of_evenness(company, users, expected, level):
    backend = company.write("accounts", "account_id,started_at,churned_at\na,2024-01-01,").open().backend
    numbers = (len(users), sum(users), sum(count * count for count in users))
    found = variation(*(ibis.literal(float(number)) for number in numbers))

    assert backend.to_pyarrow(found).as_py() == pytest.approx(expected, abs=5e-5)
    assert XYZ[backend.to_pyarrow(xyz_level(found)).as_py()] == level


def test_no_users_at_all_have_no_spread(company):
    backend = company.write("accounts", "account_id,started_at,churned_at\na,2024-01-01,").open().backend
    found = variation(ibis.literal(4.0), ibis.literal(0.0), ibis.literal(0.0))

    assert backend.to_pyarrow(found).as_py() is None
    assert backend.to_pyarrow(xyz_level(found)).as_py() is None
