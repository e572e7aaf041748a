"""How the account pays: what is overdue, what came late, was disputed or failed, and how long payment takes.

Source: `invoices` in the version known at `as_of`. An invoice paid at or after `as_of` is unpaid at `as_of`; one
marked prepaid was paid when it was issued. Credit notes and zero amounts, which nobody has to pay, are left out.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature, Measure, exact, ratio
from features.kaplan_meier import km_median
from features.tables import Tables
from features.windows import age_days, known_before, known_outcome, masked, newest_before

HALF_YEAR = 182
SECONDS_A_DAY = 86_400


def invoices_known(tables: Tables, instants: ir.Table) -> ir.Table:
    """Each invoice in the version known at the instant; `overdue_days` is missing where nothing is overdue."""
    known = newest_before(tables["invoices"], instants, "invoice_id")
    known = known.filter(known.amount > 0)
    # Whatever date of payment comes later must not take back that it was paid ahead.
    paid_at = ibis.ifelse(known.prepaid.fill_null(False), known.issued_at, known.paid_at)
    known = known.mutate(
        amount=exact(known.amount),
        paid_at=known_outcome(paid_at, known.as_of),
        due_days=age_days(known.due_at, known.as_of),
    )
    is_overdue = known.paid_at.isnull() & (known.due_at < known.as_of)
    return known.mutate(
        overdue_amount=ibis.ifelse(is_overdue, known.amount, ibis.null(known.amount.type())),
        overdue_days=ibis.ifelse(is_overdue, known.due_days, ibis.null(known.due_days.type())),
    )


def _events(tables: Tables, instants: ir.Table) -> ir.Table:
    """What went wrong with an invoice, each aged from the day it did: 1 in `late`, `disputed` or `failed`."""
    invoices = invoices_known(tables, instants)
    # Days are compared, not hours: a payment in the course of the due day is in time.
    is_late = invoices.paid_at.isnull() | (invoices.paid_at.date() > invoices.due_at.date())
    late = invoices.filter((invoices.due_at < invoices.as_of) & is_late)
    disputed = invoices.filter(invoices.disputed_at < invoices.as_of)
    failed = failed_payments(tables, instants)
    return ibis.union(
        _aged(late, late.due_at, "late"),
        _aged(disputed, disputed.disputed_at, "disputed"),
        _aged(failed, failed.failed_at, "failed"),
    )


def failed_payments(tables: Tables, instants: ir.Table) -> ir.Table:
    """The attempts to pay that are known to have failed: account_id, as_of, invoice_id, failed_at."""
    # Every version may tell of another attempt, so all that are known count, each once.
    seen = known_before(tables["invoices"], instants)
    attempts = seen.filter((seen.failed_at < seen.as_of) & (seen.amount > 0))
    return attempts.select("account_id", "as_of", "invoice_id", "failed_at").distinct()


def _aged(rows: ir.Table, at: ir.TimestampValue, name: str) -> ir.Table:
    ones = {kind: ibis.literal(1 if kind == name else 0) for kind in ("late", "disputed", "failed")}
    return rows.select("account_id", "as_of", age_days=age_days(at, rows.as_of), **ones)


def _payment_times(tables: Tables, instants: ir.Table) -> ir.Table:
    """The median now, and in a row of its own the median as it was known half a year before."""
    shift = ibis.interval(days=HALF_YEAR)
    now = _median_days(tables, instants)
    before = _median_days(tables, instants.select(as_of=instants.as_of - shift))
    unknown, age = ibis.null("double"), ibis.literal(1)
    return ibis.union(
        now.select("account_id", "as_of", age_days=age, days_to_pay=now.days_to_pay, days_before=unknown),
        before.select(
            "account_id", as_of=before.as_of + shift, age_days=age, days_to_pay=unknown, days_before=before.days_to_pay
        ),
    )


def _median_days(tables: Tables, instants: ir.Table) -> ir.Table:
    """Days from issue to payment over the invoices of half a year, the unpaid ones open at the instant."""
    invoices = invoices_known(tables, instants)
    until = ibis.coalesce(invoices.paid_at, invoices.as_of)
    seconds = until.epoch_seconds() - invoices.issued_at.epoch_seconds()
    spans = invoices.mutate(
        duration=ibis.greatest(seconds, 0) / SECONDS_A_DAY, observed=invoices.paid_at.notnull().cast("int8")
    )
    return km_median(spans.mutate(duration=masked(spans, HALF_YEAR).duration), "days_to_pay")


_DUE = "invoice_id amount issued_at due_at paid_at; "
_PAID = "invoice_id amount issued_at paid_at; "


def _monthly(days_to_pay: int, *, since_half_a_year: int | None = None) -> str:
    """The invoices of two years, one every 30 days, paid after so many days."""
    rows = []
    for age in range(10, 730, 30):
        days = since_half_a_year if since_half_a_year and age <= HALF_YEAR else days_to_pay
        rows.append(f"i{age} 100 {-age} {days - age}")
    return _PAID + "; ".join(rows)


BILLING = Family(
    name="billing",
    source="invoices",
    owner="finance operations",
    rows=invoices_known,
    measures=(
        Measure("overdue_amount", lambda invoice: invoice.overdue_amount.sum()),
        Measure("invoiced_91d", lambda invoice: invoice.amount.sum(), window=91),
    ),
    features=(
        Feature(
            name="max_days_past_due",
            formula=lambda invoice: invoice.overdue_days.max(),
            label="days the oldest unpaid invoice is past due",
            meaning="Days since the oldest invoice unpaid at `as_of` fell due; 0 if none is past due.",
            unit="days", missing="Z", sign=1, group="billing", actionable=True,
            needs=("invoices.due_at", "invoices.paid_at"),
            examples=(
                example(30, invoices=_DUE + "i 9 -60 -30 .; j 9 -40 -10 ."),
                example(0, "paid, due at the instant", invoices=_DUE + "i 9 -60 -30 -1; j 9 -30 0 ."),
                example(30, "paid at the instant", invoices=_DUE + "i 9 -60 -30 0"),
                example(0, "prepaid", invoices="invoice_id amount issued_at due_at prepaid; i 9 -60 -30 yes"),
                example(0, "a credit note", invoices="invoice_id amount issued_at due_at; i -9 -60 -30"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="overdue_amount_share",
            formula=lambda row: ratio(row.overdue_amount, row.invoiced_91d),
            label="overdue amount against what was invoiced in 91 days",
            meaning="Amount past due and unpaid at `as_of`, of any age / amount invoiced in 91 days; may exceed 1.",
            unit="share", missing="D", sign=1, group="billing", actionable=True,
            window=91, needs=("invoices.due_at", "invoices.paid_at"),
            examples=(
                example(0.25, "50 of 200", invoices=_DUE + "i 150 -60 -30 -35; j 50 -45 -15 ."),
                example(1, "the payment was learned later",
                        invoices="invoice_id amount issued_at due_at paid_at known_at; "
                        "i 150 -91 -30 . -91; i 150 -91 -30 -20 1"),
                example(None, "nothing invoiced in 91 days", invoices=_DUE + "i 9 -92 -62 ."),
                example(0, "nothing due yet", invoices="invoice_id amount issued_at due_at; i 9 -30 0; j 9 -30 ."),
            ),
        ),
    ),
)  # fmt: skip

INVOICE_EVENTS = Family(
    name="invoice_events",
    source="invoices",
    owner="finance operations",
    rows=_events,
    features=(
        Feature(
            name="late_invoices_182d",
            formula=lambda event: event.late.sum(),
            label="invoices that came late in the last 182 days",
            meaning="Invoices due in the 182 days before `as_of`, unpaid at `as_of` or paid on a later day than due.",
            unit="invoices", window=182, missing="Z", sign=1, group="billing", actionable=True,
            needs=("invoices.due_at", "invoices.paid_at"),
            examples=(
                example(1, "on the day and a day later", invoices=_DUE + "i 9 -60 -30 -29; j 9 -60 -30 -30@15:00"),
                example(2, "at the instant, not at all", invoices=_DUE + "i 9 -40 -10 0; j 9 -40 -10 .; k 9 -9 0 ."),
                example(1, "the window's border", invoices=_DUE + "i 9 -212 -182 -170; j 9 -213 -183 -170"),
            ),
        ),
        Feature(
            name="disputed_invoices_182d",
            formula=lambda event: event.disputed.sum(),
            label="invoices disputed in the last 182 days",
            meaning="Invoices that the account disputed in the 182 days before `as_of`.",
            unit="invoices", window=182, missing="Z", sign=1, group="billing", actionable=True,
            needs=("invoices.disputed_at",),
            examples=(
                example(1, "on the border and a day before it", invoices="invoice_id amount issued_at disputed_at; "
                        "i 9 -300 -182; j 9 -300 -183"),
                example(0, "disputed at the instant", invoices="invoice_id amount issued_at disputed_at; i 9 -30 0"),
            ),
        ),
        Feature(
            name="failed_payments_91d",
            formula=lambda event: event.failed.sum(),
            label="payments that failed in the last 91 days",
            meaning="Attempts to pay that failed in the 91 days before `as_of`; each version may tell of another.",
            unit="attempts", window=91, missing="Z", sign=1, group="billing", actionable=True,
            needs=("invoices.failed_at",),
            examples=(
                example(2, "two attempts, one told twice", invoices="invoice_id amount issued_at failed_at known_at; "
                        "i 9 -30 -20 -20; i 9 -30 -20 -19; i 9 -30 -13 -13"),
                example(1, "borders", invoices="invoice_id amount issued_at failed_at; "
                        "i 9 -99 -91; j 9 -99 -92; k 9 -9 0"),
            ),
        ),
    ),
)  # fmt: skip

PAYMENT_TIMES = Family(
    name="payment_times",
    source="invoices",
    owner="finance operations",
    rows=_payment_times,
    measures=(Measure("days_to_pay_before", lambda found: found.days_before.max(), missing="E"),),
    features=(
        Feature(
            name="days_to_pay_median_182d",
            formula=lambda found: found.days_to_pay.max(),
            label="median days until an invoice is paid",
            meaning="Kaplan-Meier median of the days from issue to payment over the invoices issued in 182 days, those "
            "unpaid at `as_of` still open; missing where the curve stays above one half.",
            unit="days", window=182, missing="E", sign=1, group="billing", actionable=True,
            needs=("invoices.paid_at",),
            examples=(
                example(45, "always after 45 days", invoices=_monthly(45)),
                example(60, "slowed", invoices=_monthly(45, since_half_a_year=60)),
                example(None, "none paid yet", invoices=_PAID + "i 9 -30 0; j 9 -20 ."),
                example(2.5, "older invoices do not count", invoices=_PAID + "i 9 -182 -180@12:00; j 9 -183 -100"),
                example(0, "paid before it was issued", invoices=_PAID + "i 9 -30 -40"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="days_to_pay_trend",
            formula=lambda row: row.days_to_pay_median_182d - row.days_to_pay_before,
            label="change of the median days until an invoice is paid",
            meaning="days_to_pay_median_182d minus the same as it was known 182 days before.",
            unit="days", window=364, missing="E", sign=1, group="billing", actionable=True,
            needs=("invoices.paid_at",),
            examples=(
                example(0, "a constant payer", invoices=_monthly(45)),
                example(15, "slowed from 45 to 60", invoices=_monthly(45, since_half_a_year=60)),
                example(None, "no invoice before", invoices=_PAID + "i 9 -30 -20"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (BILLING, INVOICE_EVENTS, PAYMENT_TIMES)
