"""What vehicles say over their control streams, into the database; batch by batch, as uploads are."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.fleet.rollout_reports import Membership, memberships, note
from cloud.fleet.session_records import IDENTITY_IN_USE, confirm, connect
from cloud.fleet.upload_rules import ID
from cloud.store import Store
from cloud.store.columns import utc_now
from cloud.store.database import audit
from cloud.store.models import DriftEvent, ModelReport, Vehicle
from protos.release_facts import FactsError, role_of_fleet
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.words import word

MAX_DRIFT_FEATURES = 1_000

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A vehicle's control stream has ended."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class IdentityInUse:
    """A second daemon came under a vehicle's identity. `refused` is its instance, empty where unsaid."""

    connected: str
    refused: str
    peer: str


Message: TypeAlias = (
    fleet.Hello
    | fleet.Heartbeat
    | fleet.DriftEvent
    | common.ModelState
    | fleet.CommandResult
    | fleet.SessionTokenKept
    | Disconnected
    | IdentityInUse
)


@dataclass(frozen=True, slots=True)
class Record:
    """A message to be written down, and the vehicle that it came from.

    Attributes:
        peer, given_sha256: of a Hello: where it came from, and `session_chain.digest` of the token that its
            Welcome gives.
    """

    vehicle: str
    message: Message
    peer: str = ""
    given_sha256: str = ""


