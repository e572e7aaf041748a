"""The first ledger: runs, lists, scores, reasons, tokens, covers, and an audit that nobody can rewrite."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_REFUSED = "the audit is append-only"


def upgrade() -> None:
    """Make all tables, and what guards the audit."""
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("command", sa.String(32), nullable=False),
        sa.Column("as_of", sa.String(10)),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("exit_code", sa.Integer),
        sa.Column("said", sa.Text),
        sa.Column("facts", sa.JSON),
    )  # fmt: skip
    op.create_table(
        "risk_lists",
        sa.Column("as_of", sa.String(10), primary_key=True),
        sa.Column("list_id", sa.String(64), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("model_artefact", sa.String(64), nullable=False),
        sa.Column("horizon_days", sa.Integer, nullable=False),
        sa.Column("base_rate", sa.Float),
        sa.Column("heading", sa.Text, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("before", sa.JSON),
    )  # fmt: skip
    op.create_table(
        "account_scores",
        sa.Column("as_of", sa.String(10), primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("rank", sa.Integer),
        sa.Column("is_listed", sa.Boolean, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("csm_id", sa.Text),
        sa.Column("parent_id", sa.Text),
        sa.Column("segment", sa.Text),
        sa.Column("probability", sa.Float),
        sa.Column("raw_score", sa.Float),
        sa.Column("band", sa.String(16)),
        sa.Column("part", sa.String(8)),
        sa.Column("mrr", sa.Float),
        sa.Column("mrr_at_risk", sa.Float),
        sa.Column("days_to_renewal", sa.Integer),
        sa.Column("days_to_notice_deadline", sa.Integer),
        sa.Column("change", sa.String(16)),
        sa.Column("probability_before", sa.Float),
        sa.Column("band_before", sa.String(16)),
        sa.Column("rank_before", sa.Integer),
        sa.Column("moved_by", sa.JSON),
        sa.Column("play", sa.Text),
        sa.Column("play_name", sa.Text),
        sa.Column("play_owner", sa.Text),
        sa.Column("first_step", sa.Text),
        sa.Column("due_date", sa.String(10)),
        sa.Column("phase", sa.String(16)),
        sa.Column("because", sa.Text),
        sa.ForeignKeyConstraint(["as_of"], ["risk_lists.as_of"], ondelete="CASCADE"),
        sa.Index("account_scores_by_account", "account_id", "as_of"),
        sa.Index("account_scores_by_rank", "as_of", "state", "rank"),
        sa.Index("account_scores_by_csm", "as_of", "csm_id"),
    )  # fmt: skip
    op.create_table(
        "account_reasons",
        sa.Column("as_of", sa.String(10), primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("direction", sa.String(4), nullable=False),
        sa.Column("reason_group", sa.String(32), nullable=False),
        sa.Column("feature", sa.String(64), nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("typical", sa.Float),
        sa.Column("contribution", sa.Float, nullable=False),
        sa.Column("is_actionable", sa.Boolean, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["as_of"], ["risk_lists.as_of"], ondelete="CASCADE"),
    )  # fmt: skip
    op.create_table(
        "tokens",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("token_id", sa.String(8), nullable=False, unique=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("csm_id", sa.Text),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("expires_at", sa.DateTime, nullable=False),
        sa.Column("revoked_at", sa.DateTime),
    )  # fmt: skip
    op.create_table(
        "covers",
        sa.Column("csm_id", sa.Text, primary_key=True),
        sa.Column("covered_by", sa.Text, primary_key=True),
        sa.Column("from_date", sa.String(10), primary_key=True),
        sa.Column("to_date", sa.String(10), nullable=False),
    )  # fmt: skip
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("facts", sa.JSON, nullable=False),
    )  # fmt: skip
    _guard_the_audit()


def _guard_the_audit() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("update", "delete"):
            op.execute(
                f"create trigger audit_no_{change} before {change} on audit "
                f"begin select raise(abort, '{_REFUSED}'); end"
            )
        return
    op.execute(
        "create function refuse_audit_change() returns trigger language plpgsql as "
        f"$$ begin raise exception '{_REFUSED}'; end $$"
    )
    op.execute(
        "create trigger audit_append_only before update or delete or truncate on audit "
        "for each statement execute function refuse_audit_change()"
    )
