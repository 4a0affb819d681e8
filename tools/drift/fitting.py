"""Drives made into a reference, at the rate at which their frames came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.config import CameraConfig
from edge.drift import Reference, combine, fit, unlearned
from edge.drift.features import NAMES, ORIGINS, watched_reference
from edge.drift.fitting import MIN_FRAMES
from edge.drift.frame_rate import SAME_RATE, slowdown_of, taken_to
from edge.drift.pacing import GAP_S, Pace, Step, breaks
from edge.perception.detector import Detector
from tools.drift.replay import RATE_HZ, DriftReplayError, Progress, feature_rows
from tools.drift.values import Values, values_of


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """What was seen of one source while the vehicle moved.

    Attributes:
        source: as it was given.
        times: `int64[n]` the frames' time, ns.
        values: `float32[n, F]` their features.
    """

    source: str
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A reference that was made.

    Attributes:
        reference: it counts in frames of the rate that was asked for.
        values: of its frames, for exact tests.
        notes: what people should know of how it was made.
    """

    reference: Reference
    values: Values
    notes: tuple[str, ...]


def fit_sources(
    sources: Sequence[str],
    detector: Detector,
    *,
    context: str,
    target_hours: float,
    rate_hz: float = RATE_HZ,
    camera: CameraConfig | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> Fitted:
    """Make the reference of one context, and keep values for exact tests; each source is a drive of its own.

    Raises:
        TrafficVisionError: a source cannot be used, gives no frame, or the run was stopped.
    """
    drives = []
    for source in sources:
        rows = feature_rows(
            source, detector, rate_hz, camera=camera, stop_requested=stop_requested, progress=progress
        )
        seen = [(row.time_ns, row.vector) for row in rows if row.moving]
        if stop_requested():
            raise DriftReplayError("interrupted: no reference was made")
        if not seen:
            raise DriftReplayError(f"{source!r} gave no frame that says anything of driving")
        times, vectors = zip(*seen, strict=True)
        drives.append(Drive(source, np.array(times, np.int64), np.array(vectors, np.float32)))
    return fit_drives(drives, context=context, target_hours=target_hours, rate_hz=rate_hz)


def fit_drives(drives: Sequence[Drive], *, context: str, target_hours: float, rate_hz: float) -> Fitted:
    """Make the reference of one context of what was seen.

    Frames that came slower than at the rate are fitted as they came, by the slowest of the drives, and the
    reference is then taken to the rate, as that of a slow camera is on a vehicle (`edge.drift.frame_rate`).
    A drive with a gap in its time is several.

    Raises:
        DriftReplayError: there is too little of them to know anything by.
    """
    slower = [slowdown_of([drive.times], rate_hz) for drive in drives]
    slowest = max(slower)
    stretches = [piece for drive in drives for piece in _stretches(drive, rate_hz, slowest)]
    made = fit(
        stretches, rate_hz / slowest, NAMES, origins=ORIGINS, context=context, target_hours=target_hours
    )
    if not any(feature.known for feature in made.contexts[0].features):
        raise DriftReplayError(
            f"too little driving, frames: {sum(map(len, stretches))}; a feature is known by {MIN_FRAMES} that"
            f" have it, {MIN_FRAMES * slowest / rate_hz:g} s"
        )
    reference = made if slowest == 1.0 else taken_to(made, rate_hz)
    return Fitted(reference, values_of(made, stretches), _rate_notes(drives, slower, rate_hz))


def check_beside(others: Reference | None, context: str, target_hours: float, rate_hz: float) -> None:
    """Find out before the work whether a context that is to be fitted can stand beside others, or alone.

    Raises:
        DriftReferenceError: it cannot, or its name, rate or promise makes no sense.
    """
    made = unlearned(rate_hz, NAMES, origins=ORIGINS, context=context, target_hours=target_hours)
    if others:
        combine(watched_reference(others), made)


def _stretches(drive: Drive, rate_hz: float, slowest: float) -> list[npt.NDArray[np.float32]]:
    """What followed each other, at the rate of the slowest drive."""
    times, values = drive.times, drive.values
    if slowdown_of([times], rate_hz) < slowest * (1 - SAME_RATE):
        pace = Pace(rate_hz / slowest, GAP_S)
        taken = np.array([pace.step(time_ns) is not Step.SKIP for time_ns in times.tolist()])
        times, values = times[taken], values[taken]
    return np.split(values, breaks(times, max(GAP_S, 2 * slowest / rate_hz)))


def _rate_notes(drives: Sequence[Drive], slower: Sequence[float], rate_hz: float) -> tuple[str, ...]:
    slowest = max(slower)
    if slowest == 1.0:
        return ()
    source = drives[slower.index(slowest)].source
    came = f"{rate_hz / slowest:.2g} frames a second came of {source!r}, not {rate_hz:g}"
    if min(slower) >= slowest * (1 - SAME_RATE):
        return (f"{came}: it was fitted at that rate, and taken to {rate_hz:g}",)
    quicker = sum(factor < slowest * (1 - SAME_RATE) for factor in slower)
    return (
        f"{came}: all drives were fitted at that rate, the quicker ones ({quicker}) too, and taken to"
        f" {rate_hz:g}; without the slow ones more of the others counts",
    )
