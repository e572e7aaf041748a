"""Outages that hit the account.

Source: `incidents`, a row per outage and account in the version known at `as_of`.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.family import Family, Feature
from features.tables import Tables
from features.windows import newest_before


def incidents_known(tables: Tables, instants: ir.Table) -> ir.Table:
    """Each outage of an account in the version known at the instant."""
    incidents = tables["incidents"]
    # Without an id, an outage is known by the moment it began.
    named = incidents.mutate(key=ibis.coalesce(incidents.incident_id, incidents.started_at.cast("string")))
    outage = newest_before(named, instants, "key")
    cause = outage.cause.strip().lower().nullif("")
    return outage.mutate(outage=ibis.literal(1), cause=cause, has_cause=cause.notnull().cast("int8"))


INCIDENTS = Family(
    name="incidents",
    source="incidents",
    owner="reliability engineering",
    rows=incidents_known,
    features=(
        Feature(
            name="incidents_91d",
            formula=lambda outage: outage.outage.sum(),
            label="outages in the last 91 days",
            meaning="Outages that hit the account and began in the 91 days before `as_of`.",
            unit="outages", window=91, missing="Z", sign=1, group="reliability", actionable=True,
            examples=(
                example(2, "one of them in two versions",
                        incidents="incident_id started_at known_at; i -91 -90; i -91 -80; j -1 -1; k -92 -92; l -1 1"),
                example(2, "told apart by their beginning", incidents="started_at; -9; -9@08:00"),
                example(0, "at the instant", incidents="started_at; 0"),
            ),
        ),
        Feature(
            name="repeat_incident_182d",
            formula=lambda outage: outage.has_cause.sum() - outage.cause.nunique(),
            label="outages of a cause that had struck before, 182 days",
            meaning="Outages of 182 days whose cause had already hit the account within them.",
            unit="outages", window=182, missing="Z", sign=1, group="reliability", actionable=True,
            needs=("incidents.cause",),
            examples=(
                example(2, "disk three times, net once",
                        incidents="started_at cause; -182 disk; -90 Disk; -1 disk; -5 net; -183 net; -7 .; -8 ."),
                example(0, "different causes", incidents="started_at cause; -9 disk; -8 network"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (INCIDENTS,)
