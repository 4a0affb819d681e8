"""The slots' state in the contract's words, for the fleet, the perception service and people."""

from __future__ import annotations

from edge.updates.probation import Probation
from edge.updates.slot_state import WRITABLE, SlotName, SlotState
from edge.updates.slots import Slots
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2
from protos.traffic_vision.v1.common_pb2 import ModelRef, ModelState, UpdatePhase

_SLOTS: dict[SlotName, common_pb2.Slot] = {
    "a": common_pb2.SLOT_A,
    "b": common_pb2.SLOT_B,
    "factory": common_pb2.SLOT_FACTORY,
}


def resting_phase(state: SlotState) -> UpdatePhase:
    """Return where the slots stand while no check is under way."""
    if state.on_probation:
        return UpdatePhase.UPDATE_PHASE_PROBATION
    if state.candidate is not None:
        return UpdatePhase.UPDATE_PHASE_STAGED
    if state.reverted is not None:
        return UpdatePhase.UPDATE_PHASE_REVERTED
    return UpdatePhase.UPDATE_PHASE_IDLE if state.active == "factory" else UpdatePhase.UPDATE_PHASE_CONFIRMED


def model_ref(release: ReleaseFacts) -> ModelRef:
    """Name a release's model."""
    return ModelRef(sha256=release.model_sha256, name=release.model_name, version=release.model_version)


def model_state(slots: Slots, running: ModelRef, factory: ModelRef) -> ModelState:
    """Say how the slots stand; a check's own phase, bytes and detail are the caller's to put over it.

    Args:
        slots: the slots.
        running: the model that the frame loop runs at this moment.
        factory: the factory's model.
    """
    state = slots.state
    held: dict[SlotName, str] = {
        slot: release.model_sha256 for slot in WRITABLE if (release := state.release(slot)) is not None
    }
    held["factory"] = factory.sha256
    # Not always the slots' active one: see `edge.updates.models`.
    in_slots = [slot for slot in (state.active, *held) if held[slot] == running.sha256]
    message = ModelState(
        active=running,
        active_slot=_SLOTS[in_slots[0]] if in_slots else common_pb2.SLOT_UNSPECIFIED,
        phase=resting_phase(state),
        release_counter=state.release_floor,
        bad_sha256=[entry.sha256 for entry in state.bad],
        detail="" if state.reverted is None else state.reverted.reason,
        unsigned_allowed=slots.vehicle.unsigned_allowed,
        active_is_unsigned=bool(in_slots) and slots.is_unsigned(in_slots[0]),
    )
    last_good = state.release(state.last_good)
    message.last_good.CopyFrom(factory if last_good is None else model_ref(last_good))
    candidate = None if state.candidate is None else state.release(state.candidate)
    if candidate is not None:
        message.candidate.CopyFrom(model_ref(candidate))
    return message


def probation_report(probation: Probation, model: ModelRef) -> common_pb2.ProbationReport:
    """Say how a probation under way is doing."""
    report = common_pb2.ProbationReport(
        model=model,
        outcome=common_pb2.TRIAL_OUTCOME_UNDER_WAY,
        drive_s=probation.drive_s,
        needed_drive_s=probation.terms.seconds,
        frames=probation.frames,
        needed_frames=probation.terms.frames,
    )
    for figure in probation.figures():
        report.figures.add(
            name=figure.name,
            context=figure.context,
            value=figure.value,
            least=figure.least,
            most=figure.most,
            samples=figure.samples,
            broken=figure.broken,
        )
    return report
