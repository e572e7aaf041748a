"""Ten and one ways to look into the future, each a small change of a right feature: the certificate names each."""

from __future__ import annotations

import operator
from datetime import datetime, timedelta

import ibis
import pytest

from features.certificate import certify
from features.errors import ConfigurationError
from features.family import Family, Feature
from features.plants import AT, CLOSED, LATE, LATER, OUTCOME, VERSION
from features.settings import read_settings
from features.tables import open_tables
from features.windows import TIMESTAMP, age_days, beside, instants_table, known_outcome, masked

AS_OF = datetime(2025, 3, 15)
DAY = timedelta(days=1)
ACCOUNTS = [f"a{number:02}" for number in range(12)]
TABLES = {
    "accounts": "account_id,segment,started_at",
    "contracts": "account_id,contract_id,start_at,term_end_at,mrr,seats,cancelled_at,ended_at,known_at",
    "usage": "account_id,period_start,quantity",
    "tickets": "ticket_id,account_id,opened_at,resolved_at,known_at",
    "surveys": "account_id,kind,score,sent_at,responded_at,known_at",
    "invoices": "invoice_id,account_id,amount,issued_at,due_at,paid_at,known_at",
}


def rows_of(place, name):
    """The past of one account, all of it known at the instant, most of it over."""
    start, shift = datetime(2024, 1, 1), place * DAY
    opened, asked, issued = AS_OF - 40 * DAY - shift, AS_OF - 60 * DAY - shift, AS_OF - 50 * DAY - shift
    return {
        "accounts": [f"{name},{'smb' if place % 2 else 'large'},{start}"],
        "contracts": [
            f"{name},{name},{start},2025-12-31,{100 + place},{10 + place},,,{start}",
            f"{name},{name}x,{start},2024-12-31,5,,,{'2024-12-31' if place % 3 else ''},2025-01-02",
        ],
        "usage": [f"{name},2024-{month:02}-01,{month + place}" for month in range(6, 13)],
        "tickets": [f"{name}-{number},{name},{opened},{opened + DAY},{opened + DAY}" for number in range(3)],
        "surveys": [f"{name},nps,{place % 11},{asked},{asked + DAY},{asked + 2 * DAY}"],
        "invoices": [f"{name}-1,{name},100,{issued},{issued + 30 * DAY},{issued + 20 * DAY},{issued + 20 * DAY}"],
    }


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """Settings and tables of twelve accounts with six sources; usage comes by the month."""
    folder = tmp_path_factory.mktemp("company")
    toml = []
    for name, header in TABLES.items():
        lines = [header, *(row for place, account in enumerate(ACCOUNTS) for row in rows_of(place, account)[name])]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        period = 'period = "month"' if name == "usage" else ""
        toml.append(f'[tables.{name}]\npath = "{name}.csv"\n{period}')
    (folder / "tenure.toml").write_text("\n".join(toml), encoding="utf-8")
    settings = read_settings(folder / "tenure.toml")
    tables = open_tables(settings, now=AS_OF + 90 * DAY)
    assert tables.quarantine.num_rows == 0
    return settings, tables


def newest_version(rows, *key):
    """Of rows beside instants the version of each key that was known last."""
    newest = ibis.window(group_by=["account_id", *key, "as_of"], order_by=[rows.known_at.desc(), rows.event_at.desc()])
    return rows.mutate(version=ibis.row_number().over(newest)).filter(ibis._.version == 0).drop("version")


def seen(events, instants, *, happened=operator.lt, learned=operator.le):
    """`known_before`, with the two comparisons that must not be any other."""
    joined = events.join(
        instants, [happened(events.event_at, instants.as_of), learned(events.known_at, instants.as_of)]
    )
    return joined.mutate(age_days=age_days(joined.event_at, joined.as_of))


def anything(*_):
    return ibis.literal(True)


def closed_tickets(blank):
    """Tickets done, where `blank` takes out what is not known yet."""

    def rows(tables, instants):
        tickets = newest_version(seen(tables["tickets"], instants), "ticket_id")
        return tickets.mutate(value=blank(tickets.resolved_at, tickets.as_of).notnull().cast("int8"))

    return rows


def unpaid_invoices(blank):
    def rows(tables, instants):
        invoices = newest_version(seen(tables["invoices"], instants), "invoice_id")
        return invoices.mutate(value=blank(invoices.paid_at, invoices.as_of).isnull().cast("int8"))

    return rows


def as_it_is(outcome_at, _):
    return outcome_at


def answers(date):
    """Answered surveys, counted from the column `date`."""

    def rows(tables, instants):
        surveys = tables["surveys"].filter(ibis._.score.notnull())
        # Whoever counts from the invitation takes the answer as known then, too.
        known_at = surveys.known_at if date == "sent_at" else ibis.greatest(surveys.known_at, surveys[date])
        answered = surveys.mutate(event_at=surveys[date], known_at=known_at)
        return seen(answered, instants).mutate(value=ibis._.score)

    return rows


def months(date):
    """Rows of monthly use, dated by `date`."""

    def rows(tables, instants):
        days = tables["account_days"]
        dated = days.mutate(event_at=date(days.event_at), known_at=date(days.known_at))
        return seen(dated, instants).mutate(value=ibis._.quantity)

    return rows


