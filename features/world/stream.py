"""A generated company of any size for measurements: accounts, contracts, and usage written month by month.

It has no truth and no pressures: accounts that leave use the product less in their last months, and that is all.
Rows are drawn, written and forgotten a batch at a time, so that memory does not grow with the number of events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.world.rows import instants
from features.world.state import SEGMENTS, Ints, Traits, account_ids, draw_traits, generator, month_starts
from features.world.usage import CORE, FEATURES

_BATCH_ROWS = 500_000
_POOL_BITS, _FEATURE_BITS, _QUANTITY_BITS = 20, 12, 10
_LEAVES, _STAYS = 0.012, 240
"""Share of accounts whose last month a month is, and the last month of those that stay."""
_FADING_MONTHS, _FADED = 3, 0.35
_KINDS = ("action", "login", "export", "integration", "help_view", "job_failed")
_KIND_OF_FEATURE = np.array([0] * len(CORE) + [1, 0, 2, 3, 4, 5], dtype=np.int8)
_FEATURE_SHARES = np.array([*[0.6 / len(CORE)] * len(CORE), 0.19, 0.12, 0.02, 0.03, 0.03, 0.01])
_SETTINGS = """[tables.accounts]
path = "accounts.parquet"

[tables.contracts]
path = "contracts.parquet"

