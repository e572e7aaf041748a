"""What companies call the tables and columns of the data contract. Names are in words: `customer_id`, `invoice_no`."""

from __future__ import annotations

ACCOUNT_IDS = (
    "account_id", "customer_id", "client_id", "company_id", "organization_id", "organisation_id", "org_id", "tenant_id",
    "workspace_id", "account", "customer", "client", "account_no", "customer_no", "account_number", "customer_number",
)  # fmt: skip

TABLES: dict[str, tuple[str, ...]] = {
    "accounts": ("account", "customer", "client", "company", "organization", "organisation", "tenant"),
    "identities": ("identity", "identities", "crosswalk"),
    "contracts": ("contract", "subscription", "license", "licence", "membership", "renewal"),
    "usage": ("usage", "event", "activity", "session", "telemetry", "log", "logins", "metrics", "daily"),
    "tickets": ("ticket", "case", "issue", "helpdesk", "support"),
    "surveys": ("survey", "nps", "csat", "ces", "feedback", "response"),
    "invoices": ("invoice", "payment", "billing", "charge"),
    "touches": ("touch", "touches", "call", "meeting", "interaction", "conversation"),
    "contacts": ("contact", "person", "people", "user"),
    "milestones": ("milestone", "onboarding", "implementation"),
    "incidents": ("incident", "outage", "downtime"),
    "tasks": ("task", "todo", "next_step"),
    "emails": ("email", "mailing", "newsletter"),
    "entitlements": ("entitlement", "module"),
    "opportunities": ("opportunity", "opportunities", "deal", "pipeline"),
    "goals": ("goal", "objective", "okr"),
    "assignments": ("assignment", "ownership"),
    "actions": ("action", "play", "intervention"),
    "health_scores": ("health", "health_score"),
}
"""Words in the name of a file that speak for a table."""

LEAVING = ("churn", "churned", "cancellation", "cancelation", "termination", "offboarding")
"""Words in the name of a file that lists who left."""

LEFT = (
    "churn_date", "churned_at", "churned_on", "churn_at", "churned_date", "ended_at", "ended_on", "actual_end_date",
    "termination_date", "terminated_at", "deactivated_at", "left_on", "left_at", "lost_at", "closed_lost_at",
)  # fmt: skip
"""When an account, or a contract, really ended."""

COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "accounts": {
        "name": ("account_name", "company_name", "customer_name", "client_name", "company", "organization"),
        "segment": ("customer_segment", "account_segment", "company_size", "size_band", "tier"),
        "plan": ("plan_tier", "plan_name", "product_tier", "subscription_type", "package", "edition"),
        "industry": ("vertical", "sector", "branch"),
        "region": ("country", "country_code", "territory", "state", "geo"),
        "csm_id": (
            "csm",
            "csm_assigned",
            "csm_name",
            "csm_email",
            "account_owner",
            "account_manager",
            "owner_id",
            "owner",
        ),
        "parent_id": ("parent_account_id", "parent_account", "parent_company_id"),
        "started_at": (
            "signup_date",
            "signup_at",
            "signed_up_at",
            "sign_up_date",
            "customer_since",
            "joined_at",
            "join_date",
            "registration_date",
            "registered_at",
            "created_at",
            "created_date",
            "start_date",
            "contract_start_date",
        ),
        "employees": ("employee_count", "num_employees", "headcount", "n_employees", "company_employees"),
        "currency": ("currency_code",),
        "churned_at": LEFT,
    },
    "contracts": {
        "contract_id": ("subscription_id", "contract_no", "contract_number", "license_id"),
        "start_at": (
            "start_date",
            "contract_start_date",
            "contract_start",
            "subscription_start_date",
            "started_at",
            "starts_at",
            "begin_date",
            "effective_date",
            "valid_from",
            "activated_at",
            "activation_date",
        ),
        "term_end_at": (
            "contract_end_date",
            "contract_end",
            "term_end_date",
            "term_end",
            "planned_end",
            "planned_end_date",
            "renewal_date",
            "next_renewal_date",
            "renews_at",
            "renews_on",
            "expiry_date",
            "expires_at",
            "expiration_date",
            "current_period_end",
            "end_of_term",
        ),
        "ended_at": LEFT,
        "cancelled_at": (
            "canceled_at",
            "cancelled_on",
            "cancel_date",
            "cancellation_date",
            "notice_date",
            "notice_at",
            "notice_given_at",
        ),
        "signed_at": ("signed_date", "signed_on", "signature_date", "signing_date"),
        "notice_days": ("notice_period_days", "notice_period"),
        "auto_renew": ("auto_renew_flag", "auto_renewal", "is_auto_renew", "autorenew"),
        "term_months": (
            "renewal_months",
            "term_length_months",
            "contract_length_months",
            "contract_months",
            "bill_period_months",
            "billing_period_months",
        ),
        "seats": (
            "seats_licensed",
            "licensed_seats",
            "seat_count",
            "licenses",
            "num_seats",
            "n_seats",
            "licence_count",
        ),
        "plan": ("plan_tier", "plan_name", "product", "product_name", "tier", "package", "edition", "sku"),
        "mrr": (
            "mrr_amount",
            "monthly_recurring_revenue",
            "monthly_revenue",
            "monthly_fee",
            "monthly_price",
            "mrr_usd",
        ),
        "arr": ("arr_amount", "annual_recurring_revenue", "acv", "annual_contract_value", "arr_usd"),
        "end_reason": ("churn_reason", "cancellation_reason", "cancel_reason"),
    },
    "usage": {
        "event_at": (
            "event_time",
            "event_timestamp",
            "occurred_at",
            "timestamp",
            "ts",
            "event_date",
            "usage_date",
            "activity_date",
            "session_start",
            "period_start",
            "date",
            "day",
            "month",
            "created_at",
        ),
        "user_id": ("contact_id", "member_id", "username", "user_email"),
        "feature_id": ("feature", "feature_name", "event_type", "event_name", "event", "action", "module"),
        "quantity": (
            "usage_count",
            "event_count",
            "n_events",
            "num_events",
            "events",
            "logins",
            "login_count",
            "sessions",
            "session_count",
            "actions",
            "count",
            "qty",
        ),
        "minutes": ("duration_minutes", "session_minutes", "minutes_used", "usage_minutes"),
        "n_users": ("active_users", "unique_users", "distinct_users", "num_users", "user_count", "users"),
        "n_features": ("features_used", "distinct_features", "feature_count", "num_features"),
        "is_core": ("core", "is_core_feature"),
        "kind": ("event_kind", "event_type", "event_name"),
    },
    "tickets": {
        "ticket_id": ("case_id", "case_number", "issue_id", "ticket_number", "ticket_no", "id"),
        "opened_at": (
            "created_at",
            "created_date",
            "created_on",
            "submitted_at",
            "opened_date",
            "open_date",
            "reported_at",
            "ticket_date",
            "date",
        ),
        "first_response_at": ("first_reply_at", "first_responded_at", "first_response_date"),
        "resolved_at": ("solved_at", "resolved_date", "resolution_date", "resolved_on"),
        "closed_at": ("closed_date", "close_date", "closed_on"),
        "severity": ("priority", "urgency", "sev", "ticket_priority", "impact"),
        "topic": ("category", "ticket_category", "issue_type", "ticket_type", "type", "reason"),
        "channel": ("source", "ticket_channel"),
        "escalated": ("escalation_flag", "is_escalated", "was_escalated", "escalation"),
        "csat": (
            "csat_score",
            "satisfaction_score",
            "satisfaction",
            "satisfaction_rating",
            "customer_satisfaction",
            "rating",
        ),
        "sla_hours": ("sla", "sla_target_hours"),
    },
    "surveys": {
        "kind": ("survey_type", "type", "metric"),
        "contact_id": ("respondent_id", "user_id", "respondent_email"),
        "score": ("nps_score", "csat_score", "ces_score", "nps", "csat", "ces", "rating", "answer"),
        "sent_at": ("sent_date", "invited_at", "invitation_date"),
        "responded_at": (
            "response_date",
            "responded_on",
            "survey_date",
            "answered_at",
            "submitted_at",
            "completed_at",
            "date",
            "created_at",
        ),
        "comment": ("feedback", "feedback_text", "verbatim", "text"),
    },
    "invoices": {
        "invoice_id": ("invoice_no", "invoice_number", "payment_id", "order_id", "order_no", "id"),
        "amount": ("invoice_amount", "amount_due", "total", "total_amount", "net_amount", "amount_usd"),
        "issued_at": ("invoice_date", "issue_date", "issued_on", "created_at", "billing_date", "date"),
        "due_at": ("due_date", "due_on"),
        "paid_at": ("paid_date", "payment_date", "paid_on"),
        "failed_at": ("failed_date", "payment_failed_at"),
        "currency": ("currency_code",),
    },
    "touches": {"event_at": ("date", "call_date", "meeting_date", "occurred_at", "created_at"), "kind": ("type",)},
    "contacts": {"role": ("title", "job_title", "contact_role"), "contact_id": ("user_id", "person_id", "email")},
    "milestones": {"step": ("milestone", "step_name", "name"), "completed_at": ("completed_date", "done_at")},
    "incidents": {"started_at": ("start_date", "start_time"), "ended_at": ("end_date", "end_time", "resolved_at")},
    "tasks": {"event_at": ("created_at", "created_date"), "due_at": ("due_date",), "done_at": ("completed_at",)},
    "emails": {"event_at": ("sent_at", "sent_date", "date")},
    "opportunities": {"opened_at": ("created_at", "created_date"), "closed_at": ("close_date", "closed_date")},
    "health_scores": {"scored_at": ("date", "score_date", "created_at"), "score": ("health_score", "health")},
}
"""Contract column → what else it is called, the surest name first; its own name always counts."""

ENDS = ("end_date", "end_at", "ends_at", "end", "valid_to", "valid_until", "period_end")
"""An end that may be planned or real: whether rows lack it tells."""

DURATIONS: dict[str, dict[str, str]] = {
    "tickets": {"resolved_at": r"(resol|solve|close|handl)", "first_response_at": r"first_(resp|repl)"},
    "usage": {"minutes": r"(duration|time_spent|session_length)"},
}
"""Contract column → pattern of a column that gives it as a duration; its unit stands at the end of the name."""

UNITS = {
    "seconds": ("seconds", "second", "secs", "sec", "s"),
    "minutes": ("minutes", "minute", "mins", "min"),
    "hours": ("hours", "hour", "hrs", "hr", "h"),
    "days": ("days", "day", "d"),
}

SEVERITY = {
    "critical": 1, "urgent": 1, "blocker": 1, "highest": 1, "emergency": 1, "p0": 1, "p1": 1, "sev0": 1, "sev1": 1,
    "high": 2, "major": 2, "p2": 2, "sev2": 2,
    "medium": 3, "normal": 3, "moderate": 3, "standard": 3, "p3": 3, "sev3": 3,
    "low": 4, "minor": 4, "lowest": 4, "trivial": 4, "p4": 4, "p5": 4, "sev4": 4,
}  # fmt: skip
"""Words for how bad a ticket is, 1 worst."""

PRICES = ("unit_price", "price", "price_per_unit", "item_price")
QUANTITIES = ("quantity", "qty", "units", "item_count")
"""Of a line of a purchase: what it costs is their product."""
