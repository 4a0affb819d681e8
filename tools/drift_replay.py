"""Drives replayed through the detector for their drift features, at the monitor's rate of drive time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.drift import DriftMonitor, DriftState, Reference, Verdict, fit
from edge.drift.features import NAMES, ORIGINS, extract, watched_reference
from edge.drift.pacing import Pace, Step
from edge.errors import TrafficVisionError
from edge.frames.frame import BrokenFrame
from edge.frames.sources import open_source
from edge.perception.detector import Detector, DetectorOptions, InferenceError
from edge.perception.model_file import read_model_file

RATE_HZ = 2.0

Progress = Callable[[int, int | None], None]


class DriftReplayError(TrafficVisionError):
    """A drive that gives nothing to judge."""


@dataclass(frozen=True, slots=True)
class Row:
    """One frame: its time in the drive, ns, and its `float32[F]`."""

    time_ns: int
    vector: npt.NDArray[np.float32]


def load_detector(model: Path, providers: Sequence[str], threads: int) -> Detector:
    """A detector with this model file.

    Raises:
        TrafficVisionError: the model or a provider cannot be used.
    """
    return Detector(read_model_file(model), DetectorOptions(providers=tuple(providers), threads=threads))


def feature_rows(
    source: str,
    detector: Detector,
    rate_hz: float = RATE_HZ,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> Iterator[Row]:
    """The features of a drive's frames; frames in between and broken ones are left out.

    Args:
        source: what `edge.frames.sources.open_source` takes; still pictures come at `rate_hz`.
        detector: finds what is in the frames.
        rate_hz: at most so many frames per second of drive time.
        stop_requested: asked before each frame.
        progress: told how many frames of the source are done, of how many.

    Raises:
        TrafficVisionError: the source cannot be used.
    """
    pace = Pace(rate_hz, gap_s=60.0)
    with open_source(source, still_rate_hz=rate_hz) as frames:
        for done, frame in enumerate(frames, 1):
            if stop_requested():
                return
            if not isinstance(frame, BrokenFrame) and pace.step(frame.captured_ns) is not Step.SKIP:
                try:
                    boxes = detector.detect(frame.image).boxes
                except InferenceError:
                    continue
                vector = extract(frame.image, boxes, class_names=detector.class_names)
                yield Row(frame.captured_ns, vector)
            progress(done, frames.frame_count)


def fit_sources(
    sources: Sequence[str],
    detector: Detector,
    *,
    context: str,
    target_hours: float,
    rate_hz: float = RATE_HZ,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> Reference:
    """Make the reference of one context; each source is a drive of its own.

    Raises:
        TrafficVisionError: a source cannot be used, gives no frame, or the run was stopped.
    """
    drives = []
    for source in sources:
        rows = feature_rows(source, detector, rate_hz, stop_requested=stop_requested, progress=progress)
        drive = [row.vector for row in rows]
        if stop_requested():
            raise DriftReplayError("interrupted: no reference was made")
        if not drive:
            raise DriftReplayError(f"{source!r} gave no frame that the detector could look at")
        drives.append(np.array(drive))
    return fit(drives, rate_hz, NAMES, origins=ORIGINS, context=context, target_hours=target_hours)


def scan_source(
    source: str,
    detector: Detector,
    reference: Reference,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> Iterator[DriftState]:
    """The states of a monitor that watches the drive.

    Raises:
        TrafficVisionError: the source cannot be used, or the reference has none of the features.
    """
    monitor = DriftMonitor(watched_reference(reference))
    rows = feature_rows(source, detector, reference.rate_hz, stop_requested=stop_requested, progress=progress)
    for row in rows:
        state = monitor.observe(row.time_ns, row.vector)
        if state is not None:
            yield state


def reference_text(reference: Reference) -> str:
    """A reference as a table for people."""
    lines = [f"{'context':10s} {'feature':22s} {'mean':>9s} {'tau s':>6s} {'windows s':>13s} {'drives':>6s}"]
    for context in reference.contexts:
        for feature in context.features:
            windows = " ".join(f"{tail.frames / reference.rate_hz:6.0f}" for tail in feature.tails)
            what = windows or ("constant" if feature.constant else "unknown")
            lines.append(
                f"{context.name:10s} {feature.name:22s} {feature.mean:9.3f}"
                f" {feature.tau / reference.rate_hz:6.1f} {what:>13s} {feature.drives:6d}"
            )
    if not reference.calibrated:
        lines.append(
            "uncalibrated: less than 4 h or 500 autocorrelation times of driving; it promises no rate of"
            " false alarms"
        )
    return "\n".join(lines)


def change_text(state: DriftState) -> str:
    """A verdict that has changed, in one line."""
    text = f"{state.time_ns / 1e9:8.1f} s  {state.verdict.value}"
    carriers = [feature for feature in state.features if feature.verdict is Verdict.ALARM]
    if carriers:
        text += "  " + ", ".join(
            f"{one.name} {one.shift_sigma:+.1f} sigma (D {one.d:.2f} over {one.window_s:.0f} s)"
            for one in carriers
        )
    return text
