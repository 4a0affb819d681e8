"""A daemon's messages in words."""

from __future__ import annotations

from edge.drift.explaining import label
from protos.signature_words import signature_words
from protos.traffic_vision.v1 import common_pb2, perception_pb2
from protos.words import word


def enum_word(name: str, prefix: str) -> str:
    """`CAMERA_STATE_BACK_OFF` as `back off`."""
    return name.removeprefix(prefix).replace("_", " ").lower()


def verdict(state: common_pb2.DriftState) -> str:
    """The verdict, one word."""
    return enum_word(common_pb2.DriftVerdict.Name(state.verdict), "DRIFT_VERDICT_")


def device_verdict(device: common_pb2.DeviceDrift) -> str:
    """The verdict of all cameras together, and which of them have it: `alarm (front, rear)`."""
    name = enum_word(common_pb2.DriftVerdict.Name(device.verdict), "DRIFT_VERDICT_")
    return f"{name} ({', '.join(device.cameras)})"


def told_verdict(state: common_pb2.DriftState) -> str:
    """The verdict, with the kind of change where there is one: `alarm (camera moved)`."""
    if not state.kind:
        return verdict(state)
    kind = word(common_pb2.DriftKind, "DRIFT_KIND_", state.kind).replace("_", " ")
    return f"{verdict(state)} ({kind})"


def map50_words(state: common_pb2.DriftState) -> str:
    """What the change does to the detector, as far as it is estimated; empty where it is not."""
    if not state.HasField("estimated_map50_change"):
        return ""
    return f"mAP50 {state.estimated_map50_change:+.2f}, estimated without labels"


def frame_line(found: common_pb2.FrameDetections) -> str:
    """One frame: time, camera, number, model, and what was found."""
    frame = found.frame
    objects = (
        f"{box.class_name} {box.score:.2f} ({box.x1_px:.0f},{box.y1_px:.0f},{box.x2_px:.0f},{box.y2_px:.0f})"
        for box in found.detections
    )
    return (
        f"{frame.captured.monotonic_ns / 1e9:9.2f} s  {frame.camera}  frame {frame.sequence}"
        f"  model {found.model.sha256[:8]}  {found.times.inference_ns / 1e6:.1f} ms"
        f"  {'; '.join(objects) or 'nothing'}"
    )


def drift_line(state: common_pb2.DriftState) -> str:
    """One drift state: time, camera, verdict, and the feature that carries it."""
    text = f"{state.observed.monotonic_ns / 1e9:9.2f} s  {state.camera}  drift {told_verdict(state)}"
    if state.features:
        first = state.features[0]
        text += f"  {label(first.name)} D {first.ks_d:.2f} over {first.window_s:.0f} s"
    text += f"  {state.expected_false_alarms_per_day:.3g} false alarms a day expected"
    return "  ".join(part for part in (text, state.explanation, map50_words(state)) if part)


def status_line(response: perception_pb2.GetStatusResponse) -> str:
    """The vehicle: version, model, memory."""
    status = response.status
    model = status.model.active
    signature = signature_words(status.model)
    alarms = [f"; {alarm}" for alarm in (signature, status.clock_alarm, status.metadata_alarm) if alarm]
    return (
        f"daemon {status.daemon_version}, up {status.uptime_ns / 1e9:.0f} s,"
        f" {status.resident_bytes / 1e6:.0f} MB, model {model.name} {model.version} {model.sha256[:8]},"
        f" {', '.join(status.execution_providers)}{''.join(alarms)}"
    )


def camera_cells(camera: common_pb2.CameraStatus) -> tuple[str, ...]:
    """State, rates, age, and how its frames left, for a table."""
    outcomes = {count.outcome: count.frames for count in camera.outcomes}
    published = outcomes.pop(common_pb2.FRAME_OUTCOME_PUBLISHED, 0)
    rest = (
        f"{enum_word(common_pb2.FrameOutcome.Name(outcome), 'FRAME_OUTCOME_')} {frames}"
        for outcome, frames in sorted(outcomes.items())
        if frames
    )
    return (
        camera.camera,
        enum_word(common_pb2.CameraState.Name(camera.state), "CAMERA_STATE_"),
        f"{camera.captured_hz:.1f} / {camera.published_hz:.1f}",
        f"{camera.age_p50_ns / 1e6:.0f} / {camera.age_p99_ns / 1e6:.0f}",
        f"{published} of {camera.captured_frames}",
        ", ".join(rest) or "-",
        camera.detail,
    )
