"""The tables of rollouts: labels and pins of vehicles, a rollout for each release, and who is in it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from cloud.store.columns import Base, Document, Identifier, utc_now, words
from cloud.store.models import Release
from cloud.store.states import Outcome, RolloutState


class VehicleLabel(Base):
    """What cohorts are made of: one key and its value on a vehicle."""

    __tablename__ = "vehicle_labels"

    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"), primary_key=True)
    key: Mapped[str] = mapped_column(Identifier, primary_key=True)
    value: Mapped[str] = mapped_column(Identifier)


class VehiclePin(Base):
    """That a vehicle is to stay on one release, whatever rollouts say.

    Attributes:
        until: the pin ends by itself; None: it does not.
        reason: for people.
    """

    __tablename__ = "vehicle_pins"

    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"), primary_key=True)
    release_counter: Mapped[int] = mapped_column(ForeignKey("releases.counter"))
    created: Mapped[datetime] = mapped_column(default=utc_now)
    until: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")


class Rollout(Base):
    """How one release comes to the vehicles.

    Attributes:
        release_counter: each release has one rollout at most.
        policy: `cloud.config.RolloutConfig` as JSON, frozen at the start.
        salt: makes the vehicles' places; never changes.
        begun: how many stages have begun.
        stage_since: when the last of them did.
        approved: a person has said that all stages up to this number may begin.
        reason: why it is in its state, for people.
        trouble: why it is not taken back yet, for people.
        judged_since: what was reported before it counts no more: somebody went on in spite of it.
        returns: the release that this one takes back; None: it is no return.
    """

    __tablename__ = "rollouts"

    release_counter: Mapped[int] = mapped_column(
        ForeignKey("releases.counter"), primary_key=True, autoincrement=False
    )
    created: Mapped[datetime] = mapped_column(default=utc_now)
    ended: Mapped[datetime | None]
    policy: Mapped[dict[str, Any]]
    salt: Mapped[str] = mapped_column(String(32))
    state: Mapped[RolloutState] = mapped_column(words(RolloutState), default=RolloutState.RUNNING)
    reason: Mapped[str] = mapped_column(Text, default="")
    trouble: Mapped[str] = mapped_column(Text, default="")
    begun: Mapped[int] = mapped_column(default=0)
    stage_since: Mapped[datetime] = mapped_column(default=utc_now)
    approved: Mapped[int] = mapped_column(default=0)
    judged_since: Mapped[datetime] = mapped_column(default=utc_now)
    returns: Mapped[int | None] = mapped_column(ForeignKey("releases.counter"))

    release: Mapped[Release] = relationship(foreign_keys=[release_counter])


class RolloutMember(Base):
    """A vehicle that was assigned a rollout's release, and how that went.

    Attributes:
        stage: that took it in, from 1 on.
        changed: when its outcome was last another one.
        ran_since, ran_driven_s: when it first said that the release runs, and its vehicle's `driven_s` then.
        before_ms, after_ms: the age of detections at p99 on its slowest camera, ms, as it reported before and
            after; the latest ones, the last one last.
    """

    __tablename__ = "rollout_members"
    __table_args__ = (Index(None, "vehicle"),)

    release_counter: Mapped[int] = mapped_column(
        ForeignKey("rollouts.release_counter"), primary_key=True, autoincrement=False
    )
    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"), primary_key=True)
    stage: Mapped[int]
    assigned: Mapped[datetime] = mapped_column(default=utc_now)
    outcome: Mapped[Outcome] = mapped_column(words(Outcome), default=Outcome.ASSIGNED)
    changed: Mapped[datetime] = mapped_column(default=utc_now)
    detail: Mapped[str] = mapped_column(Text, default="")
    ran_since: Mapped[datetime | None]
    ran_driven_s: Mapped[float | None]
    before_ms: Mapped[list[float]] = mapped_column(Document, default=list)
    after_ms: Mapped[list[float]] = mapped_column(Document, default=list)
