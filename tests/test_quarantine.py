"""Bad rows are set aside one by one, with the rule they break; a bad source stops the run and changes nothing."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from random import Random

import pyarrow.parquet as pq
import pytest

from features.build import feature_table
from features.errors import ConfigurationError, DataError, EmptyTable, MissingColumns, MissingSource, TooManyBadRows
from features.settings import LabelSettings
from features.tables import open_tables

AS_OF = datetime(2025, 3, 1)
STATE_FILES = ["profile.json", "quarantine.parquet", "rollup"]
FIRST_RUN = datetime(2025, 6, 1)
SECOND_RUN = FIRST_RUN + timedelta(days=1)

ACCOUNTS = "account_id,started_at,employees,churned_at"
CONTRACTS = "account_id,contract_id,start_at,term_end_at,ended_at,auto_renew,mrr,known_at"
USAGE = "account_id,event_at,quantity,kind"
TICKETS = "ticket_id,account_id,opened_at,resolved_at,severity,csat"
SURVEYS = "account_id,kind,score,scale_min,scale_max,polarity,sent_at,responded_at"

GOOD_AND_BAD = {
    "accounts": (
        ACCOUNTS,
        ("a,2024-01-01,10,", None, None),
        (",2024-01-01,10,", "required", "account_id must not be empty"),
        ("b,soon,10,", "type", "started_at must be a time, found soon"),
        ("c,2024-01-01,many,", "type", "employees must be a number, found many"),
        ("d,2024-01-01,-1,", "range", "employees must be at least 0, found -1"),
        ("e,2024-01-01,10,2023-01-01", "time_order", "churned_at must not be before started_at"),
        ("a,2024-01-01,99,", "duplicate_key", "an earlier row has the same account_id"),
        ("f,2024-01-01,,", None, None),
    ),
    "contracts": (
        CONTRACTS,
        ("a,c1,2024-01-01,2025-01-01,,true,100,2024-01-01", None, None),
        ("a,c2,,2025-01-01,,true,100,2024-01-01", "required", "start_at must not be empty"),
        ("a,c3,2024-13-01,2025-01-01,,true,100,2024-01-01", "type", "start_at must be a time, found 2024-13-01"),
        ("a,c4,2024-01-01,2025-01-01,,perhaps,100,2024-01-01", "type", "auto_renew must be a boolean, found perhaps"),
        ("a,c5,2024-01-01,2025-01-01,,true,-5,2024-01-01", "range", "mrr must be at least 0, found -5"),
        ("a,c6,2024-01-01,2023-01-01,,true,100,2024-01-01", "time_order", "term_end_at must not be before start_at"),
        ("a,c7,2024-01-01,,2023-01-01,true,100,2024-01-01", "time_order", "ended_at must not be before start_at"),
        ("a,c1,2024-01-01,2026-01-01,,true,100,2024-02-01", None, None),
        ("a,c1,2024-01-01,2027-01-01,,true,100,2024-02-01", "duplicate_key",
         "an earlier row has the same account_id, contract_id, start_at, known_at"),
        ("stranger,c8,2024-01-01,,,true,100,2024-01-01", "unknown_account", "account_id is in no row of accounts"),
        ("f,c9,2024-01-01,,,No,0,2024-01-01", None, None),
    ),
    "usage": (
        USAGE,
        ("a,2025-02-01,1,login", None, None),
        ("a,2025-02-01,1,login", None, None),
        ("a,2025-02-30,1,login", "type", "event_at must be a time, found 2025-02-30"),
        ("a,2025-02-01,inf,login", "type", "quantity must be a number, found inf"),
        ("a,2025-02-01,-1,login", "range", "quantity must be at least 0, found -1"),
        ("a,2025-02-01,1,logon", "enum",
         "kind must be one of login, action, help_view, export, job_failed, integration, found logon"),
        ("b,2025-02-01,1,login", "unknown_account", "account_id is in no row of accounts"),
    ),
    "tickets": (
        TICKETS,
        ("t1,a,2025-02-01,2025-02-02,1,5", None, None),
        (",a,2025-02-01,,1,", "required", "ticket_id must not be empty"),
        ("t2,a,2025-02-01,,9,", "range", "severity must be at most 4, found 9"),
        ("t3,a,2025-02-01,,1,7", "range", "csat must be at most 5, found 7"),
        ("t4,a,2025-02-01,2025-01-31,1,", "time_order", "resolved_at must not be before opened_at"),
        ("t1,a,2025-02-01,2025-02-03,1,", "duplicate_key", "an earlier row has the same ticket_id"),
        ("t5,stranger,2025-02-01,,1,", "unknown_account", "account_id is in no row of accounts"),
        ("t6,f,2025-02-01,,,", None, None),
    ),
    "surveys": (
        SURVEYS,
        ("a,nps,10,,,,,2025-02-01", None, None),
        ("a,nps,11,,,,,2025-02-01", "range", "score is off its scale"),
        ("a,nps,-1,,,,,2025-02-01", "range", "score is off its scale"),
        ("a,nps,7.5,,,,,2025-02-01", "type", "an nps score is a whole number"),
        ("a,nsp,7,,,,,2025-02-01", "enum", "kind must be one of nps, csat, ces, found nsp"),
        (",nps,7,,,,,2025-02-01", "required", "account_id must not be empty"),
        ("a,csat,4,,,,,2025-02-01", "scale_missing", "a csat or ces score needs scale_min and scale_max"),
        ("a,csat,6,1,5,,,2025-02-01", "range", "score is off its scale"),
        ("a,ces,6,1,7,,,2025-02-01", "scale_missing", "a ces score needs its polarity, ease or effort"),
        ("a,ces,6,1,7,ease,,2025-02-01", None, None),
        ("a,nps,7,,,,2025-02-02,2025-02-01", "time_order", "responded_at must not be before sent_at"),
        ("a,csat,,,,,2025-02-01,", None, None),
    ),
}  # fmt: skip


def small_company(company):
    """Ten accounts with a contract each, and one use, all good."""
    ids = [f"a{number}" for number in range(10)]
    company.write("accounts", "\n".join(["account_id,started_at", *(f"{id_},2024-01-01" for id_ in ids)]))
    rows = (f"{id_},c,2024-01-01,100" for id_ in ids)
    company.write("contracts", "\n".join(["account_id,contract_id,start_at,mrr", *rows]))
    return company.write("usage", "account_id,event_at,quantity\na0,2025-02-01,1")


def quarantine_file(company):
    return company.folder / ".tenure" / "quarantine.parquet"


def set_aside(tables):
    return [(row["table"], row["row_number"], row["rule"]) for row in tables.quarantine.to_pylist()]


def test_each_bad_row_is_set_aside_alone_and_says_why(company):
    expected, kept = [], {}
    for name, (header, *rows) in GOOD_AND_BAD.items():
        company.write(name, "\n".join([header, *(row for row, _, _ in rows)]))
        expected += [(name, f"{name}.csv", at, rule, why) for at, (_, rule, why) in enumerate(rows, 1) if rule]
        kept[name] = sum(rule is None for _, rule, _ in rows)
    company.extra = "[quarantine]\nlimit = 1.0"

    tables = company.open()

    found = tables.quarantine.to_pylist()
    assert [tuple(row[key] for key in ("table", "source", "row_number", "rule", "reason")) for row in found] == expected
    assert {name: loaded.kept for name, loaded in tables.loaded.items()} == kept
    assert {name: loaded.rows for name, loaded in tables.loaded.items()} == {
        name: len(rows) - 1 for name, rows in GOOD_AND_BAD.items()
    }
    answers_on_tickets = 1
    counted = {name: tables[name].count().to_pyarrow().as_py() for name in kept}
    counted["usage"] = tables["account_days"].events.sum().to_pyarrow().as_py()
    assert counted == {**kept, "surveys": kept["surveys"] + answers_on_tickets}


def test_the_quarantine_is_written_as_it_is_told(company):
    small_company(company).write("surveys", "account_id,kind,score,responded_at\na0,nps,11,2025-02-01")
    company.extra = "[quarantine]\nlimit = 1.0"

    tables = company.open()

    assert pq.read_table(quarantine_file(company)).equals(tables.quarantine)
    assert tables.quarantine.num_rows == 1


def test_a_row_is_set_aside_once_under_the_first_rule_it_breaks(company):
    small_company(company).write("tickets", "ticket_id,account_id,opened_at,severity\n,stranger,2025-02-30,9")
    company.extra = "[quarantine]\nlimit = 1.0"

    assert set_aside(company.open()) == [("tickets", 1, "required")]


def test_the_rows_of_an_account_that_was_set_aside_are_of_an_unknown_account(company):
    company.write("accounts", "account_id,started_at\na,2024-01-01\nb,soon")
    company.write("contracts", "account_id,start_at,mrr\na,2024-01-01,1\nb,2024-01-01,1")
    company.extra = "[quarantine]\nlimit = 0.5"

    assert set_aside(company.open()) == [("accounts", 2, "type"), ("contracts", 2, "unknown_account")]


def use_with_bad_rows(bad, rows):
    good = ["a0,2025-02-01,1"] * (rows - bad)
    return "\n".join(["account_id,event_at,quantity", *good, *["a0,2025-02-01,lots"] * bad])


def test_as_many_bad_rows_as_the_limit_allows_pass(company):
    small_company(company).write("usage", use_with_bad_rows(1, 20))

    assert len(set_aside(company.open())) == 1


def test_more_bad_rows_than_the_limit_stop_the_run_with_the_rule(company):
    small_company(company).write("usage", use_with_bad_rows(2, 39))

    with pytest.raises(
        TooManyBadRows,
        match=r"'usage' may have at most 5% rows set aside; found 2 of 39, most of them by rule 'type' "
        r"\(row 38: quantity must be a number, found lots\)",
    ) as refusal:
        company.open()

    assert (refusal.value.table, refusal.value.rule, refusal.value.exit_code) == ("usage", "type", 65)


def test_rows_of_unknown_accounts_count_towards_the_limit(company):
    small_company(company).write("usage", "account_id,event_at\na0,2025-02-01\nstranger,2025-02-01")

    with pytest.raises(TooManyBadRows, match="1 of 2, most of them by rule 'unknown_account'"):
        company.open()


def test_a_table_may_have_a_limit_of_its_own(company):
    small_company(company).write("usage", use_with_bad_rows(2, 4))
    company.map("usage", 'path = "usage.csv"\nlimit = 0.5')

    assert len(set_aside(company.open())) == 2


def test_a_run_that_stops_leaves_the_quarantine_as_it_was(company):
    small_company(company).write("usage", use_with_bad_rows(1, 20))
    company.open()
    before = quarantine_file(company).read_bytes()
    company.write("usage", use_with_bad_rows(10, 20))

    with pytest.raises(TooManyBadRows, match="rule 'type'"):
        company.open()

    assert quarantine_file(company).read_bytes() == before
    assert sorted(path.name for path in quarantine_file(company).parent.iterdir()) == STATE_FILES


def test_a_mended_row_is_released_and_the_others_keep_their_first_day(company):
    small_company(company).write("usage", "account_id,event_at\na0,2025-02-01\na0,soon\na0,later\na0,2025-02-02")
    company.extra = "[quarantine]\nlimit = 1.0"
    open_tables(company.settings(), now=FIRST_RUN)
    company.write("usage", "account_id,event_at\na0,2025-02-01\na0,2025-02-03\na0,later\na0,never")

    tables = open_tables(company.settings(), now=SECOND_RUN)

    found = {row["row_number"]: row["first_seen"] for row in tables.quarantine.to_pylist()}
    assert found == {3: FIRST_RUN, 4: SECOND_RUN}
    assert tables.loaded["usage"].kept == 2


def test_mended_removed_and_remaining_rows_of_the_last_quarantine_are_counted(company):
    small_company(company).write("usage", "account_id,event_at\na0,2025-02-01\na0,soon\na0,later\na0,never")
    company.extra = "[quarantine]\nlimit = 1.0"
    open_tables(company.settings(), now=FIRST_RUN)
    company.write("usage", "account_id,event_at\na0,2025-02-01\na0,2025-02-03\na0,later")

    replay = open_tables(company.settings(), now=SECOND_RUN).replay

    assert (replay.replayed, replay.removed) == ({"usage": 1}, {"usage": 1})
    assert (replay.remaining, replay.remaining_since) == (1, FIRST_RUN)


def test_a_row_comes_back_when_the_account_that_it_lacked_is_there(company):
    small_company(company).write("usage", "account_id,event_at\na0,2025-02-01\nlate,2025-02-01")
    company.extra = "[quarantine]\nlimit = 1.0"
    open_tables(company.settings(), now=FIRST_RUN)
    company.write("accounts", (company.folder / "accounts.csv").read_text() + "late,2024-01-01")

    tables = open_tables(company.settings(), now=SECOND_RUN)

    assert tables.replay.as_dict() == {"replayed": {"usage": 1}, "removed": {}, "remaining": 0, "remaining_since": None}
    assert tables.loaded["usage"].kept == 2


def test_the_quarantine_is_empty_once_everything_is_mended(company):
    small_company(company).write("usage", use_with_bad_rows(1, 20))
    company.open()
    company.write("usage", use_with_bad_rows(0, 20))
    company.open()

    assert pq.read_table(quarantine_file(company)).num_rows == 0


def test_ids_that_look_like_nothing_or_like_numbers_survive_unchanged(company):
    ids = ["001", "1", "1.0", "1e5", "N/A", "NA", "NULL", "None", "\\N", "false", "nan", "null"]
    company.write("accounts", "\n".join(["account_id,started_at", *(f"{id_},2024-01-01" for id_ in ids)]))
    company.write("contracts", "\n".join(["account_id,start_at,mrr", *(f"{id_},2024-01-01,1" for id_ in ids)]))
    company.write("usage", "\n".join(["account_id,user_id,event_at", *(f"{id_},{id_},2025-02-28" for id_ in ids)]))

    tables = company.open()
    rows = feature_table(tables, [AS_OF], LabelSettings()).select(["account_id", "active_users_7d"]).to_pylist()

    assert tables.quarantine.num_rows == 0
    assert rows == [{"account_id": id_, "active_users_7d": 1.0} for id_ in sorted(ids)]


def test_other_words_for_a_value_are_mapped_before_the_rules(company):
    small_company(company).write("surveys", "account_id,kind,score,responded_at\na0,Promoter Score,9,2025-02-01")
    company.map("surveys", 'path = "surveys.csv"\nvalues = { kind = { "Promoter Score" = "nps" } }')

    assert company.open()["surveys"].kind.to_pyarrow().to_pylist() == ["nps"]


ROWS = 1_000_000 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 20_000
POISON = {
    "empty account": (("", "2025-02-01", "1", "login"), "required"),
    "no day of the calendar": (("a0", "2025-02-30", "1", "login"), "type"),
    "words for a time": (("a0", "yesterday", "1", "login"), "type"),
    "a year of two digits": (("a0", "25-02-01", "1", "login"), "type"),
    "words for a number": (("a0", "2025-02-01", "lots", "login"), "type"),
    "an infinite number": (("a0", "2025-02-01", "inf", "login"), "type"),
    "below its range": (("a0", "2025-02-01", "-1", "login"), "range"),
    "above its range": (("a0", "2025-02-01", "1e12", "login"), "range"),
    "unknown value": (("a0", "2025-02-01", "1", "teleport"), "enum"),
    "unknown account": (("nobody", "2025-02-01", "1", "login"), "unknown_account"),
}


def write_poisoned(company, kinds, share):
    """Usage of which `share` is bad, spread over the file by chance; returns rule by row number."""
    random = Random(7)
    spoilt = set(random.sample(range(1, ROWS + 1), round(ROWS * share)))
    truth = {}
    with (company.folder / "usage.csv").open("w") as file:
        file.write("account_id,event_at,quantity,kind\n")
        for row in range(1, ROWS + 1):
            values = (f"a{row % 10}", f"2025-02-{row % 28 + 1:02d}", str(row % 50), "action")
            if row in spoilt:
                values, truth[row] = POISON[random.choice(kinds)]
            file.write(",".join(values) + "\n")
    company.map("usage", 'path = "usage.csv"')
    return truth


def test_of_a_poisoned_file_exactly_the_bad_rows_are_set_aside(company):
    truth = write_poisoned(small_company(company), list(POISON), 0.01)

    tables = company.open()

    found = tables.quarantine.to_pylist()
    assert {row["row_number"]: row["rule"] for row in found} == truth
    assert len(found) == len(truth) == ROWS // 100
    assert {(row["table"], row["source"]) for row in found} == {("usage", "usage.csv")}
    assert tables.loaded["usage"].rows == ROWS == tables.loaded["usage"].kept + len(found)
    counted = tables["account_days"].events.sum().to_pyarrow().as_py()
    assert counted == ROWS - len(truth)


@pytest.mark.parametrize("kind", POISON)
def test_more_than_a_twentieth_of_any_poison_stops_the_run(company, kind):
    write_poisoned(small_company(company), [kind], 0.0505)

    refused(company, TooManyBadRows, f"'usage' may have at most 5% rows set aside; .* by rule '{POISON[kind][1]}'")


def refused(company, error, match):
    """The refusal of `company`, after which no quarantine was written."""
    with pytest.raises(error, match=match) as refusal:
        company.open()
    assert not quarantine_file(company).exists()
    assert "\n" not in str(refusal.value)
    return refusal.value


def test_a_missing_column_is_named_with_its_table_and_the_nearest_found(company):
    small_company(company).write("tickets", "ticket_id,acount_id,opened_at\nt,a0,2025-02-01")

    error = refused(
        company, MissingColumns, r"'tickets' must have columns .*Did you mean 'acount_id' for 'account_id'\?"
    )

    assert (error.table, error.missing, error.exit_code) == ("tickets", ["account_id"], 65)
    assert "Map them in [tables.tickets] of tenure.toml." in str(error)


def test_all_missing_columns_are_named_at_once(company):
    small_company(company).write("surveys", "who,what\na0,nps")

    assert refused(company, MissingColumns, "'surveys'").missing == ["account_id", "kind", "sent_at or responded_at"]


def test_a_missing_file_is_named_as_the_settings_name_it(company):
    small_company(company).map("tickets", 'path = "export/tickets.csv"')

    error = refused(company, MissingSource, r"'tickets' must be read from 'export/tickets\.csv'; found nothing there")

    assert error.exit_code == 65


def test_accounts_without_a_row_are_refused(company):
    small_company(company).write("accounts", "account_id,started_at")

    assert refused(company, EmptyTable, "'accounts' must have at least one row .*found no rows").exit_code == 65


def test_accounts_of_which_every_row_is_bad_are_refused(company):
    small_company(company).write("accounts", "account_id,started_at\na,soon\nb,later")

    refused(company, EmptyTable, "found all 2 rows were set aside")


def test_another_table_may_be_empty(company):
    small_company(company).write("tickets", "ticket_id,account_id,opened_at")

    assert company.open().loaded["tickets"].rows == 0


def test_a_table_that_the_contract_does_not_know_is_refused_with_a_way_on(company):
    small_company(company).map("ticket", 'path = "tickets.csv"')

    error = refused(company, ConfigurationError, r"; found 'ticket'\..*write \[sources\.ticket\]")

    assert error.exit_code == 78


def test_a_mapped_column_that_the_contract_does_not_know_is_refused(company):
    small_company(company).map("usage", 'path = "usage.csv"\ncolumns = { event_time = "event_at" }')

    refused(company, ConfigurationError, r"\[tables\.usage\] columns and values must name .*found \['event_time'\]")


def test_a_mapping_to_a_column_that_the_source_lacks_names_both(company):
    small_company(company).map("usage", 'path = "usage.csv"\ncolumns = { minutes = "mintues" }')

    refused(company, DataError, r"'usage' must be readable as \[tables\.usage\].*\"mintues\" not found")


def test_a_query_that_does_not_run_is_refused(company):
    small_company(company).map("usage", 'query = "selec 1"')

    assert refused(company, DataError, r"'usage' must be readable .*syntax error").exit_code == 65


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("csv", b"account_id,event_at\na0,2025-02-01\na\xff\xfe0,2025-02-01\n"),
        ("csv", b"account_id,event_at\n" + b"a0,2025-02-01\n" * 25_000 + b"a0,2025-02-01,more\n"),
        ("csv", b""),
        ("parquet", b"account_id,event_at\na0,2025-02-01\n"),
    ],
    ids=["not text", "too many fields", "empty", "not parquet"],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_table(company, suffix, content):
    small_company(company).map("usage", f'path = "broken.{suffix}"')
    (company.folder / f"broken.{suffix}").write_bytes(content)

    assert refused(company, DataError, "Table 'usage' must").exit_code == 65


def test_a_file_of_another_kind_is_refused(company):
    small_company(company).map("usage", 'path = "usage.xlsx"')
    (company.folder / "usage.xlsx").write_bytes(b"PK")

    refused(
        company,
        ConfigurationError,
        r"path must end in \.csv, \.tsv, \.csv\.gz, \.parquet or \.duckdb; found 'usage\.xlsx'",
    )


def test_without_a_source_that_says_who_left_the_run_is_refused(company):
    company.write("accounts", "account_id,started_at\na,2024-01-01")

    refused(company, DataError, "One source must say who left: table 'contracts', or a column 'churned_at'")
