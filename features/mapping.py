"""Which column of a source is which column of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from zoneinfo import available_timezones

import ibis

from features.errors import ConfigurationError, MissingColumns
from features.schema import Table
from features.settings import TableSource


def mapped_columns(backend: ibis.BaseBackend, table: Table, source: TableSource, raw: str) -> dict[str, str]:
    """Contract column → SQL over the columns of `raw`, for all that the source carries.

    Raises
    ------
    MissingColumns
        A column that the contract requires is not there.
    ConfigurationError
        The mapping names columns that the contract does not have, or contradicts itself.
    """
    found = raw_columns(backend, raw).keys()
    known = {column.name for column in table.columns}
    if strangers := (set(source.columns) | set(source.values)) - known:
        raise ConfigurationError(
            f"[tables.{table.name}] columns and values must name columns of the contract {sorted(known)}; "
            f"found {sorted(strangers)}. Correct the names on the left."
        )
    mapped = {column: (f'"{text}"' if text in found else f"({text})") for column, text in source.columns.items()}
    mapped |= {column: f'"{column}"' for column in sorted(known & found) if column not in mapped}
    missing = [column.name for column in table.columns if column.required and column.name not in mapped]
    missing += [" or ".join(group) for group in table.any_of if not set(group) & set(mapped)]
    if source.period is not None and "period_start" not in mapped:
        missing.append("period_start")
    if missing:
        raise MissingColumns(table.name, missing, found)
    _refuse_periods_without_end(table, source, mapped)
    return mapped


def raw_columns(backend: ibis.BaseBackend, raw: str) -> dict[str, str]:
    """Column → type of a table, view or reader of raw rows."""
    return {row[0]: row[1] for row in backend.raw_sql(f"describe select * from {raw}").fetchall()}


def zone(table: Table, source: TableSource) -> str:
    """The time zone of timestamps that carry none."""
    if source.timezone not in _known_zones():
        raise ConfigurationError(
            f"[tables.{table.name}] timezone must be a name such as 'Europe/Berlin'; found '{source.timezone}'."
        )
    return source.timezone


@cache
def _known_zones() -> set[str]:
    # The list is read from the disk each time it is asked for.
    return available_timezones()


def _refuse_periods_without_end(table: Table, source: TableSource, mapped: Mapping[str, str]) -> None:
    if table.name != "usage" and source.period is not None:
        raise ConfigurationError(
            f"[tables.{table.name}] period must not be set, only usage comes in aggregates; found '{source.period}'."
        )
    if table.name == "usage" and source.period is None and "event_at" not in mapped:
        raise ConfigurationError(
            "[tables.usage] period must say what a row sums up, where rows have a period_start and no event_at; "
            'found none. Write period = "day" or period = "month".'
        )
