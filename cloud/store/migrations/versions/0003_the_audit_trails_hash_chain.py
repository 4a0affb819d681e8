"""The audit trail becomes a hash chain, and the database itself refuses to change it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SQLITE = (
    """CREATE TRIGGER audit_entries_keep_on_update BEFORE UPDATE ON audit_entries
    BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END""",
    """CREATE TRIGGER audit_entries_keep_on_delete BEFORE DELETE ON audit_entries
    BEGIN SELECT RAISE(ABORT, 'audit entries are never deleted'); END""",
    # INSERT OR REPLACE deletes what is in its way without a word to the trigger above.
    """CREATE TRIGGER audit_entries_keep_on_insert BEFORE INSERT ON audit_entries
    WHEN EXISTS (
        SELECT 1 FROM audit_entries
        WHERE id >= NEW.id OR previous_sha256 = NEW.previous_sha256 OR sha256 = NEW.sha256
    )
    BEGIN SELECT RAISE(ABORT, 'audit entries are only added, at the end'); END""",
)
_POSTGRESQL = (
    """CREATE FUNCTION audit_entries_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'audit entries are never changed or deleted'; END $$""",
    """CREATE TRIGGER audit_entries_keep_rows BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION audit_entries_keep()""",
    """CREATE TRIGGER audit_entries_keep_table BEFORE TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_keep()""",
)


def upgrade() -> None:
    """Bring the tables from the previous revision to this one."""
    with op.batch_alter_table("audit_entries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("previous_sha256", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("sha256", sa.String(length=64), nullable=True))
    _chain(op.get_bind())
    with op.batch_alter_table("audit_entries", schema=None) as batch_op:
        batch_op.alter_column("previous_sha256", existing_type=sa.String(length=64), nullable=False)
        batch_op.alter_column("sha256", existing_type=sa.String(length=64), nullable=False)
        batch_op.create_unique_constraint(batch_op.f("uq_audit_entries_previous_sha256"), ["previous_sha256"])
        batch_op.create_unique_constraint(batch_op.f("uq_audit_entries_sha256"), ["sha256"])
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)


def _chain(connection: sa.Connection) -> None:
    """Give the rows that are there their hashes, in the order of their ids."""
    table = sa.table(
        "audit_entries",
        sa.column("id", sa.BigInteger),
        sa.column("at", sa.DateTime(timezone=True)),
        sa.column("actor", sa.String),
        sa.column("action", sa.String),
        sa.column("subject", sa.String),
        sa.column("detail", sa.JSON().with_variant(postgresql.JSONB(), "postgresql")),
        sa.column("previous_sha256", sa.String),
        sa.column("sha256", sa.String),
    )
    fields = [table.c[name] for name in ("id", "at", "actor", "action", "subject", "detail")]
    previous = "0" * 64
    for row in connection.execute(sa.select(*fields).order_by(table.c.id)).all():
        document = dict(row._mapping) | {"previous_sha256": previous}
        sha256 = _sha256(document)
        values = {"previous_sha256": previous, "sha256": sha256}
        connection.execute(sa.update(table).where(table.c.id == row.id).values(values))
        previous = sha256


def _sha256(document: dict[str, Any]) -> str:
    """As cloud.store.audit_chain.entry_sha256 was when this was written; it may change, this must not."""
    at: datetime = document["at"]
    at = at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
    plain = document | {"at": at.isoformat(timespec="microseconds"), "detail": _plain(document["detail"])}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
