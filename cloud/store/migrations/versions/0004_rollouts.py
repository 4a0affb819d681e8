"""Rollouts, labels and pins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the previous revision to this one."""
    op.create_table(
        "vehicle_labels",
        sa.Column("vehicle", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["vehicle"], ["vehicles.name"], name=op.f("fk_vehicle_labels_vehicle")),
        sa.PrimaryKeyConstraint("vehicle", "key", name=op.f("pk_vehicle_labels")),
    )
    op.create_table(
        "rollouts",
        sa.Column(
            "release_counter",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.Column("policy", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("salt", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.Column("begun", sa.Integer(), nullable=False),
        sa.Column("stage_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved", sa.Integer(), nullable=False),
        sa.Column("judged_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("returns", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(
            ["release_counter"], ["releases.counter"], name=op.f("fk_rollouts_release_counter")
        ),
        sa.ForeignKeyConstraint(["returns"], ["releases.counter"], name=op.f("fk_rollouts_returns")),
        sa.PrimaryKeyConstraint("release_counter", name=op.f("pk_rollouts")),
    )
    op.create_table(
        "vehicle_pins",
        sa.Column("vehicle", sa.String(length=64), nullable=False),
        sa.Column("release_counter", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["release_counter"], ["releases.counter"], name=op.f("fk_vehicle_pins_release_counter")
        ),
        sa.ForeignKeyConstraint(["vehicle"], ["vehicles.name"], name=op.f("fk_vehicle_pins_vehicle")),
        sa.PrimaryKeyConstraint("vehicle", name=op.f("pk_vehicle_pins")),
    )
    op.create_table(
        "rollout_members",
        sa.Column(
            "release_counter",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("vehicle", sa.String(length=64), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("assigned", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("ran_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("before_ms", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("after_ms", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.ForeignKeyConstraint(
            ["release_counter"], ["rollouts.release_counter"], name=op.f("fk_rollout_members_release_counter")
        ),
        sa.ForeignKeyConstraint(["vehicle"], ["vehicles.name"], name=op.f("fk_rollout_members_vehicle")),
        sa.PrimaryKeyConstraint("release_counter", "vehicle", name=op.f("pk_rollout_members")),
    )
    with op.batch_alter_table("rollout_members", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rollout_members_vehicle"), ["vehicle"], unique=False)
