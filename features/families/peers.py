"""How an account compares with its peers: its segment, those who began with it, and the book of its CSM.

The peers are seen as they were known at `as_of`, and a group of fewer than 20 says nothing.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.value import time_to_value
from features.family import Family, Feature, Measure, exact, ratio
from features.kaplan_meier import km_median
from features.snapshots import contracts_known
from features.tables import Tables
from features.windows import beside, known_outcome, newest_before

LEAST_PEERS = 20
GRACE_DAYS = 30
"""A quarter is judged once so many days have passed, for a new contract within them undoes a loss."""
_OPEN = "9000-01-01"


def _profiles(tables: Tables, instants: ir.Table) -> ir.Table:
    """The newest known row of each account."""
    return newest_before(tables["accounts"], instants)


def _owners(tables: Tables, instants: ir.Table) -> ir.Table:
    """Who looks after each account at the instant."""
    latest = newest_before(tables["assignments"], instants, "csm_id", "from_at")
    current = latest.filter(known_outcome(latest.to_at, latest.as_of).isnull())
    newest = ibis.window(group_by=["account_id", "as_of"], order_by=[current.from_at.desc(), current.csm_id])
    return current.mutate(place=ibis.row_number().over(newest)).filter(ibis._.place == 0)


def _value_by_cohort(tables: Tables, instants: ir.Table) -> ir.Table:
    """Days to value of each account beside the Kaplan-Meier median of all that began in the same month.

    Accounts that left count until they did.
    """
    profiles = _profiles(tables, instants).select("account_id", "as_of", "cohort_month")
    known = contracts_known(tables, instants)
    ends = known.group_by("account_id", "as_of").agg(end_at=ibis.coalesce(known.end_at, known.as_of).max())
    rows = beside(beside(time_to_value(tables, instants), profiles), ends)
    started = ibis.coalesce(rows.cohort_month, rows.start_at).truncate("M")
    held = ibis.least(rows.end_at, rows.as_of).date().delta(rows.start_at.date(), unit="day")
    until = ibis.ifelse((rows.is_reached == 0) & (held < rows.value_days), held, rows.value_days)
    rows = rows.mutate(cohort=started, duration=until, observed=rows.is_reached)
    whole = ibis.window(group_by=["cohort", "as_of"])
    rows = rows.mutate(cohort_size=rows.count().over(whole))
    medians = km_median(rows, "cohort_median", by=("cohort", "as_of")).view()
    found = rows.left_join(medians, ["cohort", "as_of"])
    enough = found.cohort_size >= LEAST_PEERS
    return found.select(
        "account_id", "as_of", "value_days",
        cohort_median=ibis.ifelse(enough, found.cohort_median, ibis.null("double")),
    )  # fmt: skip


def _losses(tables: Tables, instants: ir.Table) -> ir.Table:
    """Who of each segment was a customer when the last final quarter began, and who left in it: the others' sums."""
    flags = _quarter(tables, instants)
    rows = beside(_profiles(tables, instants).select("account_id", "as_of", "segment"), flags)
    rows = rows.mutate(member=rows.member.fill_null(0), lost=rows.lost.fill_null(0))
    segment = ibis.window(group_by=["segment", "as_of"])
    return rows.mutate(
        others=ibis.ifelse(rows.segment.notnull(), rows.member.sum().over(segment) - rows.member, 0),
        others_lost=rows.lost.sum().over(segment) - rows.lost,
    )


def _quarter(tables: Tables, instants: ir.Table) -> ir.Table:
    """Per account whether it was active at the start of the quarter (`member`) and `lost` by its end."""
    known = contracts_known(tables, instants)
    spans = known.select("account_id", "as_of", "start_at", end_at=ibis.coalesce(known.end_at, ibis.timestamp(_OPEN)))
    account = ["account_id", "as_of"]
    earlier = ibis.window(group_by=account, order_by=spans.start_at, preceding=(None, 1), following=None)
    gap = spans.start_at > spans.end_at.max().over(earlier) + ibis.interval(days=GRACE_DAYS)
    spans = spans.mutate(is_return=gap.fill_null(False).cast("int64"))
    so_far = ibis.window(group_by=account, order_by=spans.start_at, preceding=None, following=0)
    spans = spans.mutate(period=spans.is_return.sum().over(so_far))
    periods = spans.group_by(*account, "period").agg(start_at=spans.start_at.min(), end_at=spans.end_at.max())
    quarter_end = (periods.as_of - ibis.interval(days=GRACE_DAYS)).truncate("Q")
    quarter_start = quarter_end - ibis.interval(months=3)
    was_active = (periods.start_at <= quarter_start) & (periods.end_at > quarter_start)
    judged = periods.mutate(member=was_active.cast("int64"), left=(was_active & (periods.end_at <= quarter_end)))
    return judged.group_by(*account).agg(member=judged.member.max(), lost=judged.left.cast("int64").max())


