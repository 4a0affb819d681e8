"""Drives made into a reference, at the rate at which their frames came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from edge.config import CameraConfig
from edge.drift import Reference, Scope, combine, fit, unlearned
from edge.drift.features import NAMES, ORIGINS, watched_reference
from edge.drift.finding import by_context
from edge.drift.fitting import MIN_FRAMES
from edge.drift.frame_rate import SAME_RATE, slowdown_of, taken_to
from edge.drift.pacing import Pace, Step, breaks, gap_at
from edge.perception.detector import Detector
from tools.drift.replay import RATE_HZ, DriftReplayError, Progress, feature_rows
from tools.drift.values import Values, values_of


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """What was seen of one source while the vehicle moved.

    Attributes:
        source: as it was given.
        context: what it is of.
        times: `int64[n]` the frames' time, ns.
        values: `float32[n, F]` their features.
    """

    source: str
    context: str
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
    contexts: Sequence[str],
    target_hours: float,
    find: bool = False,
    scope: Scope = Scope.SERIES,
    rate_hz: float = RATE_HZ,
    camera: CameraConfig | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> Fitted:
    """Make a reference, and keep values for exact tests; each source is a drive of its own.

    Args:
        sources: what `edge.frames.sources.open_source` takes.
        detector: finds what is in the frames.
        contexts: what each source is of.
        target_hours: see `fit_drives`.
        find: see `fit_drives`.
        scope: see `fit_drives`.
        rate_hz: see `fit_drives`.
        camera: whose region and mask are applied.
        stop_requested: asked before each frame.
        progress: told how many frames of a source are read, of how many.

    Raises:
        TrafficVisionError: a source cannot be used, gives no frame, or the run was stopped.
    """
    drives = []
    for source, context in zip(sources, contexts, strict=True):
        rows = feature_rows(
            source, detector, rate_hz, camera=camera, stop_requested=stop_requested, progress=progress
        )
        seen = [(row.time_ns, row.vector) for row in rows if row.moving]
        if stop_requested():
            raise DriftReplayError("interrupted: no reference was made")
        if not seen:
            raise DriftReplayError(f"{source!r} gave no frame that says anything of driving")
        times, vectors = zip(*seen, strict=True)
        drives.append(Drive(source, context, np.array(times, np.int64), np.array(vectors, np.float32)))
    return fit_drives(drives, target_hours=target_hours, rate_hz=rate_hz, find=find, scope=scope)


def fit_drives(
    drives: Sequence[Drive],
    *,
    target_hours: float,
    rate_hz: float,
    find: bool = False,
    scope: Scope = Scope.SERIES,
) -> Fitted:
    """Make a reference of what was seen.

    Frames that came slower than at the rate are fitted as they came, by the slowest of the drives, and the
    reference is then taken to the rate, as that of a slow camera is on a vehicle (`edge.drift.frame_rate`).
    A drive with a gap in its time is several.

    Args:
        drives: of one context or more.
        target_hours: hours of driving to one false alarm.
        rate_hz: in frames of which the reference counts.
        find: look for contexts in all drives together, whatever they say that they are of; where there is
            but one, its name is that of the first drive's.
        scope: FLEET where the drives are of other cameras than the one that will be judged.

    Raises:
        DriftReplayError: there is too little of a context to know anything by.
        DriftReferenceError: no context is found.
    """
    slower = [slowdown_of([drive.times], rate_hz) for drive in drives]
    slowest = max(slower)
    stretches = [(drive.context, piece) for drive in drives for piece in _stretches(drive, rate_hz, slowest)]
    notes = _rate_notes(drives, slower, rate_hz)
    if find:
        pieces = [piece for _, piece in stretches]
        found = by_context(pieces, "found", rate_hz / slowest, ORIGINS, drives[0].context, None, 0)
        notes += (_found_note(found, sum(map(len, pieces))),)
    else:
        names = dict.fromkeys(name for name, _ in stretches)
        found = [(name, [piece for of, piece in stretches if of == name]) for name in names]
    made, values = [], Values({})
    for name, pieces in found:
        one = fit(
            pieces,
            rate_hz / slowest,
            NAMES,
            origins=ORIGINS,
            context=name,
            target_hours=target_hours,
            scope=scope,
        )
        if not any(feature.known for feature in one.contexts[0].features):
            raise DriftReplayError(
                f"too little driving, frames: {sum(map(len, pieces))} of context {name!r}; a feature is known"
                f" by {MIN_FRAMES} that have it, {MIN_FRAMES * slowest / rate_hz:g} s"
            )
        made.append(one)
        values = values_of(one, pieces).beside(values)
    reference = combine(*made)
    return Fitted(reference if slowest == 1.0 else taken_to(reference, rate_hz), values, notes)


def contexts_of(sources: Sequence[str], asked: Sequence[str]) -> list[str]:
    """What each source is of.

    Args:
        sources: as they are given.
        asked: `NAME=PATTERN` for those that fit the pattern (as of files: * and ?), the first that fits; and
            NAME for all others.

    Raises:
        DriftReplayError: a source is of no context, two names are for all others, or a pattern fits nothing.
    """
    patterns = [(name, pattern) for name, given, pattern in (one.partition("=") for one in asked) if given]
    rest = [one for one in asked if "=" not in one]
    if len(rest) > 1:
        raise DriftReplayError(
            f"{' and '.join(rest)} are for all sources: say which are of which by --context NAME=PATTERN"
        )
    for name, pattern in patterns:
        if not any(fnmatchcase(source, pattern) for source in sources):
            raise DriftReplayError(f"--context {name}={pattern}: no SOURCE fits {pattern!r}")
    found = []
    for source in sources:
        fitting = [name for name, pattern in patterns if fnmatchcase(source, pattern)] or rest
        if not fitting:
            raise DriftReplayError(
                f"{source!r} fits no PATTERN: name what the others are of by --context NAME"
            )
        found.append(fitting[0])
    return found


def check_beside(
    others: Reference | None, contexts: Sequence[str], target_hours: float, rate_hz: float
) -> None:
    """Find out before the work whether contexts that are to be fitted can stand beside others, or alone.

    Raises:
        DriftReferenceError: they cannot, or a name, the rate or the promise makes no sense.
    """
    made = [
        unlearned(rate_hz, NAMES, origins=ORIGINS, context=context, target_hours=target_hours)
        for context in dict.fromkeys(contexts)
    ]
    combine(*([watched_reference(others)] if others else []), *made)


def _stretches(drive: Drive, rate_hz: float, slowest: float) -> list[npt.NDArray[np.float32]]:
    """What followed each other, at the rate of the slowest drive."""
    times, values = drive.times, drive.values
    if slowdown_of([times], rate_hz) < slowest * (1 - SAME_RATE):
        pace = Pace(rate_hz / slowest)
        taken = np.array([pace.step(time_ns) is not Step.SKIP for time_ns in times.tolist()])
        times, values = times[taken], values[taken]
    return np.split(values, breaks(times, gap_at(rate_hz / slowest)))


def _found_note(found: Sequence[tuple[str, Sequence[npt.NDArray[np.floating]]]], frames: int) -> str:
    kept = {name: sum(map(len, pieces)) for name, pieces in found}
    shares = ", ".join(f"{name} ({100 * count / frames:.0f} % of the frames)" for name, count in kept.items())
    left = 100 * (1 - sum(kept.values()) / frames)
    return f"contexts found: {shares}; {left:.0f} % are of none, and were left out"


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
