"""The lines that a replay writes. Rounding is fixed, so that the same detections are the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edge.frames.frame import BrokenFrame, Frame
from edge.frames.outcomes import Outcome
from edge.perception.detector import Detections

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
    return _json({**_head(frame), "model": found.model_digest[:_DIGEST_DIGITS], "detections": detections})


def error_line(frame: Frame | BrokenFrame, outcome: Outcome, reason: str) -> str:
    """A frame that has no detections, and why."""
    return _json({**_head(frame), "error": outcome.value, "reason": reason})


def times_line(frame: Frame, found: Detections, decode_ns: int) -> str:
    """How long each stage of one frame took, ms."""
    stages = {"decode": decode_ns, **stage_ns(found)}
    return _json({**_head(frame), "ms": {name: round(ns / 1e6, 4) for name, ns in stages.items()}})


def stage_ns(found: Detections) -> dict[str, int]:
    """The detector's stages by name, ns, and their sum as `detect`."""
    times = found.stage_ns
    stages = {
        "preprocess": times.preprocess,
        "inference": times.inference,
        "postprocess": times.postprocess,
    }
    return {**stages, "detect": sum(stages.values())}


def _head(frame: Frame | BrokenFrame) -> dict[str, Any]:
    head: dict[str, Any] = {"frame": frame.sequence}
    if frame.name:
        head["name"] = frame.name
    return {**head, "time_s": round(frame.captured_ns / 1e9, 6)}


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
