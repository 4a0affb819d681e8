"""The lines that a replay writes. Rounding is fixed, so that the same detections are the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edge.frames.frame import BrokenFrame, Frame
from edge.frames.outcomes import Outcome
from edge.perception.detector import Detections
from protos.traffic_vision.v1 import common_pb2
from protos.words import word

_DIGEST_DIGITS = 12


def detections_line(frame: Frame, found: Detections, names: Sequence[str]) -> str:
    """One frame's detections: boxes in pixels to the hundredth, scores to five digits, the model's digest."""
    detections = [
        {
            "class": names[int(index)],
            "score": round(float(score), 5),
            "box": [round(float(side), 2) for side in box],
        }
        for *box, score, index in found.boxes
    ]
    head = head_of(frame.camera, frame)
    return as_line({**head, "model": found.model_digest[:_DIGEST_DIGITS], "detections": detections})


def error_line(camera: str, shot: Frame | BrokenFrame, outcome: Outcome, reason: str) -> str:
    """A frame that has no detections, and why."""
    return as_line({**head_of(camera, shot), "error": outcome.value, "reason": reason})


def times_line(frame: Frame, found: Detections, decode_ns: int) -> str:
    """How long each stage of one frame took, ms."""
    stages = {"decode": decode_ns, **stage_ns(found)}
    ms = {name: round(ns / 1e6, 4) for name, ns in stages.items()}
    return as_line({**head_of(frame.camera, frame), "ms": ms})


def drift_line(frame: Frame, state: common_pb2.DriftState) -> str:
    """A drift state that came with a frame: as `drift scan` gives it, and by what was judged."""
    features = [
        {
            "name": one.name,
            "origin": word(common_pb2.FeatureOrigin, "FEATURE_ORIGIN_", one.origin),
            "context": one.context,
            "window_s": one.window_s,
            "d": one.ks_d,
            "p": one.p_value,
            "false_alarms_per_day": one.expected_false_alarms_per_day,
            "shift_sigma": one.shift_sigma,
            "verdict": verdict_word(one.verdict),
        }
        for one in state.features
    ]
    return as_line(
        {
            **head_of(frame.camera, frame),
            "model": state.model.sha256[:_DIGEST_DIGITS],
            "reference": state.reference_sha256[:_DIGEST_DIGITS],
            "verdict": verdict_word(state.verdict),
            "since_s": round(state.since.monotonic_ns / 1e9, 6),
            "false_alarms_per_day": state.expected_false_alarms_per_day,
            "context": state.context,
            "unknown_context_share": state.unknown_context_share,
            "kind": word(common_pb2.DriftKind, "DRIFT_KIND_", state.kind) if state.kind else None,
            "explanation": state.explanation,
            "estimated_map50_change": (
                state.estimated_map50_change if state.HasField("estimated_map50_change") else None
            ),
            "features": features,
        }
    )


def verdict_word(verdict: int) -> str:
    """A verdict as it stands in files."""
    return word(common_pb2.DriftVerdict, "DRIFT_VERDICT_", verdict)


def stage_ns(found: Detections) -> dict[str, int]:
    """The detector's stages by name, ns, and their sum as `detect`."""
    times = found.stage_ns
    stages = {
        "preprocess": times.preprocess,
        "inference": times.inference,
        "postprocess": times.postprocess,
    }
    return {**stages, "detect": sum(stages.values())}


def head_of(camera: str, shot: Frame | BrokenFrame) -> dict[str, Any]:
    """Which frame a line is of."""
    head: dict[str, Any] = {"camera": camera, "frame": shot.sequence}
    if shot.name:
        head["name"] = shot.name
    return {**head, "time_s": round(shot.captured_ns / 1e9, 6)}


def as_line(value: dict[str, Any]) -> str:
    """JSON on one line; NaN and infinity, which JSON has not, are a defect."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