def _with_peers(header: str, me: str, peer: str, number: int) -> str:
    """Text of an example's table: the row of the account and one like `peer` of each of its peers."""
    return ";".join([header, me, *(peer.replace("p#", f"p{place}") for place in range(number))])


def _segment_of(name: str, peers: int) -> dict[str, str]:
    """Tables of an example: a segment of the account and its peers, all customers."""
    return {
        "accounts": _with_peers("account_id segment", f"me {name}", f"p# {name}", peers),
        "contracts": _with_peers("account_id start_at mrr", "me -730 100", "p# -730 100", peers),
    }


_USE = "account_id user_id event_at quantity is_core"


def _segment(row: ir.Table) -> ibis.expr.builders.WindowBuilder:
    return ibis.window(group_by=[row.as_of, row.segment])


def _enough(row: ir.Table, value: ir.NumericValue, found: ir.NumericValue) -> ir.NumericValue:
    """`found` where the segment has 20 accounts with a `value`."""
    told = row.segment.notnull() & (value.count().over(_segment(row)) >= LEAST_PEERS)
    return ibis.ifelse(told, found, ibis.null("double"))


def _against_median(row: ir.Table, value: ir.NumericValue) -> ir.NumericValue:
    median = value.cast("double").median().over(_segment(row))
    return _enough(row, value, ratio(value, median))


def _against_mean(row: ir.Table, value: ir.NumericValue) -> ir.NumericValue:
    total = exact(value).sum().over(_segment(row)).cast("double")
    return _enough(row, value, value - total / value.count().over(_segment(row)).cast("double").nullif(0.0))


def _share_of_book(row: ir.Table) -> ir.NumericValue:
    book = ibis.window(group_by=[row.as_of, row.owner])
    told = row.owner.notnull() & (row.arr.count().over(book) >= LEAST_PEERS)
    return ibis.ifelse(told, ratio(row.arr, row.arr.sum().over(book)), ibis.null("double"))


def _rate(account: ir.Table) -> ir.NumericValue:
    others = account.others.max()
    return ibis.ifelse(others >= LEAST_PEERS, ratio(account.others_lost.max(), others), ibis.null("double"))


PROFILE = Family(
    name="profile",
    source="accounts",
    owner="customer success operations",
    rows=_profiles,
    measures=(Measure("segment", lambda account: account.segment.max(), missing="E"),),
    ratios=(
        Feature(
            name="usage_vs_segment",
            formula=lambda row: _against_median(row, row.core_actions_per_user_28d),
            label="core actions per user against the segment",
            meaning="core_actions_per_user_28d / its median over the accounts of the segment; 20 needed.",
            unit="×", window=28, missing="D", sign=-1, group="usage", actionable=True,
            needs=("accounts.segment", "usage.day", "usage.users"),
            examples=(
                example(3, "30 actions of one user where the median of twenty is 10", **_segment_of("used", 19),
                        usage=_with_peers(_USE, "me u -2 30 yes", "p# u -2 10 yes", 19)),
                example(None, "nineteen accounts are too few", **_segment_of("scarce", 18),
                        usage=_with_peers(_USE, "me u -2 30 yes", "p# u -2 10 yes", 18)),
                example(None, "of twenty accounts one has no user, and no value", **_segment_of("idle", 19),
                        usage=_with_peers(_USE, "p18 u -29 9 yes; me u -2 30 yes", "p# u -2 10 yes", 18)),
            ),
        ),
        Feature(
            name="ticket_rate_vs_segment",
            formula=lambda row: _against_median(row, row.tickets_per_user_28d),
            label="tickets per user against the segment",
            meaning="tickets_per_user_28d / its median over the accounts of the segment; 20 needed.",
            unit="×", window=28, missing="D", sign=0, group="support", actionable=True,
            needs=("accounts.segment", "usage.day", "usage.users", "tickets.ticket_id"),
            examples=(
                example(3, "three tickets of one user, the others one each", **_segment_of("asking", 19),
                        usage=_with_peers(_USE, "me u -2 1 yes", "p# u -2 1 yes", 19),
                        tickets=_with_peers("account_id ticket_id opened_at", "me r1 -2; me r2 -2; me r3 -2",
                                            "p# r-p# -9", 19)),
                example(None, "the median is 0", **_segment_of("quiet", 19),
                        usage=_with_peers(_USE, "me u -2 1 yes", "p# u -2 1 yes", 19),
                        tickets="ticket_id opened_at; r4 -2"),
            ),
        ),
        Feature(
            name="nps_vs_segment",
            formula=lambda row: _against_mean(row, row.nps_last_score),
            label="last NPS score against the segment",
            meaning="nps_last_score minus its mean over the accounts of the segment; 20 needed.",
            unit="points", missing="E", sign=-1, group="sentiment", actionable=True,
            needs=("accounts.segment", "surveys.score"),
            examples=(
                example(3.8, "9 where the mean of twenty is (9 + 19 · 5) / 20", **_segment_of("polled", 19),
                        surveys=_with_peers("account_id kind score responded_at", "me nps 9 -9", "p# nps 5 -9", 19)),
                example(None, "one of twenty answers only at the instant", **_segment_of("late", 19),
                        surveys=_with_peers("account_id kind score responded_at", "p18 nps 5 0; me nps 9 -9",
                                            "p# nps 5 -9", 18)),
            ),
        ),
    ),
)  # fmt: skip

