"""How a vehicle's models stand, for `edge update status` and `history`: of the daemon, or of its disk."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from edge.config import EdgeConfig
from edge.serve.client import ClientError, PerceptionClient
from edge.serve.probe import NotServingError, require_serving
from edge.updates import history, slot_state, state_file
from edge.updates.errors import SlotError, UpdateError
from edge.updates.report import resting_phase
from edge.updates.slot_state import SlotState
from edge.updates.trust import clock_floor_of
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2
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
    overview = {
        "source": "disk",
        "said_by": f"the state folder {config.state_folder}",
        "runs": None,
        "phase": word(common_pb2.UpdatePhase, "UPDATE_PHASE_", resting_phase(state)),
        "detail": state.reverted.reason if state.reverted else "",
        "metadata_expires": _expiry(config),
        **_slots(state),
        **_floors(state, config),
    }
    try:
        address = require_serving(config.serve)
        with PerceptionClient(address) as client:
            status = client.status().status
    except (NotServingError, ClientError) as error:
        return {**overview, "said_by": f"{overview['said_by']}; {error}"}
    model = status.model
    runs = {"sha256": model.active.sha256, "model": f"{model.active.name} {model.active.version}"}
    ends_ns = status.metadata_expires_wall_ns
    return {
        **overview,
        "source": "daemon",
        "said_by": f"the daemon at {address}",
        "runs": runs,
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
    lines.append(f"phase      {overview['phase']}{_after(overview['detail'])}")
    for name in ("a", "b", "factory"):
        roles = [role for role in ("active", "last_good", "candidate") if overview[role] == name]
        held = slots.get(name)
        text = "the factory's" if name == "factory" else "empty"
        if held is not None:
            text = f"release {held['release']}: {held['model']} ({held['sha256'][:12]})"
        lines.append(f"slot {name:<6}{text}{_after(', '.join(roles))}")
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
        release = f", release {entry.release}" if entry.release else ""
        digest = f" ({entry.sha256[:12]})" if entry.sha256 else ""
        about = f"{entry.model}{digest}{release}".strip()
        what = entry.what.replace("_", " ")
        lines.append(f"{_time(entry.wall_s)}  {what:<11} {about}, by {entry.by}{_after(entry.detail)}")
    return "\n".join(lines) or "nothing happened to this vehicle's models yet"


def _slots(state: SlotState) -> dict[str, Any]:
    return {
        "active": state.active,
        "last_good": state.last_good,
        "candidate": state.candidate,
        "slots": {slot: _release(state.release(slot)) for slot in slot_state.WRITABLE},
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


def _release(facts: ReleaseFacts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    return {
        "release": facts.release_counter,
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
