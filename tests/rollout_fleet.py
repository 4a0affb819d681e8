"""A cloud's database with vehicles and releases, a clock that the test moves, and vehicles that report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import select

from cloud.config import CloudConfig, RolloutConfig, StageConfig
from cloud.fleet.rollouts import Assignments, Rollouts
from cloud.fleet.vehicle_records import Message, Record, VehicleRecords
from cloud.release.ceremony import Wish, begin_delegation
from cloud.release.key_publishing import finish
from cloud.release.key_publishing import publish as publish_keys
from cloud.release.keys import load_keys
from cloud.release.releasing import ReleaseTerms, complete_release, propose_release
from cloud.store import Store, open_database
from cloud.store.audit_entry import AuditEntry
from cloud.store.models import Candidate, Release
from cloud.store.models import Vehicle as VehicleRow
from cloud.store.releases import release_row
from cloud.store.rollouts import Rollout, RolloutMember
from cloud.store.states import Outcome, RolloutState
from protos.release_facts import CUSTOM_KEY
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet

HARDWARE = "x86_64-cpu"


def sha(counter: int) -> str:
    """Of the model of a release."""
    return hashlib.sha256(str(counter).encode()).hexdigest()


def quick(**fields: Any) -> RolloutConfig:
    """Half of the fleet, then all of it, without waits."""
    half = StageConfig(name="half", percent=50, wait_s=0, min_reports=1)
    stages = (half, StageConfig(name="all", wait_s=0, min_reports=1))
    return RolloutConfig(**{"stages": stages, **fields})


@dataclass
class Fleet:
    """The database, and what moves it."""

    store: Store
    policy: RolloutConfig = field(default_factory=quick)
    now: datetime = field(default_factory=lambda: datetime(2026, 5, 1, tzinfo=timezone.utc))

    def add_vehicles(self, *names: str, hardware: str = HARDWARE, fleet: str | None = None) -> None:
        with self.store.writing() as session:
            session.add_all(VehicleRow(name=name, hardware_ids=[hardware], fleet=fleet) for name in names)

    def add_release(self, counter: int, hardware: str = HARDWARE, fleet: str | None = None) -> None:
        """As the pipeline's stage deploy does."""
        facts: dict[str, Any] = {"hardware_ids": [hardware]}
        if fleet is not None:
            facts["fleet"] = fleet
        with self.store.writing() as session:
            if session.get(Candidate, sha(counter)) is None:
                session.add(
                    Candidate(sha256=sha(counter), name="streets", version=str(counter), object_key="k")
                )
                session.flush()
            session.add(
                Release(
                    counter=counter,
                    candidate_sha256=sha(counter),
                    target_path=f"models/streets-{counter}.onnx",
                    target_sha256=sha(counter),
                    custom={CUSTOM_KEY: facts},
                )
            )

    def look(self, seconds: float = 0.0) -> Assignments:
        """Another server's look, so much later."""
        self.now += timedelta(seconds=seconds)
        return Rollouts(self.store, self.policy, clock=lambda: self.now).look()

    def assigned(self, *, to: int | None = None) -> dict[str, int]:
        """The release that each vehicle is told, or of those that are told this one."""
        found = self.look()
        told = {name: found.of(name, self.now) for name in found.counters}
        return {
            name: said.release_counter
            for name, said in told.items()
            if said is not None and to in (None, said.release_counter)
        }

    def say(self, vehicles: Iterable[str], message: Message) -> None:
        """Vehicles say something over their control streams."""
        records = VehicleRecords(self.store, clock=lambda: self.now)
        records.commit([Record(vehicle, message) for vehicle in vehicles])

    def confirm(self, vehicles: Iterable[str], counter: int) -> None:
        self.say(vehicles, runs(counter))

    def rollout(self, counter: int) -> Rollout:
        with self.store.reading() as session:
            return session.get_one(Rollout, counter)

    def state(self, counter: int) -> RolloutState:
        return self.rollout(counter).state

    def outcomes(self, counter: int) -> dict[str, Outcome]:
        query = select(RolloutMember).where(RolloutMember.release_counter == counter)
        with self.store.reading() as session:
            return {member.vehicle: member.outcome for member in session.scalars(query)}

    def audited(self, action: str) -> list[AuditEntry]:
        with self.store.reading() as session:
            return list(session.scalars(select(AuditEntry).where(AuditEntry.action == action)))


