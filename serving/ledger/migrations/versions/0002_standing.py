"""Reasons tell where an account stands among others, and whether their group speaks with one voice."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what older lists do not know."""
    op.add_column("account_reasons", sa.Column("percentile", sa.Float))
    op.add_column("account_reasons", sa.Column("is_mixed", sa.Boolean))