COHORT = Family(
    name="cohort",
    source="usage",
    owner="customer success operations",
    rows=_value_by_cohort,
    features=(
        Feature(
            name="ttv_vs_cohort",
            formula=lambda row: ratio(row.value_days.max(), row.cohort_median.max()),
            label="days to the first core use against those who began in the same month",
            meaning="Days from the start to value, or so far without, / Kaplan-Meier median of the accounts that began "
            "in the same month; 20 needed.",
            unit="×", missing="D", sign=1, group="onboarding", actionable=True, needs=("usage.day",),
            examples=(
                example(10, "100 days without, where nineteen of twenty took 10 days",
                        accounts=_with_peers("account_id cohort_month", "me -9000", "p# -9000", 19),
                        contracts=_with_peers("account_id start_at mrr", "me -100 100", "p# -100 100", 19),
                        usage=_with_peers(_USE, "me u -2 1 no", "p# u -90 1 yes", 19)),
                example(None, "half of the cohort has not come so far",
                        accounts=_with_peers("account_id cohort_month", "me -9100", "p# -9100", 19),
                        contracts=_with_peers("account_id start_at mrr", "me -100 100", "p# -100 100", 19),
                        usage=_with_peers(_USE, "me u -90 1 yes", "p# u -2 1 no", 19)),
                example(None, "nineteen accounts are too few",
                        accounts=_with_peers("account_id cohort_month", "me -9200", "p# -9200", 18),
                        contracts=_with_peers("account_id start_at mrr", "me -100 100", "p# -100 100", 18),
                        usage=_with_peers(_USE, "me u -90 1 yes", "p# u -90 1 yes", 18)),
            ),
        ),
    ),
)  # fmt: skip

SEGMENT_CHURN = Family(
    name="segment_churn",
    source="contracts",
    owner="revenue operations",
    rows=_losses,
    features=(
        Feature(
            name="segment_churn_prior_q",
            formula=_rate,
            label="churn of the segment in the last quarter",
            meaning="Share of the segment's other accounts, active when the last calendar quarter that ended 30 days "
            "ago or more began, that left in it as far as is known; 20 needed.",
            unit="fraction", missing="D", sign=1, group="context", actionable=False,
            needs=("accounts.segment",),
            examples=(
                # The quarter is that of October to December: days 151 to 59 before the instant.
                example(0.25, "of twenty others five left: four in it, one at its end; one came back within 30 days",
                        accounts=_with_peers("account_id segment", "me leaving", "p# leaving", 21),
                        contracts=_with_peers(
                            "account_id contract_id start_at ended_at mrr",
                            "p0 c -730 -100 9; p1 c -730 -100 9; p2 c -730 -100 9; p3 c -730 -150 9; p4 c -730 -59 9;"
                            "p5 c -730 -58 9; p6 c -730 -100 9; p6 d -71 . 9; p7 c -730 -151 9; me c -730 . 9",
                            "p# e -700 -690 9", 21)
                        + "".join(f"; p{place} f -700 . 9" for place in range(8, 21))),
                example(None, "nineteen others are too few", **_segment_of("few", 19)),
            ),
        ),
    ),
)  # fmt: skip

BOOK = Family(
    name="book",
    source="assignments",
    owner="revenue operations",
    rows=_owners,
    measures=(Measure("owner", lambda current: current.csm_id.max(), missing="E"),),
    ratios=(
        Feature(
            name="revenue_share_of_book",
            formula=_share_of_book,
            label="share of the revenue of its CSM's book",
            meaning="arr / ARR of all accounts of the same owner at `as_of`, by assignments; 20 needed.",
            unit="fraction", missing="D", sign=0, group="context", actionable=False,
            needs=("contracts.mrr",),
            examples=(
                example(0.5, "475 of 950; who looked after it before has no part in it",
                        contracts=_with_peers("account_id start_at mrr", "me -730 475", "p# -730 25", 19),
                        assignments=_with_peers("account_id csm_id from_at to_at", "me lee -700 -100; me kim -100 .",
                                                "p# kim -700 .", 19)),
                example(None, "nineteen accounts are too few",
                        contracts=_with_peers("account_id start_at mrr", "me -730 475", "p# -730 25", 18),
                        assignments=_with_peers("account_id csm_id from_at", "me ann -700", "p# ann -700", 18)),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (PROFILE, COHORT, SEGMENT_CHURN, BOOK)
