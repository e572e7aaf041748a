"""The commands about the service: run it, say who may ask, and look after what is kept.

Heavy libraries are imported inside the command that needs them, so that `tenure --help` answers at once.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Literal

import click

from features.command_line import DAY, OpenProject, Shown, clock, company_command, day, now_utc


@company_command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, help="Processes that answer.")
def serve_command(project: OpenProject, host: str, port: int, workers: int) -> Shown:
    """Serve the champion and the published lists over HTTP, behind the guard."""
    from serving.server import serve

    serve(project.settings, host=host, port=port, workers=workers, now=now_utc())
    return {"stopped": True}, lambda: "stopped"


@company_command("bento")
def bento_command(project: OpenProject) -> Shown:
    """Build a bento with the champion inside, which `bentoml serve` runs without the registry."""
    from serving.bento import build

    made = build(project.settings)
    return made.as_dict(), made.text


@click.group("token")
def token_group() -> None:
    """Bearer tokens for `tenure serve`."""


@company_command("create", token_group)
@click.option("--role", type=click.Choice(["viewer", "csm", "manager", "admin", "ds"]), required=True)
@click.option("--csm", help="Whose book the token sees; for the role csm.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="Days until it expires.")
def token_create_command(project: OpenProject, role: str, csm: str | None, days: int) -> Shown:
    """Make a token; its secret is shown once."""
    from serving.access import token_store

    if role == "csm" and csm is None:
        raise click.UsageError("A token of the role csm needs --csm NAME; without a book it would see nothing.")
    token, secret = token_store(project.settings).create(role=role, csm_id=csm, days=days, now=now_utc())
    return {"id": token.id, "role": role, "expires_at": token.expires_at, "secret": secret}, lambda: secret


@company_command("list", token_group)
def token_list_command(project: OpenProject) -> Shown:
    """Tokens that were made, without their secrets."""
    from features.text_tables import facts_table
    from serving.access import token_store

    columns = ("id", "role", "csm_id", "created_at", "expires_at", "revoked_at")
    rows = [{name: getattr(token, name) for name in columns} for token in token_store(project.settings).list()]
    return {"tokens": rows}, lambda: facts_table(rows, columns)


@company_command("revoke", token_group)
@click.argument("token_id")
def token_revoke_command(project: OpenProject, token_id: str) -> Shown:
    """Refuse a token from now on."""
    from serving.access import token_store

    token_store(project.settings).revoke(token_id, now=now_utc())
    return {"revoked": token_id}, lambda: f"{token_id} is refused from now on."


@company_command("cover")
@click.argument("csm")
@click.option("--by", "covered_by", required=True, help="Who sees the book of CSM meanwhile.")
@click.option("--from", "first", type=DAY, required=True, help="First day …")
@click.option("--to", "last", type=DAY, required=True, help="… and last day, included.")
@click.option("--who", envvar="USER", default="tenure", help="Who says so; for the audit.")
def cover_command(
    project: OpenProject, *, csm: str, covered_by: str, first: datetime, last: datetime, who: str
) -> Shown:
    """Let a CSM see the book of another for some days: holidays, illness."""
    from serving.access import Cover, cover
    from serving.ledger import open_ledger

    given = Cover(csm_id=csm, covered_by=covered_by, first=first.date(), last=last.date())
    cover(open_ledger(project.settings), given, now=now_utc(), by=who)
    facts = {"csm": csm, "by": covered_by, "from": day(first), "to": day(last)}
    return facts, lambda: f"{covered_by} sees the book of {csm} from {first:%Y-%m-%d} to {last:%Y-%m-%d}."


@click.group("ledger")
def ledger_group() -> None:
    """The ledger: runs, lists, tokens, audit."""


@company_command("backup", ledger_group)
@click.argument("file", type=click.Path(path_type=Path))
def ledger_backup_command(project: OpenProject, file: Path) -> Shown:
    """Copy an SQLite ledger into FILE while others go on writing; a PostgreSQL one is backed up by pg_dump."""
    from serving.ledger import open_ledger

    open_ledger(project.settings).backup(file)
    return {"file": str(file)}, lambda: f"The ledger is copied to {file}. To restore it, put it in its place."


@company_command("audit", ledger_group)
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="So many lines, newest first.")
def ledger_audit_command(project: OpenProject, last: int) -> Shown:
    """Who did what; the database refuses to change these lines."""
    from features.text_tables import facts_table
    from serving.ledger import audit_lines, open_ledger

    rows = audit_lines(open_ledger(project.settings), last=last)
    return {"audit": rows}, lambda: facts_table(rows, ("number", "at", "by", "action", "subject", "facts"))


@company_command("erase")
@click.argument("name", metavar="ID")
@click.option("--kind", type=click.Choice(["account", "contact"]), help="Which of the two ID is, where it is both.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--by", envvar="USER", default="tenure", help="Who says so; for the audit.")
def erase_command(
    project: OpenProject, *, name: str, kind: Literal["account", "contact"] | None, yes: bool, by: str
) -> Shown:
    """Erase an account or a contact from all that tenure keeps, and leave it out from now on; the sources stay."""
    from serving.erasure import erase

    if not yes:
        _confirm(f"Erase {name} from all that tenure keeps? It cannot be taken back.")
    done = erase(project.settings, name, kind, now=clock(), by=by)
    return done.as_dict(), done.text


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody is there to be asked; say --yes.")
    click.confirm(question, abort=True, err=True)


COMMANDS = (serve_command, bento_command, token_group, cover_command, ledger_group, erase_command)
"""What `tenure` takes from here."""
