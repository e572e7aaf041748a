"""The invoices of a generated company: issued with the contract, paid early or late, failed, disputed or never paid."""

from __future__ import annotations

import numpy as np

from features.world.contracts import Bills
from features.world.loads import Loads
from features.world.rows import Columns, Month
from features.world.state import Traits, generator

_TERM_DAYS = 30.0


def invoice_rows(traits: Traits, month: Month, bills: Bills, seed: int) -> Columns:
    """The invoices issued in the month.

    Some accounts pay late whatever they feel; who finds the price too high pays later and disputes more often.
    """
    random = generator(seed, month.number, "invoices")
    accounts = len(traits.users)
    lot, noise = random.random((6, accounts)), random.normal(size=accounts)
    habit = generator(seed, 0, "payers").normal(size=accounts)
    price = (month.before.pressure - month.before.relief)[:, 2]
    issued = bills.day + (8 + 2 * lot[0]) / 24
    delay = np.maximum(_TERM_DAYS - 6 + 7 * habit + 4 * np.maximum(price, 0) + 5 * noise, 1)
    fails = lot[1] < 0.02 * np.exp(0.4 * habit)
    disputes = lot[2] < 0.012 * np.exp(0.5 * price + 0.3 * month.before.pressure[:, 1])
    paid = issued + delay + np.where(fails, 4 + 6 * lot[3], 0) + np.where(disputes, 15 + 25 * lot[4], 0)
    columns = {
        "account": np.arange(accounts),
        "number": np.full(accounts, month.number),
        "amount": bills.amount,
        "issued_at": issued,
        "due_at": np.floor(issued) + _TERM_DAYS,
        "paid_at": paid,
        "failed_at": np.where(fails, issued + np.minimum(delay, _TERM_DAYS), np.nan),
        "disputed_at": np.where(disputes, issued + 3 + 20 * lot[5], np.nan),
    }
    return {name: column[bills.issued] for name, column in columns.items()}


def unpaid(columns: Columns, arrears: Columns, loads: Loads) -> Columns:
    """The invoices with those of accounts that stopped paying left open; their payments fail.

    `arrears` has the account and the days `since` and `until` between which nothing is paid.
    """
    paid, failed = columns["paid_at"].astype(np.float64), columns["failed_at"].astype(np.float64)
    issued = columns["issued_at"].astype(np.float64)
    for account, since, until in zip(arrears["account"], arrears["since"], arrears["until"], strict=True):
        owed = (columns["account"] == account) & (issued < until) & (paid >= since)
        failed = np.where(owed, np.maximum(issued + 1, np.minimum(since + 2, issued + _TERM_DAYS)), failed)
        paid = np.where(owed, np.nan, paid)
    known = loads.nightly("invoices", columns["account"], issued)
    return {**columns, "paid_at": paid, "failed_at": failed, "known_at": known}
