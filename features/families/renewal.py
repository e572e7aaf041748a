"""What was renewed, what is about to be, and how closely the account is bound to us.

Sources: `contracts`, `opportunities` of the kind renewal, and `usage` for the daily habit and the integrations.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.contract import terms_passed, whole_months
from features.family import Family, Feature, Measure
from features.snapshots import contract_versions, contracts_known
from features.tables import Tables
from features.windows import known_before, known_outcome

_FOLLOWS_WITHIN = 30
"""Days between the end of a contract and the start of one that renews it."""
DAILY_HABIT_DAYS = 16
"""Days with use in the last 28 from which the product is part of the daily work: four in each week."""
MULTI_YEAR_MONTHS = 24


def _renewals(tables: Tables, instants: ir.Table) -> ir.Table:
    """Planned ends that passed while the contract went on, and contracts that took the place of an ended one."""
    known = contracts_known(tables, instants)
    until = ibis.least(known.as_of, ibis.coalesce(known.end_at, known.as_of))
    passed = terms_passed(known.term_end_at, whole_months(known.term_months), until)
    in_silence = known.select(
        "account_id", "as_of", renewals=ibis.coalesce(passed, (known.term_end_at < until).cast("int64"), 0)
    )
    return ibis.union(in_silence, _by_version(tables, instants, known), _by_contract(known))


def _by_version(tables: Tables, instants: ir.Table, known: ir.Table) -> ir.Table:
    """Planned ends of older versions, each once, where a later version moved the end on."""
    versions = known_before(contract_versions(tables), instants)
    planned = versions.select("account_id", "contract_id", "as_of", "term_end_at").distinct().view()
    newest = known.select(
        "account_id", "contract_id", "as_of", newest_end=known.term_end_at, ended_at=known.end_at
    ).view()
    both = planned.join(newest, ["account_id", "contract_id", "as_of"])
    until = ibis.least(both.as_of, both.newest_end, ibis.coalesce(both.ended_at, both.as_of))
    return both.filter(both.term_end_at < until).select("account_id", "as_of", renewals=ibis.literal(1, "int64"))


def _by_contract(known: ir.Table) -> ir.Table:
    ended = known.filter(known.end_at.notnull()).select(
        "account_id", "as_of", ended_id="contract_id", ended_start="start_at", ended_end="end_at"
    )
    ended = ended.view()
    grace = ibis.interval(days=_FOLLOWS_WITHIN)
    following = known.filter(known.start_at < known.as_of).semi_join(
        ended,
        [
            known.account_id == ended.account_id,
            known.as_of == ended.as_of,
            known.contract_id != ended.ended_id,
            known.start_at > ended.ended_start,
            known.start_at.between(ended.ended_end - grace, ended.ended_end + grace),
        ],
    )
    return following.select("account_id", "as_of", renewals=ibis.literal(1, "int64"))


def _renewal_deals(tables: Tables, instants: ir.Table) -> ir.Table:
    """Open renewal deals in the stage that they have reached."""
    deals = tables["opportunities"]
    deals = deals.filter(deals.kind.strip().lower() == "renewal")
    seen = known_before(deals, instants)
    seen = seen.mutate(deal=ibis.coalesce(seen.opportunity_id, seen.opened_at.cast("string")))
    newest = ibis.window(
        group_by=["account_id", "deal", "as_of"], order_by=[seen.event_at.desc(), seen.known_at.desc()]
    )
    latest = seen.mutate(version=ibis.row_number().over(newest)).filter(ibis._.version == 0)
    return latest.filter(known_outcome(latest.closed_at, latest.as_of).isnull())


def _ties(tables: Tables, instants: ir.Table) -> ir.Table:
    """Live contracts and days of use in one table: what each says of how the account is bound to us."""
    known = contracts_known(tables, instants)
    live = known.filter(known.is_live)
    lasting = live.auto_renew | (live.term_months >= MULTI_YEAR_MONTHS).fill_null(False)
    bought = live.select(
        "account_id", "as_of", age_days=ibis.literal(1, "int64"), day=ibis.null("date"),
        integration=ibis.literal(0, "int64"),
        special=live.special_terms.fill_null(False).cast("int64"), lasting=lasting.cast("int64"),
    )  # fmt: skip
    days = known_before(tables["account_days"], instants, within_days=28)
    used = days.select(
        "account_id", "as_of", age_days=days.age_days.cast("int64"), day=days.event_at.date(),
        integration=days.integration_events.cast("int64"),
        special=ibis.literal(0, "int64"), lasting=ibis.literal(0, "int64"),
    )  # fmt: skip
    return ibis.union(bought, used)


def _dependence(row: ir.Table) -> ir.FloatingValue:
    claims = (
        row.tie_days_28d >= DAILY_HABIT_DAYS,
        row.tie_integration_28d > 0,
        row.tie_special > 0,
        row.tie_lasting > 0,
    )
    points = [claim.fill_null(False).cast("int8") for claim in claims]
    return points[0] + points[1] + points[2] + points[3]


RENEWALS = Family(
    name="renewals",
    source="contracts",
    owner="revenue operations",
    rows=_renewals,
    features=(
        Feature(
            name="prior_renewals",
            formula=lambda term: term.renewals.sum(),
            label="renewals so far",
            meaning="Planned ends before `as_of` with which the contract did not end, and contracts begun within 30 "
            "days of the end of another.",
            unit="renewals", missing="Z", sign=-1, group="context", actionable=False,
            needs=("contracts.term_end_at",),
            examples=(
                example(2, "a yearly end passed in silence, 730 and 365 days ago",
                        contracts="start_at term_end_at term_months mrr; -1096 -730 12 100"),
                example(0, "the end lies at the instant",
                        contracts="start_at term_end_at term_months mrr; -365 0 12 100"),
                example(1, "an end that passed, of an unknown term",
                        contracts="start_at term_end_at mrr; -730 -365 100"),
                example(2, "one contract took the place of another, and a version moved its end on",
                        contracts="contract_id start_at term_end_at ended_at mrr known_at; c1 -800 -400 -400 100 -800;"
                        "c2 -400 -30 . 100 -400; c2 -400 300 . 100 -40"),
            ),
        ),
    ),
)  # fmt: skip

RENEWAL_DEALS = Family(
    name="renewal_deals",
    source="opportunities",
    owner="revenue operations",
    rows=_renewal_deals,
    features=(
        Feature(
            name="renewal_stage_days",
            formula=lambda deal: deal.age_days.max(),
            label="days the renewal deal has been in its stage",
            meaning="Days since the open renewal deal entered its stage, the longest of several.",
            unit="days", missing="E", sign=1, group="commercial", actionable=True,
            needs=("opportunities.kind",),
            examples=(
                example(12, "since its latest stage, closed only at the instant",
                        opportunities="opportunity_id kind opened_at stage_entered_at closed_at;"
                        "o renewal -50 -50 .; o renewal -50 -12 0"),
                example(None, "a deal won is closed",
                        opportunities="opportunity_id kind opened_at closed_at; o Renewal -50 -1; p new -40 ."),
            ),
        ),
    ),
)  # fmt: skip

DEPENDENCE = Family(
    name="dependence",
    source="contracts",
    owner="revenue operations",
    rows=_ties,
    measures=(
        Measure("tie_days_28d", lambda tie: tie.day.nunique(), window=28),
        Measure("tie_integration_28d", lambda tie: tie.integration.sum(), window=28),
        Measure("tie_special", lambda tie: tie.special.max()),
        Measure("tie_lasting", lambda tie: tie.lasting.max()),
    ),
    ratios=(
        Feature(
            name="dependence_score",
            formula=_dependence,
            label="ties that bind the account, of four",
            meaning="One point each: use on 16 of 28 days, an integration used in 28 days, special terms, and a "
            "contract that renews by itself or runs for two years or more.",
            unit="0-4", missing="Z", sign=-1, group="context", actionable=False,
            needs=("usage.day", "usage.kind", "contracts.special_terms", "contracts.auto_renew"),
            examples=(
                example(4, "all of them", contracts="start_at auto_renew special_terms mrr; -300 true true 100",
                        usage="event_at kind; -1 integration;" + ";".join(f"-{age} login" for age in range(14, 29))),
                example(1, "two years; 15 days of use are one too few",
                        contracts="start_at term_end_at term_months auto_renew special_terms mrr; -300 430 24 no . 100",
                        usage="event_at kind; -29 integration;" + ";".join(f"-{age} login" for age in range(14, 29))),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (RENEWALS, RENEWAL_DEALS, DEPENDENCE)
