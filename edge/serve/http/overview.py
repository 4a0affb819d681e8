"""What the live page shows beside the picture, as JSON values."""

from __future__ import annotations

import time
from typing import Any

from edge.drift.explaining import label
from edge.health import LoopHealth
from edge.serve.http.metrics import StageTimes
from protos.signature_words import signature_words
from protos.traffic_vision.v1 import common_pb2
from protos.trials import trial_lines
from protos.words import word

MAX_FEATURES = 8


def overview(
    status: common_pb2.VehicleStatus, stages: StageTimes, loop: LoopHealth, troubles: tuple[str, ...]
) -> dict[str, Any]:
    """The vehicle for people: the strongest drift features, times in ms.

    Args:
        status: the vehicle's.
        stages: of the frames lately.
        loop: how the frame loop is.
        troubles: why the daemon is not ready; empty: it is.
    """
    now_ns = time.monotonic_ns()
    return {
        "daemon_version": status.daemon_version,
        "uptime_s": status.uptime_ns / 1e9,
        "resident_bytes": status.resident_bytes,
        "cloud_connected": status.connected_to_cloud,
        "troubles": list(troubles),
        "alarms": [alarm for alarm in (status.clock_alarm, status.metadata_alarm) if alarm],
        "inference": {
            "providers": list(status.execution_providers),
            "down_s": None if loop.down_since_ns is None else (now_ns - loop.down_since_ns) / 1e9,
            "restarts": loop.restarts,
        },
        "stages_ms": {
            stage: {"p50": recent.percentile(0.50) / 1e6, "p99": recent.percentile(0.99) / 1e6}
            for stage, recent in stages.recent.items()
        },
        "cameras": [_camera(camera) for camera in status.cameras],
        "model": _model(status.model),
        "drift": [_drift(state) for state in status.drift],
        "device_drift": _device_drift(status.device_drift) if status.HasField("device_drift") else None,
        "disk": {
            "written_bytes": status.disk.written_bytes,
            "limit_bytes_per_day": status.disk.limit_bytes_per_day,
            "refused_writes": status.disk.refused_writes,
        },
        "spool": {
            "samples": status.spool.samples,
            "used_bytes": status.spool.used_bytes,
            "limit_bytes": status.spool.limit_bytes,
            "dropped_samples": status.spool.dropped_samples,
        },
    }


def model_json(model: common_pb2.ModelRef) -> dict[str, str]:
    """A model by name, version and digest."""
    return {"sha256": model.sha256, "name": model.name, "version": model.version}


def _camera(camera: common_pb2.CameraStatus) -> dict[str, Any]:
    return {
        "name": camera.camera,
        "state": word(common_pb2.CameraState, "CAMERA_STATE_", camera.state),
        "motion": word(common_pb2.Motion, "MOTION_", camera.motion),
        "epoch": camera.epoch,
        "losses": camera.losses,
        "captured_frames": camera.captured_frames,
        "outcomes": {
            word(common_pb2.FrameOutcome, "FRAME_OUTCOME_", count.outcome): count.frames
            for count in camera.outcomes
        },
        "captured_hz": camera.captured_hz,
        "published_hz": camera.published_hz,
        "age_ms": {"p50": camera.age_p50_ns / 1e6, "p99": camera.age_p99_ns / 1e6},
        "detail": camera.detail,
    }


def _model(model: common_pb2.ModelState) -> dict[str, Any]:
    return {
        **model_json(model.active),
        "slot": word(common_pb2.Slot, "SLOT_", model.active_slot),
        "phase": word(common_pb2.UpdatePhase, "UPDATE_PHASE_", model.phase),
        "candidate": model_json(model.candidate) if model.HasField("candidate") else None,
        "received_bytes": model.received_bytes,
        "total_bytes": model.total_bytes,
        "detail": model.detail,
        "signature": signature_words(model),
        "trials": trial_lines(model),
    }


def _device_drift(device: common_pb2.DeviceDrift) -> dict[str, Any]:
    return {
        "verdict": word(common_pb2.DriftVerdict, "DRIFT_VERDICT_", device.verdict),
        "false_alarms_per_day": device.expected_false_alarms_per_day,
        "cameras": list(device.cameras),
    }


def _drift(state: common_pb2.DriftState) -> dict[str, Any]:
    words = state.explanation.split("; ") if state.explanation else []
    told = 1 if state.kind else 0  # what an alarm says comes first, see `edge.messages.drift_state`
    return {
        "camera": state.camera,
        "verdict": word(common_pb2.DriftVerdict, "DRIFT_VERDICT_", state.verdict),
        "kind": "" if not state.kind else word(common_pb2.DriftKind, "DRIFT_KIND_", state.kind),
        "estimated_map50_change": (
            state.estimated_map50_change if state.HasField("estimated_map50_change") else None
        ),
        "context": state.context,
        "false_alarms_per_day": state.expected_false_alarms_per_day,
        "explanation": "; ".join(words[:told]),
        "notes": words[told:],
        "features": [
            {
                "name": feature.name,
                "label": label(feature.name),
                "d": feature.ks_d,
                "window_s": feature.window_s,
                "shift_sigma": feature.shift_sigma if feature.HasField("shift_sigma") else None,
                "verdict": word(common_pb2.DriftVerdict, "DRIFT_VERDICT_", feature.verdict),
            }
            for feature in state.features[:MAX_FEATURES]
        ],
    }
