"""The table of the trigger's decisions: when a retrain began, when not, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from cloud.store.columns import Base, Document, RowNumber, utc_now


class TriggerDecision(Base):
    """A decision, and how often it was taken one after the other.

    Attributes:
        at: when it was first taken.
        last: when it was last taken.
        times: how often; the figures are those of the last time.
        by: rule, schedule or hand.
        why: for people.
        lacking: names of the conditions that did not hold; while they stay the same, it is the same decision.
        checks: each condition: name, holds, why.
        situation: the figures.
        rule: the configuration that it was held against.
        run_id: of the retrain that began; None: none did.
    """

    __tablename__ = "trigger_decisions"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    last: Mapped[datetime] = mapped_column(default=utc_now)
    times: Mapped[int] = mapped_column(default=1)
    by: Mapped[str] = mapped_column(String(32))
    why: Mapped[str] = mapped_column(Text, default="")
    lacking: Mapped[list[str]]
    checks: Mapped[list[dict[str, Any]]] = mapped_column(Document, default=list)
    situation: Mapped[dict[str, Any]]
    rule: Mapped[dict[str, Any]]
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id"), index=True)
