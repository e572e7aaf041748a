"""How requests are served: times to answer and resolve, promises kept, contact shares."""

from __future__ import annotations

from collections.abc import Sequence

from features.metrics.checks import amount, quotient, share
from features.metrics.durations import survival_median


def resolution_time(hours: Sequence[float], done: Sequence[bool]) -> float | None:
    """Median hours from opening to resolution; an open ticket counts as at least its age, never as absent."""
    return survival_median(hours, done)


def first_response(hours: Sequence[float], done: Sequence[bool]) -> float | None:
    """Median hours from opening to the first answer by a person; unanswered tickets count as at least their age."""
    return survival_median(hours, done)


def sla_share(tickets: Sequence[tuple[float, bool]], limit: float) -> float | None:
    """Answered within the limit / (answered + unanswered past the limit).

    Parameters
    ----------
    tickets : hours to the answer and True, or hours waited so far and False
    limit : hours; a ticket that still waits within them is not due and does not count
    """
    due = [
        (hours, answered) for hours, answered in tickets if answered or amount("hours", hours) > amount("limit", limit)
    ]
    met = sum(answered and amount("hours", hours) <= limit for hours, answered in due)
    return met / len(due) if due else None


def call_service_level(in_limit: float, incoming: float, early_abandoned: float = 0) -> float | None:
    """Calls answered within the limit / (incoming - given up early by the caller, within the limit)."""
    share(("calls abandoned early", early_abandoned), ("incoming calls", incoming))
    return share(("calls in the limit", in_limit), ("calls that waited", incoming - early_abandoned))


def touches_per_resolution(touches: float, resolved: float) -> float | None:
    """Contacts / resolved requests."""
    return quotient(("touches", touches), ("resolved requests", resolved))


def reopen_rate(reopened: float, closed: float) -> float | None:
    """Reopened / closed requests."""
    return share(("reopened requests", reopened), ("closed requests", closed))


def complaint_share(complaints: float, contacts: float) -> float | None:
    """Complaints / contacts, or complaining accounts / accounts: both of one unit."""
    return share(("complaints", complaints), ("contacts", contacts))


def contacted_share(contacted: float, flagged: float) -> float | None:
    """Flagged accounts that were contacted / flagged accounts."""
    return share(("accounts contacted", contacted), ("accounts flagged", flagged))


def proactive_share(proactive: float, touches: float) -> float | None:
    """Touches that we began, to help / all touches."""
    return share(("proactive touches", proactive), ("touches", touches))


def closed_loop_rate(told: float, feedback: float) -> float | None:
    """Feedback whose sender was told what was done / all feedback."""
    return share(("feedback answered with its outcome", told), ("feedback", feedback))