def segment_losses(is_past):
    """Each account beside the contracts that its segment lost, where `is_past` of when they ended."""

    def rows(tables, instants):
        accounts = newest_version(seen(tables["accounts"], instants)).select("account_id", "segment")
        contracts = newest_version(seen(tables["contracts"], instants), "contract_id")
        ended = contracts.filter(is_past(contracts.ended_at, contracts.as_of)).join(accounts, "account_id")
        lost = ended.group_by("segment", "as_of").agg(value=ended.count())
        return accounts.join(lost, "segment").select("account_id", "as_of", "value").mutate(age_days=1)

    return rows


def contract_ends(end):
    def rows(tables, instants):
        contracts = newest_version(seen(tables["contracts"], instants), "contract_id")
        until = end(contracts).date().delta(contracts.as_of.date(), unit="day")
        return contracts.mutate(value=until)

    return rows


def contract_versions(learned):
    """The newest version of each contract, among those that `learned` lets through."""

    def rows(tables, instants):
        contracts = newest_version(seen(tables["contracts"], instants, learned=learned), "contract_id")
        return contracts.mutate(value=contracts.seats)

    return rows


def tickets_by(**comparisons):
    def rows(tables, instants):
        return seen(tables["tickets"], instants, **comparisons).mutate(value=1)

    return rows


def local_time(event_at, as_of):
    """Times of New York taken for those of the instant."""
    return event_at - ibis.interval(hours=5) < as_of


def use_by(**comparisons):
    def rows(tables, instants):
        return seen(tables["account_days"], instants, **comparisons).mutate(value=ibis._.events)

    return rows


LEAKS = {
    # what is wrong: the right rows, the wrong ones, the table, what must move the feature
    "use of the instant itself is counted": (use_by(), use_by(happened=operator.le), "account_days", {AT}),
    "nobody asks when it was learned": (use_by(), use_by(learned=anything), "account_days", {LATE, VERSION}),
    "a ticket resolved later is done": (closed_tickets(known_outcome), closed_tickets(as_it_is), "tickets", {OUTCOME}),
    "an invoice paid later is paid": (unpaid_invoices(known_outcome), unpaid_invoices(as_it_is), "invoices", {OUTCOME}),
    "an answer counts from the invitation": (answers("responded_at"), answers("sent_at"), "surveys", {OUTCOME}),
    "a month counts before it is over": (
        months(lambda at: at), months(lambda at: at.truncate("M").cast(TIMESTAMP)), "account_days", {AT, LATER},
    ),
    "a segment's losses of later months": (
        segment_losses(lambda at, as_of: at < as_of), segment_losses(lambda at, as_of: at.notnull()), "contracts",
        {OUTCOME},
    ),
    "planned and real end are one": (
        contract_ends(lambda row: row.term_end_at),
        contract_ends(lambda row: ibis.coalesce(row.ended_at, row.term_end_at)), "contracts", {OUTCOME},
    ),
    "the newest version of a contract there is": (
        contract_versions(operator.le), contract_versions(anything), "contracts", {VERSION, CLOSED, LATE},
    ),
    "all tickets there ever were": (
        tickets_by(), tickets_by(happened=anything, learned=anything), "tickets", {AT, LATER, LATE},
    ),
    "times of another zone": (tickets_by(), tickets_by(happened=local_time), "tickets", {AT, LATER}),
}  # fmt: skip


def built(rows):
    """Builds the one feature `suspect` over `rows`."""
    family = Family(
        name="suspects",
        source="accounts",
        owner="tests",
        rows=rows,
        features=(
            Feature(
                name="suspect", formula=lambda row: row.value.sum(), label="", meaning="", unit="", missing="E",
                sign=0, group="context", actionable=False,
            ),
        ),
    )  # fmt: skip

    compiled = []

    def build(tables, instants, label):
        moments = instants_table(tables.backend, instants, name="moments")
        if not compiled:
            found = family.rows(tables, moments)
            values = {item.name: item.formula(masked(found, item.window)) for item in family.features}
            values = found.group_by("account_id", "as_of").agg(**values)
            scored = tables["accounts"].select("account_id").distinct().cross_join(moments)
            compiled.append(tables.backend.compile(beside(scored, values).order_by("account_id")))
        return tables.backend.con.sql(compiled[0]).to_arrow_table()

    return build


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found_and_named(company, leak):
    settings, tables = company
    _, wrong, table, kinds = LEAKS[leak]

    found = certify(tables, settings, as_of=AS_OF, rows=60, build=built(wrong))

    assert {(one.feature, one.table) for one in found.moved} == {("suspect", table)}
    assert {one.kind for one in found.moved} >= kinds
    assert found.verdict.startswith(f"leak found: suspect (table {table}, ")
    with pytest.raises(ConfigurationError, match=rf"found 1 that moved: suspect \(table {table}"):
        found.refuse_leaks()


@pytest.mark.parametrize("leak", LEAKS)
def test_the_right_feature_beside_a_leak_moves_nowhere(company, leak):
    settings, tables = company

    found = certify(tables, settings, as_of=AS_OF, rows=60, build=built(LEAKS[leak][0]))

    assert found.moved == ()
    assert found.features == ("suspect",)
    found.refuse_leaks()
