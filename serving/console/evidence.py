"""Which part of an account's page shows what a reason speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

USE = "use"
"""The id of the chart of use."""
SHOWN = 25
"""Events that are shown at once; the others unfold."""
_SPEAKS_OF: Mapping[str, tuple[str, ...]] = {
    "usage": (USE,),
    "adoption": (USE,),
    "support": ("support",),
    "effort": ("support",),
    "reliability": ("reliability", "support"),
    "sentiment": ("sentiment",),
    "billing": ("billing",),
    "commercial": ("commercial",),
    "relationship": ("relationship",),
    "onboarding": ("onboarding",),
}
"""Group of a reason to the groups of events that may be its evidence, the best first."""

Told = Mapping[str, Any]


def evidence(timeline: Told) -> dict[str, str]:
    """Group of a reason to the id of the place on the page that shows it; a group without evidence is left out.

    Parameters
    ----------
    timeline : as `timeline_of` gives it
    """
    there = {event["group"] for event in timeline["events"]}
    if any(week["active_days"] is not None for week in timeline["weeks"]):
        there.add(USE)
    found = {group: next((about for about in ways if about in there), None) for group, ways in _SPEAKS_OF.items()}
    return {group: about for group, about in found.items() if about is not None}


def split(events: list[dict[str, Any]], places: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """`planned`, soonest first; `past`, newest first; and `earlier`, those of the past that are not shown at once.

    The newest event of each group that a reason can point to carries its id as `anchor` and is always shown.
    """
    past = [event for event in events if not event["is_planned"]]
    planned = [event for event in reversed(events) if event["is_planned"]]
    waiting = set(places.values())
    marked = []
    for event in [*past, *planned]:
        marked.append({**event, "anchor": event["group"] if event["group"] in waiting else None})
        waiting.discard(event["group"])
    shown, planned = marked[: len(past)], marked[len(past) :]
    return {
        "planned": planned,
        "past": [event for place, event in enumerate(shown) if place < SHOWN or event["anchor"]],
        "earlier": [event for event in shown[SHOWN:] if not event["anchor"]],
    }
