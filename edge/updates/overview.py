"""How a vehicle's models stand, for `edge update status` and `history`: of the daemon, or of its disk."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from typing import Any

from edge.config import EdgeConfig
from edge.serve.client import ClientError, PerceptionClient
from edge.serve.probe import NotServingError, require_serving
from edge.updates import assignment, history, shadow_progress, slot_files, slot_state, state_file
from edge.updates.errors import SlotError, UpdateError
from edge.updates.report import resting_phase
from edge.updates.shadow_progress import Progress
from edge.updates.slot_state import SlotName, SlotState
from edge.updates.trust import clock_floor_of
from protos.release_facts import ReleaseFacts
from protos.signature_words import signature_words
from protos.traffic_vision.v1 import common_pb2
from protos.trials import trial_lines
from protos.words import word


def read_state(config: EdgeConfig) -> SlotState:
    """Read the slots' state from disk, beside a daemon too: it is only ever replaced as a whole.

    Raises:
        UpdateError: there is no section [updates], or the state cannot be read.
    """
    if config.updates is None:
        raise UpdateError("there is no section [updates] in the configuration: models have no slots")
    found = state_file.read(config.state_folder / "slots")
    if found.state is None and found.trouble:
        raise SlotError(
            f"{found.trouble}; run it as the daemon's user, or as root. The daemon's next start mends what is"
            " damaged"
        )
    return found.state or SlotState()


def read_overview(config: EdgeConfig) -> dict[str, Any]:
    """How the models stand, as a JSON object: of the daemon where one answers, else of its disk.

    Raises:
        UpdateError: there is no section [updates], or the state cannot be read.
    """
    state = read_state(config)
    assert config.updates is not None
    folder = config.state_folder / "slots"
    unsigned = [slot for slot in slot_state.WRITABLE if slot_files.is_unsigned(folder / slot)]
    assigned = assignment.read(folder / assignment.FILE)
    resting = common_pb2.ModelState(
        active_is_unsigned=state.active in unsigned, unsigned_allowed=config.updates.unsigned
    )
    overview = {
        "source": "disk",
        "said_by": f"the state folder {config.state_folder}",
        "runs": None,
        "signature": signature_words(resting),
        "phase": word(common_pb2.UpdatePhase, "UPDATE_PHASE_", resting_phase(state)),
        "detail": state.reverted.reason if state.reverted else "",
        "trials": _driven(state, shadow_progress.read(folder / shadow_progress.FILE)),
        "assigned_release": None if assigned is None else assigned.release_counter,
        "alarms": [],
        "metadata_expires": _expiry(config),
        **_slots(state, unsigned),
        **_floors(state, config),
    }
    try:
        address = require_serving(config.serve)
        with PerceptionClient(address) as client:
            status = client.status().status
    except (NotServingError, ClientError) as error:
        return {**overview, "said_by": f"{overview['said_by']}; {error}"}
    return said_by_daemon(overview, status, address)


def said_by_daemon(
    overview: dict[str, Any], status: common_pb2.VehicleStatus, address: str
) -> dict[str, Any]:
    """Put what a daemon says over what its disk says."""
    model = status.model
    runs = {"sha256": model.active.sha256, "model": f"{model.active.name} {model.active.version}"}
    ends_ns = status.metadata_expires_wall_ns
    return {
        **overview,
        "source": "daemon",
        "said_by": f"the daemon at {address}",
        "runs": runs,
        "signature": signature_words(model),
        "trials": trial_lines(model),
        "assigned_release": (
            model.assigned_release_counter if model.HasField("assigned_release_counter") else None
        ),
        "alarms": [alarm for alarm in (status.clock_alarm, status.metadata_alarm) if alarm],
        "phase": word(common_pb2.UpdatePhase, "UPDATE_PHASE_", model.phase),
        "detail": model.detail,
        "metadata_expires": _time(ends_ns // 10**9) if ends_ns else overview["metadata_expires"],
    }


def overview_text(overview: dict[str, Any]) -> str:
    """The same for people."""
    runs, slots = overview["runs"], overview["slots"]
    lines = [f"of {overview['said_by']}"]
    if runs is not None:
        lines.append(f"runs       {runs['model']} ({runs['sha256'][:12]})")
    if overview["signature"]:
        lines.append(f"signature  {overview['signature']}")
    lines.append(f"phase      {overview['phase']}{_after(overview['detail'])}")
    lines += [f"{'trial' if not line.startswith(' ') else '':<11}{line}" for line in overview["trials"]]
    lines.append(f"assigned   {_assigned(overview['assigned_release'])}")
    lines += [f"ALARM      {alarm}" for alarm in overview["alarms"]]
    for name in ("a", "b", "factory"):
        roles = [role for role in ("active", "last_good", "candidate") if overview[role] == name]
        held = slots.get(name)
        text = "the factory's" if name == "factory" else "empty"
        if held is not None:
            named = "UNSIGNED" if held["is_unsigned"] else f"release {held['release']}"
            text = f"{named}: {held['model']} ({held['sha256'][:12]})"
        place = name if name == "factory" else f"slot {name}"
        lines.append(f"{place:<11}{text}{_after(', '.join(roles))}")
    lines.append(f"floors     release {overview['release_floor']}, clock {overview['clock_floor']}")
    lines.append(f"metadata   {_ends(overview['metadata_expires'])}")
    lines += [f"bad        {bad['sha256'][:12]}{_after(bad['reason'])}" for bad in overview["bad"]]
    return "\n".join(lines)


def history_document(state: SlotState) -> list[dict[str, Any]]:
    """What happened, the latest last, as JSON objects."""
    return [
        {"time": _time(entry["wall_s"]), **{name: entry[name] for name in entry if name != "wall_s"}}
        for entry in history.to_document(state.history)
    ]


def history_text(state: SlotState) -> str:
    """The same for people, a line each."""
    lines = []
    for entry in state.history:
        release = f", release {entry.release}" if entry.release else ", UNSIGNED" if entry.is_unsigned else ""
        digest = f" ({entry.sha256[:12]})" if entry.sha256 else ""
        about = f"{entry.model}{digest}{release}".strip()
        what = entry.what.replace("_", " ")
        lines.append(f"{_time(entry.wall_s)}  {what:<11} {about}, by {entry.by}{_after(entry.detail)}")
    return "\n".join(lines) or "nothing happened to this vehicle's models yet"


def _slots(state: SlotState, unsigned: Collection[SlotName]) -> dict[str, Any]:
    return {
        "active": state.active,
        "last_good": state.last_good,
        "candidate": state.candidate,
        "slots": {slot: _release(state.release(slot), slot in unsigned) for slot in slot_state.WRITABLE},
        "probation_starts": state.probation_starts,
        "starts": state.starts,
        "bad": [{"sha256": bad.sha256, "reason": bad.reason} for bad in state.bad],
    }


def _floors(state: SlotState, config: EdgeConfig) -> dict[str, Any]:
    """The floors that hold: the later of what the vehicle has seen and what it was told when enrolled."""
    assert config.updates is not None
    told_s = int(clock_floor_of(config.updates.clock_floor).timestamp())
    return {
        "release_floor": max(state.release_floor, config.updates.release_floor),
        "clock_floor": _time(max(state.clock_floor_s, told_s)),
    }


def _driven(state: SlotState, shadow: Progress | None) -> list[str]:
    """Of a shadow or a probation, what earlier runs of the daemon have kept."""
    if state.on_probation:
        starts = f"{state.probation_starts} starts that did not end in order"
        return [f"probation, {state.driven_s} s and {state.driven_frames:,} frames in earlier runs; {starts}"]
    candidate = None if state.candidate is None else state.release(state.candidate)
    if shadow is None or candidate is None or candidate.model_sha256 != shadow.candidate:
        return []
    return [f"shadow, {shadow.drive_s:.0f} s and {shadow.tally.compared:,} frames compared in earlier runs"]


def _assigned(counter: int | None) -> str:
    if counter is None:
        return "nothing: the newest release applies"
    return f"release {counter}" if counter else "to keep what it has"


def _release(facts: ReleaseFacts | None, is_unsigned: bool) -> dict[str, Any] | None:
    if facts is None:
        return None
    return {
        "release": 0 if is_unsigned else facts.release_counter,
        "is_unsigned": is_unsigned,
        "model": f"{facts.model_name} {facts.model_version}",
        "sha256": facts.model_sha256,
    }


def _expiry(config: EdgeConfig) -> str | None:
    from edge.updates.metadata import cached_expiry  # imports python-tuf

    assert config.updates is not None
    ends = cached_expiry(config.state_folder / "slots" / "metadata", config.updates.fleet)
    return None if ends is None else ends.strftime("%Y-%m-%d %H:%M:%SZ")


def _time(wall_s: int) -> str:
    try:
        return datetime.fromtimestamp(wall_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{wall_s} s"


def _ends(moment: str | None) -> str:
    return "none seen yet" if moment is None else f"holds until {moment}"


def _after(text: str) -> str:
    return f": {text}" if text else ""
