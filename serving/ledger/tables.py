"""The tables of the ledger. All instants are UTC; `as_of` is a day, for its midnight.

A change here needs a migration beside it: `migrations/versions/` holds one a change, and a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)  # fmt: skip

metadata = MetaData()

runs = Table(
    "runs", metadata,
    Column("run_id", String(32), primary_key=True),
    Column("command", String(32), nullable=False),
    Column("as_of", String(10)),
    Column("started_at", DateTime, nullable=False),
    Column("ended_at", DateTime),
    Column("exit_code", Integer),
    Column("said", Text),
    Column("facts", JSON),
)  # fmt: skip
"""Each night's work: when it began, how it ended, what it said."""

risk_lists = Table(
    "risk_lists", metadata,
    Column("as_of", String(10), primary_key=True),
    Column("list_id", String(64), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("model_artefact", String(64), nullable=False),
    Column("horizon_days", Integer, nullable=False),
    Column("base_rate", Float),
    Column("heading", Text, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("before", JSON),
)  # fmt: skip
"""One list per instant: the one in force."""

account_scores = Table(
    "account_scores", metadata,
    Column("as_of", String(10), primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("model_version", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("rank", Integer),
    Column("is_listed", Boolean, nullable=False),
    Column("name", Text),
    Column("csm_id", Text),
    Column("parent_id", Text),
    Column("segment", Text),
    Column("probability", Float),
    Column("raw_score", Float),
    Column("band", String(16)),
    Column("part", String(8)),
    Column("mrr", Float),
    Column("mrr_at_risk", Float),
    Column("days_to_renewal", Integer),
    Column("days_to_notice_deadline", Integer),
    Column("change", String(16)),
    Column("probability_before", Float),
    Column("band_before", String(16)),
    Column("rank_before", Integer),
    Column("moved_by", JSON),
    Column("play", Text),
    Column("play_name", Text),
    Column("play_owner", Text),
    Column("first_step", Text),
    Column("due_date", String(10)),
    Column("phase", String(16)),
    Column("because", Text),
    ForeignKeyConstraint(["as_of"], ["risk_lists.as_of"], ondelete="CASCADE"),
    Index("account_scores_by_account", "account_id", "as_of"),
    Index("account_scores_by_rank", "as_of", "state", "rank"),
    Index("account_scores_by_csm", "as_of", "csm_id"),
)  # fmt: skip
"""Every account of a list: scored, leaving, or excluded with the reason."""

account_reasons = Table(
    "account_reasons", metadata,
    Column("as_of", String(10), primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("direction", String(4), nullable=False),
    Column("reason_group", String(32), nullable=False),
    Column("feature", String(64), nullable=False),
    Column("value", Float),
    Column("typical", Float),
    Column("percentile", Float),
    Column("contribution", Float, nullable=False),
    Column("is_actionable", Boolean, nullable=False),
    Column("is_mixed", Boolean),
    Column("sentence", Text, nullable=False),
    ForeignKeyConstraint(["as_of"], ["risk_lists.as_of"], ondelete="CASCADE"),
)  # fmt: skip

tokens = Table(
    "tokens", metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("token_id", String(8), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("csm_id", Text),
    Column("sha256", String(64), nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("expires_at", DateTime, nullable=False),
    Column("revoked_at", DateTime),
)  # fmt: skip
"""Who may ask. Hashes only; all instants of the ledger are UTC."""

covers = Table(
    "covers", metadata,
    Column("csm_id", Text, primary_key=True),
    Column("covered_by", Text, primary_key=True),
    Column("from_date", String(10), primary_key=True),
    Column("to_date", String(10), nullable=False),
)  # fmt: skip
"""Whose book somebody else sees, and on which days: holidays, illness."""

audit = Table(
    "audit", metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", DateTime, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text),
    Column("facts", JSON, nullable=False),
)  # fmt: skip
"""Who did what; rows cannot be changed or deleted."""
