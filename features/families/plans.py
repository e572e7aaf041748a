"""What is planned with the account and what was agreed: next actions and goals.

Source: `tasks` and `goals` in the version known at `as_of`; a task done at or after `as_of` is open.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.engagement import one
from features.family import Family, Feature, Measure, ratio
from features.tables import Tables
from features.windows import known_before, known_outcome, newest_before


def _tasks(tables: Tables, instants: ir.Table) -> ir.Table:
    tasks = _versions(tables["tasks"], instants, "task_id")
    is_open = known_outcome(tasks.done_at, tasks.as_of).isnull()
    return tasks.mutate(open_task=one(is_open), overdue=one(is_open & (tasks.due_at < tasks.as_of)))


def _goals(tables: Tables, instants: ir.Table) -> ir.Table:
    goals = _versions(tables["goals"], instants, "goal_id")
    return goals.mutate(agreed=one(goals.target.notnull()), met=one(goals.actual >= goals.target))


def _versions(events: ir.Table, instants: ir.Table, key: str) -> ir.Table:
    """The newest version of each row; one without an id is its own."""
    named = newest_before(events.filter(events[key].notnull()), instants, key)
    return ibis.union(named, known_before(events.filter(events[key].isnull()), instants))


_TASKS = "task_id event_at due_at done_at; "

TASKS = Family(
    name="tasks",
    source="tasks",
    owner="customer success operations",
    rows=_tasks,
    measures=(Measure("open_tasks", lambda task: task.open_task.sum()),),
    features=(
        Feature(
            name="overdue_tasks",
            formula=lambda task: task.overdue.sum(),
            label="tasks overdue",
            meaning="Tasks and meetings not done at `as_of` that were due before it.",
            unit="tasks", missing="Z", sign=1, group="engagement", actionable=True,
            needs=("tasks.done_at",),
            examples=(
                example(2, "done at the instant, not done", tasks=_TASKS + "t -30 -9 0; u -30 -1 ."),
                example(0, "done, due at the instant", tasks=_TASKS + "t -30 -9 -1; u -30 0 ."),
                example(1, "done in a later version; without ids",
                        tasks="task_id event_at due_at done_at known_at; t -30 -9 . -30; t -30 -9 -8 -8; "
                        ". -30 -9 . -30; . -30 -9 -8 -8"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="has_no_next_action",
            formula=lambda row: row.open_tasks == 0,
            label="no next action planned",
            meaning="No task or meeting is open at `as_of`; an overdue one is still open.",
            unit="0/1", missing="F", sign=1, group="engagement", actionable=True,
            needs=("tasks.done_at",),
            examples=(
                example(1, "all done", tasks=_TASKS + "t -30 9 -1"),
                example(1, "no task ever"),
                example(0, "due later, done at the instant", tasks=_TASKS + "t -30 9 0"),
                example(1, "planned at the instant", tasks="task_id event_at due_at; t 0 9"),
            ),
        ),
    ),
)  # fmt: skip

GOALS = Family(
    name="goals",
    source="goals",
    owner="customer success operations",
    rows=_goals,
    measures=(
        Measure("goals_agreed", lambda goal: goal.agreed.sum()),
        Measure("goals_met", lambda goal: goal.met.sum()),
    ),
    ratios=(
        Feature(
            name="goals_attained_share",
            formula=lambda row: ratio(row.goals_met, row.goals_agreed),
            label="share of the account's goals met",
            meaning="Goals whose actual value reaches the target / goals with a target, as known at `as_of`.",
            unit="share", missing="D", sign=-1, group="adoption", actionable=True,
            needs=("goals.target", "goals.actual"),
            examples=(
                example(0.5, goals="goal_id event_at target actual; g -99 10 10; h -99 10 9; i -99 10 .; j -9 1 2"),
                example(0, "met in a version learned later",
                        goals="goal_id event_at target actual known_at; g -99 10 4 -99; g -99 10 11 1"),
                example(None, "no target", goals="goal_id event_at target actual; g -99 . 5; h 0 1 1"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (TASKS, GOALS)