def publish(
    config: CloudConfig,
    data: bytes,
    version: str,
    hardware_ids: Sequence[str] = (HARDWARE,),
    **terms: Any,
) -> int:
    """Sign and publish a model in a cloud's folder, as the pipeline's stage deploy does; its counter."""
    keys, folder = load_keys(config.folders.keys), config.folders.repository
    wanted = ReleaseTerms(tuple(hardware_ids), **terms)
    facts = propose_release(folder, data, wanted, keys.signer(keys.release_key("trainer", wanted.fleet)))
    names = (keys.release_key("gate", wanted.fleet), "snapshot", "timestamp")
    signers = [keys.signer(name) for name in names]
    facts = complete_release(folder, facts.model_sha256, *signers, fleet=wanted.fleet)
    store = open_database(config.store.database)
    try:
        with store.writing() as session:
            if session.get(Candidate, facts.model_sha256) is None:
                session.add(Candidate(sha256=facts.model_sha256, name="m", version=version, object_key="k"))
                session.flush()
            session.add(release_row(facts))
    finally:
        store.close()
    return facts.release_counter


def delegate(config: CloudConfig, name: str) -> None:
    """Make a fleet, with keys of its own, as `cloud keys delegate` does."""
    folder, keys = config.folders.repository, config.folders.keys
    begin_delegation(folder, keys, name, Wish("owner"), own_keys=True)
    assert publish_keys(folder, keys) is not None
    finish(folder)


def runs(counter: int, *, confirmed: bool = True) -> common.ModelState:
    phase = common.UPDATE_PHASE_CONFIRMED if confirmed else common.UPDATE_PHASE_PROBATION
    return common.ModelState(
        active=common.ModelRef(sha256=sha(counter)), phase=phase, release_counter=counter if confirmed else 0
    )


def refuses(counter: int, runs_on: int = 0) -> common.ModelState:
    return common.ModelState(
        active=common.ModelRef(sha256=sha(runs_on)),
        phase=common.UPDATE_PHASE_REFUSED,
        candidate=common.ModelRef(sha256=sha(counter)),
        bad_sha256=[sha(counter)],
        detail="golden frames failed: 1 of 1",
    )


def reverts(counter: int, back_on: int = 0) -> common.ModelState:
    return common.ModelState(
        active=common.ModelRef(sha256=sha(back_on)),
        phase=common.UPDATE_PHASE_REVERTED,
        bad_sha256=[sha(counter)],
        detail="it crashed three times within a minute",
    )


def falls(counter: int, back_on: int = 1) -> common.ModelState:
    """It was confirmed and does not come up any more: an older model runs, and nothing is called bad."""
    return common.ModelState(
        active=common.ModelRef(sha256=sha(back_on)),
        phase=common.UPDATE_PHASE_REVERTED,
        release_counter=counter,
        detail="the daemon started 8 times in a row and never ran for a while",
    )


def beats(model: common.ModelState, age_ms: float) -> fleet.Heartbeat:
    cameras = [common.CameraStatus(camera="front", age_p99_ns=round(age_ms * 1e6))]
    return fleet.Heartbeat(status=common.VehicleStatus(model=model, cameras=cameras))


@contextmanager
def fleet_of(folder: Path, count: int, policy: RolloutConfig | None = None) -> Iterator[Fleet]:
    """Vehicles van-0, van-1...; release 1 is everyone's already."""
    store = open_database(f"sqlite:///{folder / 'cloud.sqlite'}")
    try:
        opened = Fleet(store, policy or quick())
        opened.add_vehicles(*(f"van-{number}" for number in range(count)))
        opened.add_release(1)
        configured, opened.policy = (
            opened.policy,
            RolloutConfig(stages=(StageConfig(name="everyone", wait_s=0, min_reports=0),)),
        )
        opened.look()
        opened.policy = configured
        yield opened
    finally:
        store.close()
