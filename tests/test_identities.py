"""Ids of other systems reach the account that they meant when the row happened."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ConfigurationError

ACCOUNTS = "account_id\na\nb\nc\nh1"
CONTRACTS = "account_id,start_at,mrr\na,2024-01-01,1\nb,2024-01-01,1\nc,2024-01-01,1"
DAY0 = datetime(2024, 1, 1)


@pytest.fixture
def placed(make_company):
    """The accounts that tickets of the help desk go to, in their order, None for one that was set aside."""

    def placed(identities, tickets, ids="helpdesk"):
        rows = "\n".join(f"{n},{row}" for n, row in enumerate(tickets))
        company = make_company(
            {
                "accounts": ACCOUNTS,
                "contracts": CONTRACTS,
                "identities": "account_id,source,source_id,valid_from_at,valid_to_at\n" + "\n".join(identities),
                "tickets": f"ticket_id,account_id,opened_at\n{rows}",
            }
        )
        company.map("tickets", f'path = "tickets.csv"\nids = "{ids}"')
        company.extra = "[quarantine]\nlimit = 1"
        tables = company.open()
        found = {row["ticket_id"]: row["account_id"] for row in tables["tickets"].to_pyarrow().to_pylist()}
        rules = {row["rule"] for row in tables.quarantine.to_pylist()}
        assert rules <= {"unknown_account"}
        return [found.get(str(n)) for n in range(len(tickets))]

    return placed


def test_an_id_of_another_system_becomes_ours(placed):
    identities = ["a,helpdesk,h1,,", "b,helpdesk,002,,", "c,crm,h1,,"]

    assert placed(identities, ["h1,2024-03-01", "002,2024-03-01", "2,2024-03-01"]) == ["a", "b", None]


def test_an_id_without_a_match_is_set_aside_even_if_an_account_of_ours_is_called_so(placed):
    assert placed(["a,helpdesk,h2,,"], ["h1,2024-03-01", "a,2024-03-01"]) == [None, None]


def test_a_merge_moves_only_what_happens_after_it(placed):
    identities = ["a,helpdesk,h1,,2024-06-01", "b,helpdesk,h1,2024-06-01,"]
    tickets = ["h1,2024-05-31 23:59:59", "h1,2024-06-01 00:00:00", "h1,2024-07-01"]

    assert placed(identities, tickets) == ["a", "b", "b"]


def test_a_time_between_two_meanings_belongs_to_nobody(placed):
    identities = ["a,helpdesk,h1,2024-02-01,2024-03-01", "b,helpdesk,h1,2024-04-01,"]
    tickets = ["h1,2024-01-31", "h1,2024-02-01", "h1,2024-03-01", "h1,2024-04-01"]

    assert placed(identities, tickets) == [None, "a", None, "b"]


SHORT, LONG = "001A0000006Vm9r", "001A0000006Vm9rIAC"
"""One id of a CRM in its two lengths. Of its three groups of five letters, 001A0 has its fourth letter capital: bit 3,
so I; 00000 has none: A; 6Vm9r has its second: bit 1, so C."""


def test_a_crm_id_of_15_and_of_18_characters_is_the_same(placed):
    assert placed([f"a,helpdesk,{SHORT},,"], [f"{LONG},2024-03-01", f"{SHORT},2024-03-01"]) == ["a", "a"]
    assert placed([f"a,helpdesk,{LONG},,"], [f"{SHORT},2024-03-01"]) == ["a"]


def test_crm_ids_that_differ_in_capitals_are_two(placed):
    identities = [f"a,helpdesk,{SHORT},,", f"b,helpdesk,{SHORT.lower()},,"]

    assert placed(identities, [f"{LONG},2024-03-01", f"{SHORT.lower()},2024-03-01"]) == ["a", "b"]


def test_other_ids_of_18_characters_are_not_cut(placed):
    identities = ["a,helpdesk,customer0000000001,,", "b,helpdesk,customer0000000002,,"]

    assert placed(identities, ["customer0000000002,2024-03-01", "customer0000000003,2024-03-01"]) == ["b", None]


spans = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 9), st.none() | st.integers(10, 19)),
    min_size=1, max_size=4, unique_by=lambda span: (span[0], span[1]),
)  # fmt: skip


@settings(max_examples=5, deadline=None, derandomize=True)
@given(meanings=st.lists(spans, min_size=1, max_size=8), days=st.lists(st.integers(-1, 21), min_size=1, max_size=8))
def test_the_latest_meaning_that_holds_wins(new_company, meanings, days):
    def date(day):
        return "" if day is None else f"{DAY0 + timedelta(days=day):%Y-%m-%d}"

    def expected(spans, day):
        holding = [
            (-99 if begun is None else begun, account)
            for account, begun, over in spans
            if (begun is None or begun <= day) and (over is None or day < over)
        ]
        return max(holding)[1] if holding else None

    asked = [(name, day) for name in range(len(meanings)) for day in days]
    company = new_company()
    company.write("accounts", ACCOUNTS).write("contracts", CONTRACTS)
    company.write("identities", "account_id,source,source_id,valid_from_at,valid_to_at\n" + "\n".join(
        f"{account},desk,{name},{date(begun)},{date(over)}"
        for name, spans in enumerate(meanings) for account, begun, over in spans))  # fmt: skip
    company.write("tickets", "ticket_id,account_id,opened_at\n" + "\n".join(
        f"{n},{name},{date(day)}" for n, (name, day) in enumerate(asked)))  # fmt: skip
    company.map("tickets", 'path = "tickets.csv"\nids = "desk"')
    company.extra = "[quarantine]\nlimit = 1"
    rows = company.open()["tickets"].to_pyarrow().to_pylist()

    found = {int(row["ticket_id"]): row["account_id"] for row in rows}
    assert [found.get(n) for n in range(len(asked))] == [expected(meanings[name], day) for name, day in asked]


@pytest.mark.parametrize(
    ("ids", "said"),
    [("helpdsek", r"one of \['helpdesk'\]; found 'helpdsek'\. Did you mean 'helpdesk'"), ("crm", "Map")],
)
def test_a_source_that_identities_do_not_know_is_refused(placed, ids, said):
    with pytest.raises(ConfigurationError, match=said):
        placed(["a,helpdesk,h1,,"], ["h1,2024-03-01"], ids=ids)


def test_accounts_themselves_are_not_translated(make_company):
    company = make_company({"accounts": ACCOUNTS, "contracts": CONTRACTS})
    company.map("accounts", 'path = "accounts.csv"\nids = "crm"')

    with pytest.raises(ConfigurationError, match="ids must not be set"):
        company.open()
