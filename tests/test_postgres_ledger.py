"""A company whose ledger is a real PostgreSQL: lists in file and database together, and nothing of who was erased."""

from __future__ import annotations

import json
import os
import re
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from features.settings import read_settings
from serving.ledger import audit_lines, open_ledger
from serving.ledger.lists import View, list_days, list_rows, other_rows
from serving.ledger.tables import metadata
from serving.published import published, read_list
from tests.commands import done, run

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

DAY, NEXT, LATER = "2025-05-01", "2025-05-02", "2025-05-03"
ERASED = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 1


@pytest.fixture
def company(trained_world, tmp_path, postgres):
    config = shutil.copytree(trained_world, tmp_path / "world") / "tenure.toml"
    config.write_text(config.read_text() + f'\n[ledger]\nurl = "{postgres.url}"\n')
    (config.parent / ".tenure" / "ledger.db").unlink()
    yield config
    open_ledger(read_settings(config)).close()


@pytest.mark.long("four lists")
def test_a_list_is_in_postgresql_as_in_its_file_or_in_neither(company, postgres):
    settings = read_settings(company)
    done(company, "score", f"--as-of={DAY}")
    listed, place = read_list(published(settings)), published(settings)
    postgres.stop()
    down = run(company, "score", f"--as-of={NEXT}")
    kept = published(settings)
    postgres.start()
    done(company, "score", f"--as-of={NEXT}")
    done(company, "score", f"--as-of={NEXT}")

    with open_ledger(settings).reading() as connection:
        rows, total = list_rows(connection, DAY, True, View(limit=1000))
        others, days = other_rows(connection, DAY, True), list_days(connection)
    assert (rows, total) == (listed["rows"], len(listed["rows"]))
    assert others == {name: listed[name] for name in others}
    assert (down.exit_code, kept) == (69, place)
    assert "PostgreSQL must answer" in down.stderr
    assert postgres.password not in down.stderr
    assert days == [NEXT, DAY], "each day once"


def naming(text, ids):
    return {each for each in ids if re.search(rf"(?<![\w-]){re.escape(each)}(?![\w-])", text)}


def in_database(settings, ids):
    """Those of the ids that any table of the ledger names."""
    with open_ledger(settings).reading() as connection:
        rows = [row for table in metadata.sorted_tables for row in connection.execute(select(table)).all()]
    return naming(repr(rows), ids)


def in_files(state, ids):
    """Those of the ids that any file of the state names."""
    found = set()
    for path in (each for each in state.rglob("*") if each.is_file()):
        is_table = path.suffix == ".parquet"
        text = pq.read_table(path).to_pandas().to_csv() if is_table else path.read_bytes().decode("latin-1")
        found |= naming(text, ids)
    return found


@pytest.mark.long("forty erasures")
def test_nothing_in_postgresql_or_beside_it_names_who_was_erased(company):
    settings = read_settings(company)
    done(company, "run", f"--as-of={DAY}")
    accounts = [row["account_id"] for row in read_list(published(settings))["rows"]][:ERASED]
    known = pd.read_parquet(company.parent / "contacts.parquet")
    contacts = list(known[~known.account_id.isin(accounts)].contact_id.drop_duplicates()[:ERASED])
    before = in_database(settings, accounts), in_files(settings.state_dir, [*accounts, *contacts])
    for kind, ids in (("account", accounts), ("contact", contacts)):
        for each in ids:
            done(company, "erase", each, f"--kind={kind}", "--yes", "--by=me")
    at_once = in_database(settings, accounts) | in_files(settings.state_dir, [*accounts, *contacts])
    told = json.loads(done(company, "run", f"--as-of={LATER}", "--json"))
    after = in_database(settings, [*accounts, *contacts]) | in_files(settings.state_dir, [*accounts, *contacts])
    lines = [line for line in audit_lines(open_ledger(settings), last=1000) if line["action"] == "erased"]

    assert before[0] == set(accounts)
    assert before[1] >= set(accounts)
    assert (at_once, after) == (set(), set())
    assert told
    assert len(lines) == len({line["subject"] for line in lines}) == 2 * ERASED
