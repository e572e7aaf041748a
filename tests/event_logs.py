"""Random histories of accounts, many to a company: hypothesis draws each, one build computes all."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from features.build import feature_table
from features.settings import LabelSettings, read_settings
from features.tables import open_tables

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
AS_OF = datetime(2025, 3, 1)
BEFORE = AS_OF - timedelta(days=31)
INSTANTS = [BEFORE, AS_OF]
DAY, INSTANT = timedelta(days=1), timedelta(microseconds=1)

COLUMNS = {
    "contracts": ["contract_id", "start_at", "mrr", "seats", "known_at"],
    "usage": ["user_id", "event_at", "quantity", "known_at"],
    "tickets": ["ticket_id", "opened_at", "resolved_at", "closed_at", "reopened_at", "known_at"],
    "surveys": ["kind", "score", "scale_min", "scale_max", "sent_at", "responded_at", "known_at"],
}


@dataclass
class Log:
    """All rows of one account, by table."""

    rows: dict[str, list[dict]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, name, **row):
        self.rows[name].append(row)
        return self

    def with_rows(self, other):
        return Log({name: [*rows, *other.rows[name]] for name, rows in self.rows.items()})


EDGES = [AS_OF - days * DAY for days in (0, 1, 7, 14, 28, 29, 31, 59, 91, 92, 182, 364)]
MOMENTS = st.one_of(
    st.builds(lambda edge, beside: edge + beside * INSTANT, st.sampled_from(EDGES), st.sampled_from([-1, 0, 1])),
    st.integers(-200 * 24, 24 * 30).map(lambda hours: AS_OF + timedelta(hours=hours)),
)
DELAYS = st.sampled_from([0 * DAY, INSTANT, timedelta(hours=5), DAY, 9 * DAY, 40 * DAY])
LATER = st.one_of(st.none(), st.sampled_from([0 * DAY, DAY, 20 * DAY, 45 * DAY]))


def later(at, delay):
    return None if delay is None else at + delay


@st.composite
def logs(draw):
    """A customer since some time, with up to a few rows of each table around the edges of every window."""
    log = Log()
    start = AS_OF - draw(st.sampled_from([800, 300, 122, 91, 60])) * DAY
    log.add("contracts", contract_id="c", start_at=start, mrr=100, seats=4, known_at=start)
    for delay in draw(st.lists(st.sampled_from([1, 40, 300, 900]), max_size=2, unique=True)):
        mrr, seats = draw(st.integers(0, 500)), draw(st.integers(0, 9))
        log.add("contracts", contract_id="c", start_at=start, mrr=mrr, seats=seats, known_at=start + delay * DAY)
    for at in draw(st.lists(MOMENTS, max_size=6)):
        quantity = draw(st.sampled_from([1, 2.5, 40]))
        log.add(
            "usage", user_id=draw(st.sampled_from("uvw")), event_at=at, quantity=quantity, known_at=at + draw(DELAYS)
        )
    for number, at in enumerate(draw(st.lists(MOMENTS, max_size=3))):
        for delay in sorted(draw(st.sets(DELAYS, min_size=1, max_size=2))):
            outcomes = {name: later(at, draw(LATER)) for name in ("resolved_at", "closed_at", "reopened_at")}
            log.add("tickets", ticket_id=str(number), opened_at=at, known_at=at + delay, **outcomes)
    for at in draw(st.lists(MOMENTS, max_size=3)):
        kind = draw(st.sampled_from(["nps", "csat"]))
        scale = (0, 10) if kind == "nps" else (1, 5)
        answered = later(at, draw(LATER))
        score = None if answered is None else draw(st.integers(*scale))
        log.add(
            "surveys", kind=kind, score=score, scale_min=scale[0], scale_max=scale[1], sent_at=at,
            responded_at=answered, known_at=at + draw(DELAYS),
        )  # fmt: skip
    return log


def drawn(strategy, number):
    """So many examples of the strategy, the same each time."""
    found = []

    @settings(
        max_examples=number, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def collect(one):
        found.append(one)

    collect()
    return found


def features_of(folder, named, instants=INSTANTS, *, order=None, extra=""):
    """Account and instant → features, of a company of the logs named by account.

    `order` may change the rows of each table before they are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        name: [{"account_id": a, **row} for a, log in named.items() for row in log.rows[name]] for name in COLUMNS
    }
    for row in tables["tickets"]:
        row["ticket_id"] = f"{row['account_id']}-{row['ticket_id']}"
    tables["accounts"] = [{"account_id": account} for account in named]
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["account_id", *COLUMNS.get(name, [])], restval="")
            writer.writeheader()
            writer.writerows(rows if order is None else order(name, rows))
    toml = [extra, *(f'[tables.{name}]\npath = "{name}.csv"' for name in tables)]
    (folder / "tenure.toml").write_text("\n".join(toml), encoding="utf-8")
    opened = open_tables(read_settings(folder / "tenure.toml"), now=AS_OF + 90 * DAY)
    found = feature_table(opened, instants, LabelSettings()).to_pylist()
    return {(row.pop("account_id"), row.pop("as_of")): row for row in found}, opened.quarantine