class VehicleRecords:
    """Writes records. One thread calls it."""

    def __init__(
        self,
        store: Store,
        outcome_changed: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Take the database, and what to call when a release fares otherwise somewhere or a fleet changes."""
        self._store = store
        self._clock = clock
        self._outcome_changed = outcome_changed

    def commit(self, records: Sequence[Record]) -> list[bool]:
        """Write a batch in one transaction; False for a vehicle that is not enrolled, or no longer."""
        now = self._clock()
        with self._store.writing() as session:
            names = {record.vehicle for record in records}
            query = select(Vehicle).where(Vehicle.name.in_(names), Vehicle.revoked.is_(None))
            vehicles = {vehicle.name: vehicle for vehicle in session.scalars(query)}
            reporting = {record.vehicle for record in records if _model_of(record.message) is not None}
            places = memberships(session, reporting) if reporting else {}
            news = False
            for record in records:
                vehicle = vehicles.get(record.vehicle)
                if vehicle is not None:
                    fleet_before = vehicle.fleet
                    if isinstance(record.message, fleet.Hello):
                        connect(session, vehicle, record.message, record.peer, record.given_sha256, now)
                    _apply(session, vehicle, record.message, now)
                    news |= vehicle.fleet != fleet_before
                    own = [place for place in places.get(record.vehicle, ()) if place.fleet == vehicle.fleet]
                    news |= _note(own, record.message, vehicle.driven_s, now)
        if news:
            self._outcome_changed()
        return [record.vehicle in vehicles for record in records]

    def everyone_is_disconnected(self) -> None:
        """Note at start that no stream is open: a server that was killed could not."""
        with self._store.writing() as session:
            for vehicle in session.scalars(select(Vehicle).where(Vehicle.connected_since.is_not(None))):
                vehicle.connected_since = None


def problem_of(event: fleet.DriftEvent) -> str | None:
    """Say what in a drift event breaks the contract, None where nothing does."""
    if not ID.fullmatch(event.id):
        return "drift_event.id: not 1 to 64 of A-Z a-z 0-9 _ -"
    state = event.state
    if not event.HasField("state") or not state.verdict:
        return "drift_event.state: no verdict"
    if len(state.features) > MAX_DRIFT_FEATURES:
        return f"drift_event.state.features: more than {MAX_DRIFT_FEATURES}"
    return None


def _model_of(message: Message) -> common.ModelState | None:
    """What a message says of the vehicle's models."""
    if isinstance(message, common.ModelState):
        return message
    if isinstance(message, (fleet.Hello, fleet.Heartbeat)):
        return message.status.model
    return None


def _note(places: Sequence[Membership], message: Message, driven_s: float, now: datetime) -> bool:
    model = _model_of(message)
    if model is None or not places:
        return False
    cameras = message.status.cameras if isinstance(message, (fleet.Hello, fleet.Heartbeat)) else ()
    return note(places, model, cameras, driven_s, now)


def _apply(session: Session, vehicle: Vehicle, message: Message, now: datetime) -> None:
    if isinstance(message, Disconnected):
        if vehicle.instance_id == message.instance_id:
            vehicle.connected_since = None
    elif isinstance(message, IdentityInUse):
        audit(
            session,
            "server",
            IDENTITY_IN_USE,
            vehicle.name,
            connected=message.connected,
            refused=_short(message.refused, 64),
            peer=message.peer,
        )
    else:
        vehicle.last_seen = now
        _WRITERS[type(message)](session, vehicle, message, now)


def _hello(session: Session, vehicle: Vehicle, hello: fleet.Hello, now: datetime) -> None:
    vehicle.connected_since = now
    if vehicle.instance_id != hello.instance_id:
        vehicle.run_driven_ns = 0
    vehicle.instance_id = _short(hello.instance_id, 64)
    _drive(vehicle, hello.status)
    vehicle.daemon_version = _short(hello.daemon_version, 64)
    vehicle.hardware_ids = [_short(identity, 100) for identity in hello.hardware_ids[:64]]
    vehicle.status = hello.status.SerializeToString()
    if hello.HasField("fleet"):
        _correct_fleet(session, vehicle, hello.fleet)


def _correct_fleet(session: Session, vehicle: Vehicle, said: str) -> None:
    """What a vehicle says wins: it takes no other fleet's releases, so that any other record would starve it.

    Nothing is given away by it: every vehicle may read every release, and installs what its own rules allow.
    """
    try:
        role_of_fleet(said or None)
    except FactsError:
        _LOG.warning("%s: it says that its fleet is %.40r, which none can be called", vehicle.name, said)
        return
    if vehicle.fleet != (said or None):
        audit(session, "vehicle", "fleet changed", vehicle.name, fleet=said or None, was=vehicle.fleet)
        vehicle.fleet = said or None


def _drive(vehicle: Vehicle, status: common.VehicleStatus) -> None:
    """Take over what it drove since it last said so."""
    if not status.HasField("driven_ns"):
        return
    driven_ns = max(status.driven_ns, 0)
    # Less than before: another start of the daemon.
    before_ns = vehicle.run_driven_ns if driven_ns >= vehicle.run_driven_ns else 0
    vehicle.driven_s += (driven_ns - before_ns) / 1e9
    vehicle.run_driven_ns = driven_ns


def _heartbeat(_: Session, vehicle: Vehicle, heartbeat: fleet.Heartbeat, __: datetime) -> None:
    _drive(vehicle, heartbeat.status)
    vehicle.status = heartbeat.status.SerializeToString()


def _session_token_kept(_: Session, vehicle: Vehicle, kept: fleet.SessionTokenKept, __: datetime) -> None:
    confirm(vehicle, kept)


def _drift_event(session: Session, vehicle: Vehicle, event: fleet.DriftEvent, now: datetime) -> None:
    session.flush()  # the same event may be in this batch already
    known = select(DriftEvent.id).where(
        DriftEvent.vehicle == vehicle.name, DriftEvent.external_id == event.id
    )
    if session.scalar(known) is not None:
        return
    state = event.state
    session.add(
        DriftEvent(
            vehicle=vehicle.name,
            external_id=event.id,
            received=now,
            camera=_short(state.camera, 64),
            drive_ns=state.observed.monotonic_ns,
            driven_s=vehicle.driven_s,
            verdict=word(common.DriftVerdict, "DRIFT_VERDICT_", state.verdict),
            previous=word(common.DriftVerdict, "DRIFT_VERDICT_", event.previous),
            kind=word(common.DriftKind, "DRIFT_KIND_", state.kind),
            context=_short(state.context, 200),
            explanation=_short(state.explanation, 2_000),
            model_sha256=_short(state.model.sha256, 64),
            features=[_feature(feature) for feature in state.features],
            message=event.SerializeToString(),
        )
    )


def _model_state(session: Session, vehicle: Vehicle, state: common.ModelState, now: datetime) -> None:
    session.add(
        ModelReport(
            vehicle=vehicle.name,
            received=now,
            phase=word(common.UpdatePhase, "UPDATE_PHASE_", state.phase),
            active_sha256=_short(state.active.sha256, 64),
            active_version=_short(state.active.version, 100),
            candidate_sha256=_short(state.candidate.sha256, 64),
            release_counter=min(state.release_counter, 2**63 - 1),
            detail=_short(state.detail, 2_000),
            state=state.SerializeToString(),
        )
    )


def _command_result(session: Session, vehicle: Vehicle, result: fleet.CommandResult, _: datetime) -> None:
    audit(
        session,
        "vehicle",
        "command result",
        vehicle.name,
        command=_short(result.command_id, 64),
        outcome=word(fleet.CommandOutcome, "COMMAND_OUTCOME_", result.outcome),
        explanation=_short(result.detail, 2_000),
    )


_WRITERS: dict[type, Callable[[Session, Vehicle, Any, datetime], None]] = {
    fleet.Hello: _hello,
    fleet.Heartbeat: _heartbeat,
    fleet.DriftEvent: _drift_event,
    common.ModelState: _model_state,
    fleet.CommandResult: _command_result,
    fleet.SessionTokenKept: _session_token_kept,
}


def _feature(feature: common.FeatureDrift) -> dict[str, Any]:
    """A feature as JSON, which has neither NaN nor infinity."""
    numbers = {
        "window_s": feature.window_s,
        "ks_d": feature.ks_d,
        "p_value": feature.p_value,
        "expected_false_alarms_per_day": feature.expected_false_alarms_per_day,
    }
    if feature.HasField("shift_sigma"):
        numbers["shift_sigma"] = feature.shift_sigma
    return {
        "name": _short(feature.name, 100),
        "origin": word(common.FeatureOrigin, "FEATURE_ORIGIN_", feature.origin),
        "context": _short(feature.context, 200),
        **{name: number if math.isfinite(number) else None for name, number in numbers.items()},
        "verdict": word(common.DriftVerdict, "DRIFT_VERDICT_", feature.verdict),
    }


def _short(text: str, longest: int) -> str:
    """What a column takes: printable, and no longer than it is wide."""
    return "".join(char for char in text[:longest] if char.isprintable())
