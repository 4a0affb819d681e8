"""The vehicles' session tokens. Of those that were enrolled before none is known, and their chains begin."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the previous revision to this one."""
    with op.batch_alter_table("vehicles", schema=None) as batch_op:
        batch_op.add_column(sa.Column("session_kept_sha256", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("session_given_sha256", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("last_peer", sa.String(length=100), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("identity_accepted", sa.DateTime(timezone=True), nullable=True))
