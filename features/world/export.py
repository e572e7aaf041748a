"""The tables that a generated company would export, from the columns of all its months."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from features.world.accounts import account_table, first_managers, manager_names
from features.world.billing import unpaid
from features.world.care import touch_table
from features.world.contracts import Book
from features.world.loads import Loads
from features.world.people import People, Roster, contact_table
from features.world.rows import Columns, Export, contract_table, instants, joined, survey_table, ticket_table
from features.world.state import Traits, account_ids
from features.world.success import DEALS, OUTAGE_CAUSES, STAGES, STEPS
from features.world.usage import CORE, MODULES, usage_table

Rows = Mapping[str, Columns]
"""Table and its columns."""
_PLAIN: dict[str, tuple[str, dict[str, tuple[str, ...]], str]] = {
    "milestones": ("event_at", {"step": STEPS}, ""),
    "incidents": ("started_at", {"cause": OUTAGE_CAUSES}, ""),
    "tasks": ("event_at", {}, "task_id tsk-{:05d}-{}"),
    "emails": ("event_at", {}, ""),
    "entitlements": ("event_at", {"feature": CORE, "module": MODULES}, ""),
    "opportunities": ("stage_entered_at", {"kind": DEALS, "stage": STAGES}, "opportunity_id opp-{:05d}-{}"),
    "goals": ("event_at", {}, "goal_id goal-{:05d}-{}"),
}
"""Tables without peculiarities: when a row happened, the texts, name and pattern of the id."""


@dataclass(frozen=True)
class Parties:
    """Who the tables tell of."""

    traits: Traits
    book: Book
    people: People


def export_tables(rows: Rows, parties: Parties, *, start: date, end: float, loads: Loads) -> dict[str, pa.Table]:
    """Every table at `end`, as the company would export it; times are naive UTC microseconds."""
    traits, book, people = parties.traits, parties.book, parties.people
    roster = Roster(traits)
    export = Export(pa.array(account_ids(len(traits.users))), roster.names(), start, end)
    first = first_managers(len(traits.users), loads.seed)
    names = manager_names(first)
    known = np.flatnonzero(book.number > 0)
    accounts = account_table(traits, loads.seed, people.manager, names, MODULES).take(pa.array(known))
    started = instants(book.first_start[known], start)
    tables = {
        "accounts": accounts.append_column("started_at", started),
        "contracts": contract_table(joined(book.versions), export),
        "usage": usage_table(dict(rows["usage"]), export, loads),
        "tickets": ticket_table(_loaded(rows["tickets"], "tickets", "opened_at", loads), export),
        "surveys": survey_table(_surveys(rows["surveys"], roster, loads), export),
        "invoices": export.table(
            unpaid(dict(rows["invoices"]), joined(book.unpaid), loads), key="invoice_id inv-{:05d}-{:03d}"
        ),
        "touches": touch_table(dict(rows["touches"]), export, loads, names),
        "contacts": _contacts(people, roster, book, export, loads),
        "assignments": _assignments(people, book, export, loads, names),
    }
    for name, (at, texts, key) in _PLAIN.items():
        tables[name] = _renamed(export.table(_loaded(rows[name], name, at, loads), texts, key))
    return tables


def _loaded(columns: Columns, name: str, at: str, loads: Loads) -> Columns:
    load = loads.hourly if name == "tickets" else loads.nightly
    return {**columns, "known_at": load(name, columns["account"], columns[at].astype(np.float64))}


def _renamed(table: pa.Table) -> pa.Table:
    names = {"feature": "feature_id", "module": "module_id"}
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _surveys(columns: Columns, roster: Roster, loads: Loads) -> Columns:
    """Surveys go to users beside the champion."""
    account, place = columns["account"].astype(np.int64), columns["number"].astype(np.int64)
    person = roster.index(account, place, np.zeros_like(place))
    named = {"account": columns["account"], "person": person, **columns}
    return _loaded(named, "surveys", "sent_at", loads)


def _contacts(people: People, roster: Roster, book: Book, export: Export, loads: Loads) -> pa.Table:
    columns = people.contact_columns(roster, book.first_start, loads)
    known = export.known(columns)
    ids, role = contact_table(known, export.people)
    table = export.table({name: column for name, column in known.items() if name != "person"})
    return table.add_column(0, "contact_id", ids).append_column("role", role)


def _assignments(people: People, book: Book, export: Export, loads: Loads, names: pa.Array) -> pa.Table:
    first = first_managers(len(book.number), loads.seed)
    columns = people.assignment_columns(first, book.first_start, loads)
    table = export.table(columns, {"manager": names})
    return table.rename_columns(["csm_id" if name == "manager" else name for name in table.column_names])
