"""The table of what must be answered for; see `cloud.store.audit_chain` for how its rows hold together."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloud.store.columns import Base, Digest, RowNumber, utc_now


class AuditEntry(Base):
    """Who or what did something that must be answered for. Rows are only ever added: triggers see to it.

    Each row holds the hash of the one before and its own (cloud/store/audit_chain.py), so that a row that was
    changed, taken out or put in between shows.

    Attributes:
        id: grows by one from row to row.
        actor: a user, "server", or a stage.
        action: such as enrolled, revoked, released, forced.
        subject: what it was done to: a vehicle's name, a release's counter.
        previous_sha256: `sha256` of the row before; no two rows follow the same one.
        sha256: of all of the above.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (UniqueConstraint("previous_sha256"), UniqueConstraint("sha256"))

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(64), index=True)
    subject: Mapped[str] = mapped_column(String(200), index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    previous_sha256: Mapped[str] = mapped_column(Digest)
    sha256: Mapped[str] = mapped_column(Digest)
