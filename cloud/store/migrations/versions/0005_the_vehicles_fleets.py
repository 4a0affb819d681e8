"""The fleets of vehicles and tickets. Vehicles that were enrolled before have none until they say it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the previous revision to this one."""
    for table in ("vehicles", "enrolment_tokens"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("fleet", sa.String(length=32), nullable=True))
