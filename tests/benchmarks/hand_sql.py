"""The usage features written by hand as one statement of DuckDB: the limit that the catalogue is measured against.

It reads the same roll-ups, or the raw events, and computes the same columns for the same instants.
"""

from __future__ import annotations

ROLLED = {
    "account_days": "select * from read_parquet({account_days})",
    "user_days": "select * from read_parquet({user_days})",
    "feature_days": "select * from read_parquet({feature_days})",
}

_KNOWN = "date_trunc('day', known_at + interval 1 day - interval 1 microsecond)::timestamp"
_RAW = """
    select account_id, user_id, feature_id, kind, is_error, date_trunc('day', event_at)::timestamp as event_at,
        {known} as known_at, quantity::decimal(18, 6) as quantity, minutes::decimal(18, 6) as minutes,
        case when is_core then quantity else 0 end::decimal(18, 6) as core
    from read_parquet({events})
"""

FROM_EVENTS = {
    "account_days": f"""select account_id, event_at, known_at, count(*) as events, sum(core) as core,
        sum(minutes) as minutes, count(*) filter (is_error) as errors,
        count(*) filter (kind = 'export') as exports, count(*) filter (kind = 'job_failed') as failed_jobs
        from ({_RAW}) group by all""",
    "user_days": f"select account_id, user_id, event_at, known_at, count(*) as events from ({_RAW}) group by all",
    "feature_days": f"""select account_id, feature_id, kind, event_at, known_at, count(*) as events, sum(core) as core
        from ({_RAW}) group by all""",
}


def statement(sources: dict[str, str], instants: list[str], entitlements: str, contracts: str) -> str:
    """The statement over three sources of days; `instants` are SQL timestamps."""
    times = ", ".join(f"(timestamp '{instant}')" for instant in instants)
    befores = ", ".join(
        f"sum(core) filter (age between {28 * n + 1} and {28 * n + 28}) as before_{n}" for n in range(1, 7)
    )
    mean = " + ".join(f"coalesce(before_{n}, 0)" for n in range(1, 7))
    spread = " + ".join(f"(coalesce(before_{n}, 0)::double - m) ** 2" for n in range(1, 7))
    seen = "d.event_at < i.as_of and d.known_at <= i.as_of"
    return f"""
with instants(as_of) as (values {times}),
account_days as materialized ({sources["account_days"]}),
user_days as ({sources["user_days"]}),
feature_days as ({sources["feature_days"]}),
roster as (
    select c.account_id, as_of, seats, date_diff('day', c.start_at, as_of) as tenure
    from read_parquet('{contracts}') c, instants
),
recent as (
    select account_id, as_of, date_diff('day', event_at, as_of) as age, d.* exclude (account_id)
    from account_days d join instants i on {seen} and d.event_at >= i.as_of - interval 196 day
),
use as (
    select account_id, as_of,
        count(distinct event_at) filter (age <= 28) as active_days, sum(failed_jobs) filter (age <= 28) as failed_jobs,
        sum(exports) filter (age <= 28) as exports, sum(core) filter (age <= 28) as core_28,
        sum(core) filter (age <= 91) as core_91, sum(minutes) filter (age <= 28) as minutes,
        sum(events) filter (age <= 7) as events_7, sum(events) filter (age <= 28) as events_28,
        sum(errors) filter (age <= 7) as errors_7, sum(errors) filter (age <= 28) as errors_28, {befores}
    from recent group by account_id, as_of
),
recency as (
    select account_id, as_of, min(date_diff('day', event_at, as_of)) as last_use,
        min(date_diff('day', event_at, as_of)) filter (core > 0) as last_core
    from account_days d join instants i on {seen} group by account_id, as_of
),
people as (
    select account_id, as_of, user_id, bool_or(age <= 7) as week, bool_or(age <= 28) as month,
        bool_or(age > 28) as before
    from (
        select account_id, user_id, as_of, date_diff('day', event_at, as_of) as age
        from user_days d join instants i on {seen} and d.event_at >= i.as_of - interval 56 day
    ) group by account_id, as_of, user_id
),
users as (
    select account_id, as_of, count(*) filter (week) as users_7, count(*) filter (month) as users_28,
        count(*) filter (before) as users_before, count(*) filter (before and not month) as users_lost
    from people group by account_id, as_of
),
features as (
    select account_id, feature_id, kind, as_of, date_diff('day', event_at, as_of) as age, core
    from feature_days d join instants i on {seen} and d.event_at >= i.as_of - interval 91 day
),
integrations as (
    select account_id, as_of, count(distinct feature_id) as integrations
    from features where kind = 'integration' and age <= 28 group by account_id, as_of
),
used as (
    select account_id, as_of, feature_id, coalesce(sum(core) filter (age <= 28), 0) > 0 as core_used
    from features group by account_id, as_of, feature_id
),
bought as (
    select e.account_id, i.as_of, count(*) as bought, count(*) filter (core_used) as core_used,
        count(distinct module_id) - count(distinct module_id) filter (u.feature_id is not null) as unused
    from read_parquet('{entitlements}') e cross join instants i
    left join used u on u.account_id = e.account_id and u.as_of = i.as_of and u.feature_id = e.feature_id
    group by e.account_id, i.as_of
),
joined as (
    select r.*, use.* exclude (account_id, as_of), users.* exclude (account_id, as_of), integrations, bought.bought,
        bought.core_used, unused, last_use, last_core, ({mean})::double / 6 as m
    from roster r left join use using (account_id, as_of) left join users using (account_id, as_of)
    left join recency using (account_id, as_of) left join integrations using (account_id, as_of)
    left join bought using (account_id, as_of)
)
select account_id, as_of,
    coalesce(active_days, 0)::double as active_days_28d,
    coalesce(failed_jobs, 0)::double as failed_jobs_28d,
    coalesce(exports, 0)::double as bulk_exports_28d,
    ln((coalesce(core_28, 0)::double + 1)
        / ((coalesce(core_91, 0) - coalesce(core_28, 0))::double * 28 / 63 + 1)) as usage_trend_28v91,
    (coalesce(core_28, 0)::double - m) / (sqrt(({spread}) / 6) + 1) as usage_own_z_28d,
    errors_7::double / nullif(events_7, 0)::double
        - errors_28::double / nullif(events_28, 0)::double as error_rate_7v28,
    last_use::double as days_since_last_login,
    last_core::double as days_since_core_use,
    case when last_core is null then tenure >= 90 else last_core > 90 end::int::double as is_frozen_90d,
    coalesce(users_7, 0)::double as active_users_7d,
    coalesce(users_28, 0)::double as active_users_28d,
    users_lost::double / nullif(users_before, 0)::double as users_lost_share_28d,
    core_28::double / nullif(users_28, 0)::double as core_actions_per_user_28d,
    users_7::double / nullif(users_28, 0)::double as wau_mau_ratio_28d,
    coalesce(users_28, 0)::double / nullif(seats, 0)::double as seat_utilisation_28d,
    minutes::double / nullif(users_28, 0)::double as active_minutes_28d,
    coalesce(integrations, 0)::double as integrations_active_28d,
    unused::double as modules_unused_91d,
    core_used::double / nullif(bought, 0)::double as feature_breadth_ratio_28d
from joined order by as_of, account_id""".replace("{known}", _KNOWN)
