"""How long vehicles drove: drift alarms are compared by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the previous revision to this one."""
    with op.batch_alter_table("vehicles", schema=None) as batch_op:
        batch_op.add_column(sa.Column("driven_s", sa.Double(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("run_driven_ns", sa.BigInteger(), nullable=False, server_default="0"))
    with op.batch_alter_table("drift_events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("driven_s", sa.Double(), nullable=True))
        batch_op.create_index(
            batch_op.f("ix_drift_events_vehicle_driven_s"), ["vehicle", "driven_s"], unique=False
        )
    with op.batch_alter_table("rollout_members", schema=None) as batch_op:
        batch_op.add_column(sa.Column("ran_driven_s", sa.Double(), nullable=True))