[tables.usage]
path = "usage/*.parquet"
"""


def write_usage(
    folder: Path, *, accounts: int, months: int, events: int, seed: int = 7, start: date = date(2024, 1, 1)
) -> None:
    """Write accounts, contracts, `events` rows of usage in a file a month, and a `tenure.toml`; same seed, same bytes.

    Raises
    ------
    ValueError
        There is no account, month or event, or `start` is not the first of a month.
    """
    if min(accounts, months, events) < 1 or start.day != 1:
        raise ValueError(
            "A company must have accounts, months and events and start on the first of a month; "
            f"found {accounts}, {months}, {events}, {start}."
        )
    market = _Market(accounts, months, seed, start)
    (folder / "usage").mkdir(parents=True, exist_ok=True)
    pq.write_table(market.accounts(), folder / "accounts.parquet")
    pq.write_table(market.contracts(), folder / "contracts.parquet")
    shares = np.diff(np.linspace(0, events, months + 1).astype(np.int64))
    for month, rows in enumerate(shares.tolist()):
        first, last = month_starts(start, [month, month + 1])
        name = np.datetime64(start, "M") + np.timedelta64(month, "M")
        with pq.ParquetWriter(folder / "usage" / f"{name}.parquet", _SCHEMA, **_WRITING) as writer:
            for batch in market.usage(month, (first, last), rows):
                writer.write_batch(batch)
    (folder / "tenure.toml").write_text(_SETTINGS, encoding="utf-8")


_IDS = pa.dictionary(pa.int32(), pa.string())
_TEXTS = pa.dictionary(pa.int8(), pa.string())
_INSTANT = pa.timestamp("us")
_SCHEMA = pa.schema(
    [
        ("account_id", _IDS),
        ("user_id", _IDS),
        ("event_at", _INSTANT),
        ("feature_id", _TEXTS),
        ("kind", _TEXTS),
        ("is_core", pa.bool_()),
        ("is_error", pa.bool_()),
        ("quantity", pa.int32()),
        ("minutes", pa.float32()),
        ("known_at", _INSTANT),
    ]
)


_WRITING: dict[str, Any] = {
    "use_dictionary": ["account_id", "user_id", "feature_id", "kind", "quantity", "known_at"],
    "column_encoding": {"event_at": "DELTA_BINARY_PACKED"},
    # Smallest and largest id of a batch help no query, and to find them takes as long as to write the rest.
    "write_statistics": ["event_at", "known_at"],
    # The ids of all users stand on one page: those of a million fill twenty megabytes.
    "dictionary_pagesize_limit": 2**26,
}


@dataclass(frozen=True)
class _Lots:
    """Values to look up by random bits: a table of 2^n entries holds each value as often as it is likely."""

    feature: npt.NDArray[np.int8]
    quantity: npt.NDArray[np.int32]


class _Market:
    """The accounts and their users, and in which months they are there."""

    def __init__(self, accounts: int, months: int, seed: int, start: date) -> None:
        self._traits: Traits = draw_traits(accounts, seed)
        self._seed, self._start, self._months = seed, start, months
        random, users = generator(seed, 0, "stream"), self._traits.users
        joins = self._traits.joins
        stays = 3 + np.floor(np.log1p(-random.random(accounts)) / np.log1p(-_LEAVES)).astype(np.int64)
        self._joins, self._leaves = joins, np.minimum(np.maximum(joins, 0) + stays, _STAYS)
        self._mrr = users * np.round(random.uniform(18, 45, accounts))
        self._account = np.repeat(np.arange(accounts, dtype=np.int32), users)
        self._weight = np.exp(0.8 * random.normal(size=len(self._account)) + self._traits.intensity[self._account])
        place = np.arange(len(self._account)) - np.repeat(np.cumsum(users) - users, users)
        names = account_ids(accounts)
        self._names = pa.array(names)
        pairs = zip(self._account.tolist(), place.tolist(), strict=True)
        self._users = pa.array([f"{names[account]}-u{number:02d}" for account, number in pairs])
        quantity = 1 + np.floor(-9 * np.log1p(-random.random(2**_QUANTITY_BITS)))
        feature = np.searchsorted(np.cumsum(_FEATURE_SHARES), np.arange(2**_FEATURE_BITS) / 2**_FEATURE_BITS, "right")
        self._lots = _Lots(feature.astype(np.int8), quantity.astype(np.int32))

    def accounts(self) -> pa.Table:
        """The accounts that joined before the end."""
        known = np.flatnonzero(self._joins < self._months)
        segment = pa.array(SEGMENTS).take(pa.array(self._traits.segment))
        table = pa.table({"account_id": self._names, "segment": segment, "started_at": self._instants(self._joins)})
        return table.take(pa.array(known))

    def contracts(self) -> pa.Table:
        """A contract an account, with a second version for those that left."""
        known = np.flatnonzero(self._joins < self._months)
        left = np.flatnonzero(self._leaves < self._months)
        who = np.concatenate([known, left[self._joins[left] < self._months]])
        has_left = np.arange(len(who)) >= len(known)
        start, leaves = self._joins[who], self._leaves[who]
        terms = np.where(has_left, leaves, start + 12 * (1 + np.maximum(self._months - start, 0) // 12))
        told = {"cancelled_at": leaves - 1, "ended_at": leaves}
        columns = {
            "account_id": self._names.take(pa.array(who)),
            "contract_id": pa.array([f"con-{number:05d}" for number in who.tolist()]),
            "start_at": self._instants(start),
            "term_end_at": self._instants(terms),
            "signed_at": self._instants(start),
            "seats": pa.array(self._traits.users[who]),
            "mrr": pa.array(self._mrr[who]),
            "known_at": self._instants(np.where(has_left, leaves, start)),
        }
        for name, at in told.items():
            columns[name] = self._instants(np.where(has_left, at, np.nan))
        return pa.table(columns)

    def _instants(self, months: npt.NDArray[np.generic]) -> pa.Array:
        """The first days of months, counted from the start; NaN where there is none."""
        months = months.astype(np.float64)
        days = month_starts(self._start, np.nan_to_num(months).astype(np.int64))
        return instants(np.where(np.isnan(months), np.nan, days), self._start)

    def usage(self, month: int, span: tuple[float, float], rows: int) -> Iterator[pa.RecordBatch]:
        """The events of a month, in batches that follow one another in time."""
        random = generator(self._seed, month, "stream")
        pool = self._pool(month, random)
        edges = np.linspace(*span, -(-rows // _BATCH_ROWS) + 1)
        for first, last, size in zip(edges, edges[1:], _sizes(rows), strict=False):
            yield self._batch(random, pool, (float(first), float(last)), size)

    def _pool(self, month: int, random: np.random.Generator) -> npt.NDArray[np.int32]:
        """2^20 users of the month, each as often as they use the product."""
        present = (self._joins <= month) & (month < self._leaves)
        fades = np.where(self._leaves - month <= _FADING_MONTHS, _FADED, 1.0)
        weight = self._weight * (present * fades)[self._account]
        edges = np.cumsum(weight / weight.sum())
        places = (np.arange(2**_POOL_BITS) + random.random()) / 2**_POOL_BITS
        return np.asarray(np.minimum(np.searchsorted(edges, places), len(edges) - 1).astype(np.int32))

    def _batch(
        self, random: np.random.Generator, pool: npt.NDArray[np.int32], span: tuple[float, float], rows: int
    ) -> pa.RecordBatch:
        who, what = random.integers(0, 2**63, (2, rows), dtype=np.uint64)
        user = pool[_bits(who, 0, _POOL_BITS)]
        day = np.floor(span[0] + _bits(who, 20, 22) * ((span[1] - span[0]) / 2**22)).astype(np.int64)
        second = 25_200 + (_bits(who, 42, 20) * 43_200 >> 20)
        feature = self._lots.feature[_bits(what, 0, _FEATURE_BITS)]
        kind = _KIND_OF_FEATURE[feature]
        quantity = self._lots.quantity[_bits(what, _FEATURE_BITS, _QUANTITY_BITS)]
        minutes = quantity * (1.5 + _bits(what, 22, 8).astype(np.float32) / 128)
        seconds = np.int64(np.datetime64(self._start, "s").astype(np.int64)) + day * 86_400 + second
        # Loaded by the hour.
        known = -(-seconds // 3600) * 3600
        columns = [
            pa.DictionaryArray.from_arrays(self._account[user], self._names),
            pa.DictionaryArray.from_arrays(user, self._users),
            pa.array(seconds * 1_000_000).view(_INSTANT),
            pa.DictionaryArray.from_arrays(feature, pa.array(FEATURES)),
            pa.DictionaryArray.from_arrays(kind, pa.array(_KINDS)),
            pa.array(feature < len(CORE)),
            pa.array((kind == 5) | (_bits(what, 30, 8) < 5)),
            pa.array(quantity),
            pa.array(minutes.astype(np.float32)),
            pa.array(known * 1_000_000).view(_INSTANT),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)


def _sizes(rows: int) -> list[int]:
    """Rows of each batch."""
    batches = -(-rows // _BATCH_ROWS)
    return [int(size) for size in np.diff(np.linspace(0, rows, batches + 1).astype(np.int64))]


def _bits(words: npt.NDArray[np.uint64], first: int, count: int) -> Ints:
    """Some bits of each word as whole numbers."""
    return np.asarray(((words >> np.uint64(first)) & np.uint64(2**count - 1)).astype(np.int64))
