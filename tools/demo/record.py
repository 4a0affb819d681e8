"""What a demonstration has seen, as plain data: the run fills it in, the report lays it out.

Drive times are seconds of the frames' own time from the drive's start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SLICES = ("day", "night")


@dataclass(frozen=True, slots=True)
class Score:
    """mAP50 of one model on one slice of the pictures that no training saw.

    Attributes:
        map50: by COCO's rules, over the classes with enough boxes.
        low, high: ends of the bootstrap interval over drives.
        images, drives: that it was measured on.
    """

    map50: float
    low: float
    high: float
    images: int
    drives: int


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One of the two models.

    Attributes:
        name, version, sha256: of the model file.
        path: the file.
        scores: by slice, `day` and `night`.
    """

    name: str
    version: str
    sha256: str
    path: Path
    scores: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class DriftPoint:
    """The drift monitor's state at one moment.

    Attributes:
        drive_s: when.
        verdict: `stable`, `alarm`, `learning`, `uncalibrated` or `paused`.
        context: that the frames fit; empty: none.
        ks: Kolmogorov-Smirnov distance of each feature.
        alarming: features that are in alarm.
        model: SHA-256 of the model that ran.
    """

    drive_s: float
    verdict: str
    context: str
    ks: Mapping[str, float]
    alarming: tuple[str, ...]
    model: str


@dataclass(frozen=True, slots=True)
class SwapRecord:
    """The swap, as the daemon's log and its stream of detections tell it.

    Attributes:
        drive_s: of the first frame under the new model.
        frame_before, frame_after: sequence numbers around it.
        frames_lost: captured frames between the two that were not published.
        gap_ms: between the two publications.
        exchange_us: how long the exchange itself held the loop up.
        gaps: around the swap, (sequence, ms since the publication before) by sequence.
    """

    drive_s: float
    frame_before: int
    frame_after: int
    frames_lost: int
    gap_ms: float
    exchange_us: float
    gaps: Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One night picture as both models see it.

    Attributes:
        name: of the picture.
        jpeg: the picture.
        before, after: detections, `(x1, y1, x2, y2, score, class name)` in pixels.
        truth: labelled boxes, `(x1, y1, x2, y2, class name)`.
    """

    name: str
    jpeg: bytes
    before: Sequence[tuple[float, float, float, float, float, str]]
    after: Sequence[tuple[float, float, float, float, float, str]]
    truth: Sequence[tuple[float, float, float, float, str]]


@dataclass(frozen=True, slots=True)
class DemoRecord:
    """A whole demonstration.

    Attributes:
        mode: `simulated` or `real`.
        baseline, candidate: the models.
        gate: the gate's judgement, as JSON values (`cloud.pipeline.gate.Judgement.to_json`).
        night_from_s: when dusk begins; in a drive of pictures, the time of the first by night.
        drift: every state, in order.
        swap: the swap.
        frames: `captured` and each way out, counted by the daemon.
        samples: `shipped` (acknowledged to the vehicle), `stored`, `labelled`, `refused`.
        timings: stage to seconds of wall time.
        training: epoch by epoch, (loss, mAP50 on the validation pictures).
        comparisons: night pictures of drives that no training saw.
        edge: `peak_resident_mb` and other facts of the vehicle's process.
        lineage: where the candidate comes from, as text.
        machine: what it ran on, for people.
        wall_s: wall time of the whole run; the sum of `timings` unless given.
        train_and_evaluate: names in `timings` of the stages that are training or evaluation.
    """

    mode: Literal["simulated", "real"]
    baseline: ModelRecord
    candidate: ModelRecord
    gate: Mapping[str, Any]
    night_from_s: float
    drift: Sequence[DriftPoint]
    swap: SwapRecord
    frames: Mapping[str, int]
    samples: Mapping[str, int]
    timings: Mapping[str, float]
    training: Sequence[tuple[float, float]] = ()
    comparisons: Sequence[Comparison] = ()
    edge: Mapping[str, float] = field(default_factory=dict)
    lineage: str = ""
    machine: str = ""
    wall_s: float | None = None
    train_and_evaluate: tuple[str, ...] = ("train", "validate", "evaluate")
