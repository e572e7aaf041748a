"""What is erased is in nothing that tenure keeps, stays out though the source delivers it, and is in the audit."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sqlite3
from datetime import datetime

import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.corrections import append_line
from features.erased import read_register
from features.history import snapshot
from features.settings import read_settings
from features.tables import open_tables
from serving import erasure
from serving.ledger import audit_lines, open_ledger
from serving.ledger.lists import View, list_head, list_rows, other_rows
from serving.published import published, read_list, verified
from serving.scoring import features_at
from tests.commands import done, run

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

AS_OF = datetime(2025, 5, 1)
FIRST, DAY, LATER = "2025-04-15", "2025-05-01", "2025-05-02"
ACCOUNT = "Canary GmbH & Co"
CONTACT = "canary.person@example.com"
OLDER = "ledger.before-0000.db"


def said_in(state):
    """File → all text in it: bytes as they are, and the values of Parquet, which lie there compressed."""
    told = {}
    for path in state.rglob("*"):
        if path.is_file():
            told[path] = str(path.name).encode() + path.read_bytes()
            if path.suffix == ".parquet":
                told[path] += pq.read_table(path).to_pandas().to_csv().encode()
    return told


def holding(state, *canaries):
    """Files that hold one of the canaries."""
    return [path for path, text in said_in(state).items() if any(word.encode() in text for word in canaries)]


def plant(folder):
    """Give one scored account and one contact of another ids and names that stand nowhere else."""
    accounts = pd.read_parquet(folder / "accounts.parquet")
    listed = json.loads((folder / "published.json").read_text())["rows"]
    contacts = pd.read_parquet(folder / "contacts.parquet")
    users = pd.read_parquet(folder / "usage.parquet", columns=["user_id"]).user_id
    surveys = pd.read_parquet(folder / "surveys.parquet")
    answering = surveys[surveys.responded_at.notna()].contact_id
    old = listed[3]["account_id"]
    busy = set(users) & set(answering) & set(contacts.contact_id)
    others = {row["account_id"] for row in listed[4:]}
    person = next(one for one in sorted(busy) if one.rsplit("-u", 1)[0] in others)
    child = listed[5]["account_id"]
    for path in folder.glob("*.parquet"):
        rows = pd.read_parquet(path)
        if path.stem == "accounts":
            rows.loc[rows.account_id == old, "name"] = "Canary Trading"
            rows["parent_id"] = rows.parent_id.astype(object)
            rows.loc[rows.account_id == child, "parent_id"] = old
        if path.stem == "contacts":
            rows = rows.drop(columns="known_at")  # Overwritten, and so copied every night.
            rows["name"] = [f"Person {number}" for number in range(len(rows))]
            rows.loc[rows.contact_id == person, ["name", "role"]] = ["Canary Person", "canary role"]
        if path.stem == "surveys":
            rows["comment"] = "fine"
            rows.loc[rows.contact_id == person, "comment"] = "Canary words: too Expensive, a RIVAL calls"
        for column in set(rows) & {"account_id", "parent_id", "contact_id", "user_id"}:
            rows[column] = rows[column].replace({old: ACCOUNT, person: CONTACT})
        rows.to_parquet(path, index=False)
    assert (accounts.account_id == old).sum() == 1
    return person.rsplit("-u", 1)[0]


@pytest.fixture(scope="module")
def planted(trained_world, tmp_path_factory):
    """A company with lists of two days, nightly copies and a correction, in which the canaries stand."""
    folder = tmp_path_factory.mktemp("erasure") / "world"
    shutil.copytree(trained_world, folder)
    config = folder / "tenure.toml"
    shutil.copy(published(read_settings(config), DAY) / "list.json", folder / "published.json")
    owner = plant(folder)
    shutil.rmtree(folder / ".tenure" / "lists")
    done(config, "check", "--accept")
    done(config, "score", f"--as-of={FIRST}")
    done(config, "run", f"--as-of={DAY}")
    line = {"id": "c1", "account_id": ACCOUNT, "kind": "did_not_churn", "at": "2024-03-01", "known_at": "2024-03-02"}
    append_line(read_settings(config), line)
    open_ledger(read_settings(config)).backup(folder / ".tenure" / OLDER)  # As an upgrade leaves it.
    (folder / "owner").write_text(owner)
    return config


@pytest.fixture
def company(planted, tmp_path):
    return shutil.copytree(planted.parent, tmp_path / "world") / "tenure.toml"


@pytest.fixture(scope="module")
def without_account(planted, tmp_path_factory):
    config = shutil.copytree(planted.parent, tmp_path_factory.mktemp("erased") / "world") / "tenure.toml"
    before = read_list(published(read_settings(config), DAY))
    facts = json.loads(done(config, "erase", ACCOUNT, "--yes", "--by=me", "--json"))
    return config, before, facts


def test_nothing_kept_names_an_erased_account_and_no_later_run_brings_it_back(without_account, planted):
    config, _, facts = without_account
    state, canaries = config.parent / ".tenure", (ACCOUNT, "Canary Trading")
    before = holding(planted.parent / ".tenure", *canaries)
    at_once = holding(state, *canaries)
    done(config, "run", f"--as-of={LATER}")

    kinds = {path.relative_to(planted.parent / ".tenure").parts[0] for path in before}
    assert kinds >= {"lists", "history", "rollup", "ledger.db", "corrections.jsonl", OLDER}
    assert at_once == []
    assert holding(state, *canaries) == []
    assert facts["sources"]["usage"] > 0
    assert "unknown_account" not in set(pq.read_table(state / "quarantine.parquet")["rule"].to_pylist())
    assert ACCOUNT in set(pd.read_parquet(config.parent / "accounts.parquet").account_id)


def test_the_other_rows_stay_as_published_and_the_list_says_who_is_missing(without_account):
    config, before, _ = without_account
    settings = read_settings(config)
    after = read_list(published(settings, DAY))
    kept = [row for row in before["rows"] if row["account_id"] != ACCOUNT]
    named = [{**row, "parent_id": None} if row["parent_id"] == ACCOUNT else row for row in kept]
    found = [
        {**row, "parent_id": None} if str(row["parent_id"]).startswith("erased-") else row for row in after["rows"]
    ]

    assert len(kept) == len(before["rows"]) - 1
    assert found == named
    assert after["counts"] == {**before["counts"], "accounts": before["counts"]["accounts"] - 1,
                               "scored": before["counts"]["scored"] - 1, "erased": 1,
                               "listed": sum(row["is_listed"] for row in kept)}  # fmt: skip
    assert verified(published(settings, DAY), "features.parquet")
    assert after["before"]["list_id"] == published(settings, FIRST).name != before["before"]["list_id"]


def test_the_ledger_still_tells_what_the_list_tells(without_account):
    settings = read_settings(without_account[0])
    listed = read_list(published(settings, DAY))
    with open_ledger(settings).reading() as connection:
        head = list_head(connection, DAY)
        rows, total = list_rows(connection, DAY, True, View(limit=1000))
        others = other_rows(connection, DAY, True)

    assert head == {
        **{name: listed[name] for name in head if name != "list_id"},
        "list_id": published(settings, DAY).name,
    }
    assert (rows, total) == (listed["rows"], len(listed["rows"]))
    assert others == {name: listed[name] for name in others}


def test_replay_says_that_rows_were_erased(without_account):
    config = without_account[0]
    told = json.loads(done(config, "replay", f"--as-of={DAY}", "--json"))
    said = done(config, "replay", f"--as-of={DAY}")

    assert told["erased"] == 1
    assert f"Of the list of {DAY} 1 accounts were erased since" in said


def test_each_erasure_is_one_line_of_the_audit_without_the_id(without_account):
    config, _, facts = without_account
    again = json.loads(done(config, "erase", ACCOUNT, "--yes", "--by=me", "--json"))
    lines = [line for line in audit_lines(open_ledger(read_settings(config)), last=99) if line["action"] == "erased"]

    assert not again["is_new"]
    assert [(line["subject"], line["by"]) for line in lines] == [(facts["mark"], "me")]
    assert lines[0]["facts"] == {"kind": "account", "rows": facts["counts"]}
    assert facts["counts"]["lists"] == 2
    assert min(facts["counts"][place] for place in ("history", "rollup", "corrections")) > 0
    assert re.fullmatch("[0-9a-f]{64}", facts["mark"])


def copied_at(settings, now):
    """What a copy on a later day finds new, changed or gone."""
    tables = open_tables(settings, now=now)
    grades = {name: loaded.grade for name, loaded in tables.loaded.items()}
    return snapshot(tables.backend, settings, grades, now=now)


def test_a_person_is_erased_and_the_figures_of_the_account_stay_to_the_last_bit(company):
    settings = read_settings(company)
    state, canaries = company.parent / ".tenure", (CONTACT, "Canary Person", "canary role", "Canary words")
    before = features_at(open_tables(settings, now=AS_OF), settings, AS_OF)
    kept = holding(state, *canaries)
    facts = json.loads(done(company, "erase", CONTACT, "--yes", "--json"))
    at_once = holding(state, *canaries)
    after = features_at(open_tables(settings, now=AS_OF), settings, AS_OF)
    copied = copied_at(settings, datetime(2099, 1, 1))
    owner = before[before.account_id == (company.parent / "owner").read_text()].iloc[0]
    done(company, "replay", f"--as-of={DAY}")
    done(company, "run", f"--as-of={LATER}")

    assert {path.relative_to(state).parts[0] for path in kept} >= {"history", "rollup"}
    assert at_once == holding(state, *canaries) == []
    assert facts["kind"] == "contact"
    pd.testing.assert_frame_equal(after, before, check_exact=True)
    assert len(owner) > 100
    assert {table["copied"] for table in copied} == {"2099-01-01"}
    assert sum(table["new"] + table["changed"] + table["vanished"] for table in copied) == 0


class Killed(BaseException):
    """What a process that is killed does not catch."""


def killed_at(monkeypatch, call, settings):
    """Erase until so many files have reached the disk; what was done, None where it was killed before."""
    calls = iter(range(1, call))
    real = os.fsync

    def fsync(handle):
        if next(calls, None) is None:
            raise Killed
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        try:
            return erasure.erase(settings, ACCOUNT, None, now=AS_OF, by="me")
        except Killed:
            return None


def test_what_was_broken_off_brings_nothing_back_and_is_completed(company, monkeypatch):
    """Killed ever later, from just after the register is in force, until an attempt comes through."""
    settings, kills, finished = read_settings(company), 0, None
    while finished is None:
        finished = killed_at(monkeypatch, 3 + 3 * kills, settings)
        kills += finished is None
        assert read_register(settings.state_dir).find("account", ACCOUNT).is_done is (finished is not None)
    opened = open_tables(settings, now=AS_OF)["accounts"].account_id.to_pandas()
    lines = audit_lines(open_ledger(settings), last=99)

    assert kills >= 3
    assert ACCOUNT not in set(opened)
    assert finished.is_new
    assert holding(settings.state_dir, ACCOUNT) == []
    assert [line["action"] for line in lines if line["subject"] == finished.mark] == ["erased"]
    assert read_list(published(settings, DAY))["before"]["list_id"] == published(settings, FIRST).name
    assert len(list((settings.state_dir / "lists" / DAY).iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nobody", "--yes"), 65, "found nobody called 'nobody'"),
        ((CONTACT, "--kind=account", "--yes"), 65, "an account"),
        ((ACCOUNT,), 2, "say --yes"),
    ],
    ids=["unknown", "other kind", "not asked"],
)
def test_who_cannot_be_erased_is_refused_in_a_sentence(planted, arguments, code, said):
    refused = run(planted, "erase", *arguments)

    assert (refused.exit_code, said in refused.stderr) == (code, True), refused.stderr
    assert read_register(planted.parent / ".tenure").erasures == ()


def test_nothing_is_erased_while_a_run_holds_the_lock(planted):
    with (planted.parent / ".tenure" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(planted, "erase", ACCOUNT, "--yes").exit_code == 75


def test_without_its_key_the_register_stops_every_run(without_account, tmp_path):
    config = shutil.copytree(without_account[0].parent, tmp_path / "world") / "tenure.toml"
    (config.parent / ".tenure" / "erased" / "key").unlink()
    refused = run(config, "check")

    assert refused.exit_code == 78
    assert "they would come back from the sources" in refused.stderr


def test_the_ledger_file_is_sound_after_an_erasure(without_account):
    with sqlite3.connect(without_account[0].parent / ".tenure" / "ledger.db") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


TWINS = {
    "accounts": "account_id,name,churned_at\nboth,Acme,\na,Other,2025-02-01\n",
    "contacts": "contact_id,account_id,mail\nboth,a,x@example.com\n",
}


def test_an_id_that_is_both_must_say_which(make_company):
    company = make_company(TWINS)
    settings = company.settings()
    asked = run(settings.path, "erase", "both", "--yes")
    contact = json.loads(done(settings.path, "erase", "both", "--kind=contact", "--yes", "--json"))
    kept = company.open()

    assert (asked.exit_code, "--kind account or contact" in asked.stderr) == (2, True)
    assert contact["sources"] == {"contacts": 1}
    assert "both" in set(kept["accounts"].account_id.to_pandas())
    assert kept["contacts"].contact_id.to_pandas().str.startswith("erased-").all()


def test_rows_under_the_ids_of_another_system_are_left_out_too(make_company):
    company = make_company(
        {
            "accounts": "account_id,churned_at\na,\nb,2025-02-01\n",
            "identities": "account_id,source,source_id\na,desk,77\nb,desk,78\n",
            "tickets": "ticket_id,account_id,opened_at\n1,77,2025-01-01\n2,78,2025-01-02\n",
        }
    )
    company.map("tickets", 'path = "tickets.csv"\nids = "desk"')
    settings = company.settings()
    done(settings.path, "erase", "a", "--yes")
    opened = company.open()

    assert opened["tickets"].ticket_id.to_pandas().tolist() == ["2"]
    assert opened.quarantine.num_rows == 0


def test_a_short_id_is_renamed_where_it_is_said_and_not_in_a_date(make_company):
    company = make_company({"accounts": "account_id,churned_at\n15,\nb,2025-02-01\n"})
    settings = company.settings()
    said = {"id": "c1", "account_id": "b", "kind": "merged", "into_account_id": "15", "at": "2025-02-01"}
    append_line(settings, {**said, "known_at": "2025-02-02T08:15:00", "reason": "b became 15"})
    done(settings.path, "erase", "15", "--yes")
    kept = json.loads((settings.state_dir / "corrections.jsonl").read_text())

    assert kept["known_at"] == "2025-02-02T08:15:00"
    assert kept["into_account_id"].startswith("erased-")
    assert kept["reason"] == f"b became {kept['into_account_id']}"
