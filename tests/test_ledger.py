"""The ledger, in a file and on a real PostgreSQL: made, upgraded, backed up, never half-written or rewritten."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DatabaseError

from features.errors import CannotWrite, ConfigurationError, DependencyDown, Misuse
from features.service_settings import LedgerSettings
from serving.ledger import FILE, HEAD, MIGRATIONS, Ledger, open_ledger, record
from serving.ledger.tables import account_reasons, audit, metadata, risk_lists, runs

NOW = datetime(2026, 3, 1, 4, 0)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request, tmp_path):
    """An empty ledger of either kind."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    ledger = Ledger(url, tmp_path)
    yield ledger
    ledger.close()


def opened_again(folder, request):
    """The same ledger, as another process opens it."""
    return Ledger(None if (folder / FILE).exists() else request.getfixturevalue("postgres").url, folder)


def test_a_missing_ledger_is_made_as_its_tables_are_declared(ledger):
    with ledger.reading() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)

    assert ledger.version == HEAD
    assert differences == []


def test_the_last_migration_is_the_one_that_the_code_expects():
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_a_ledger_of_the_version_before_keeps_what_it_held(ledger, tmp_path, request):
    with ledger.writing() as connection:
        head = {"as_of": "2026-03-01", "list_id": "a", "model_version": "1", "model_artefact": "f", "horizon_days": 90}
        connection.execute(insert(risk_lists), {**head, "heading": "Accounts at risk", "counts": {}})
        reason = {"account_id": "a", "place": 1, "direction": "up", "reason_group": "usage", "feature": "events_28d"}
        said = {"contribution": 1.0, "is_actionable": True, "sentence": "Events: 3"}
        connection.execute(insert(account_reasons), {"as_of": "2026-03-01", **reason, **said})
        for column in ("percentile", "is_mixed"):
            connection.execute(text(f"alter table account_reasons drop column {column}"))
        connection.execute(text("update alembic_version set version_num = '0001'"))
    for left in (f"ledger.before-{HEAD}.db", f"ledger.before-{HEAD}.half"):  # By an upgrade that was stopped.
        (tmp_path / left).write_bytes(b"half a copy")
    again = opened_again(tmp_path, request)

    assert [path.name for path in again.copies()] in ([], [f"ledger.before-{HEAD}.db"])
    assert all(sqlite3.connect(path).execute("select list_id from risk_lists").fetchall() for path in again.copies())
    with again.reading() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        found = connection.execute(select(account_reasons)).mappings().all()
    assert (again.version, differences) == (HEAD, [])
    assert [(row["sentence"], row["percentile"], row["is_mixed"]) for row in found] == [("Events: 3", None, None)]
    again.close()


def test_a_ledger_is_opened_again_as_it_was(ledger, tmp_path, request):
    with ledger.writing() as connection:
        connection.execute(insert(runs), {"run_id": "r1", "command": "run", "started_at": NOW})
    again = opened_again(tmp_path, request)

    with again.reading() as connection:
        assert connection.execute(select(runs.c.run_id)).scalars().all() == ["r1"]
    again.close()


def test_a_transaction_that_fails_leaves_nothing(ledger):
    def half():
        with ledger.writing() as connection:
            record(connection, at=NOW, by="me", action="begun")
            raise RuntimeError("the lights went out")

    with pytest.raises(RuntimeError, match="lights"):
        half()
    with ledger.reading() as connection:
        assert connection.execute(select(audit)).all() == []


@pytest.mark.parametrize(
    "statement", ["update audit set action = 'nothing'", "delete from audit"], ids=["changed", "deleted"]
)
def test_the_database_itself_refuses_to_rewrite_the_audit(ledger, statement):
    with ledger.writing() as connection:
        record(connection, at=NOW, by="me", action="did", subject="x", why="y")

    with (
        pytest.raises((DatabaseError, CannotWrite, DependencyDown), match="append-only"),
        ledger.writing() as connection,
    ):
        connection.execute(text(statement))
    with ledger.reading() as connection:
        kept = connection.execute(select(audit)).one()
    assert (kept.action, kept.facts) == ("did", {"why": "y"})


def test_a_backup_taken_while_others_write_is_whole_and_opens(tmp_path):
    ledger = Ledger(None, tmp_path / "state")
    with ledger.writing() as connection:
        record(connection, at=NOW, by="me", action="before")
    ledger.backup(tmp_path / "copy.db")
    with ledger.writing() as connection:
        record(connection, at=NOW, by="me", action="after")
    restored = tmp_path / "restored"
    restored.mkdir()
    (tmp_path / "copy.db").rename(restored / FILE)

    with Ledger(None, restored).reading() as connection:
        assert connection.execute(select(audit.c.action)).scalars().all() == ["before"]


def test_a_backup_overwrites_nothing(tmp_path):
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(Misuse, match="must not overwrite anything"):
        Ledger(None, tmp_path / "state").backup(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_a_ledger_of_a_newer_tenure_is_refused_and_kept(tmp_path):
    Ledger(None, tmp_path)
    with sqlite3.connect(tmp_path / FILE) as file:
        file.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(ConfigurationError, match="found 9999"):
        Ledger(None, tmp_path)


def test_a_file_that_is_no_ledger_is_refused_and_kept(tmp_path):
    (tmp_path / FILE).write_bytes(b"no database at all, just some text that is long enough to be looked at" * 20)
    with pytest.raises(ConfigurationError, match="must be a ledger that tenure wrote"):
        Ledger(None, tmp_path)
    assert (tmp_path / FILE).read_bytes().startswith(b"no database")


def test_a_folder_that_cannot_be_written_is_said_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=r"Set \[state\] dir"):
        Ledger(None, tmp_path / "file" / "state")


def test_a_server_that_is_gone_is_named_without_its_password_and_found_again(postgres, tmp_path):
    ledger = Ledger(postgres.url, tmp_path)
    postgres.stop()
    with pytest.raises(DependencyDown, match="must answer") as down, ledger.writing() as connection:
        record(connection, at=NOW, by="me", action="lost")
    assert postgres.password not in str(down.value)
    postgres.start()
    with ledger.writing() as connection:
        record(connection, at=NOW, by="me", action="kept")
    with ledger.reading() as connection:
        assert connection.execute(select(audit.c.action)).scalars().all() == ["kept"]
    ledger.close()


def test_the_url_of_the_settings_is_used(company, postgres):
    company.write("accounts", "account_id\na1")
    settings = replace(company.settings(), ledger=LedgerSettings(url=postgres.url))
    ledger = open_ledger(settings)
    assert ledger.version == HEAD
    ledger.close()
    assert not Path(settings.state_dir, FILE).exists()
