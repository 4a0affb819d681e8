"""What a replay is asked for, and what of it contradicts itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edge.frames.sources import DEFAULT_STILL_RATE_HZ
from edge.perception.detector import DetectorOptions
from tools.replay.errors import ReplayError
from tools.replay.outputs import STDOUT

_SPEEDS = {"max": None, "recorded": 1.0}


@dataclass(frozen=True, slots=True)
class Swap:
    """Another model from a frame on.

    Attributes:
        model: its file.
        frame: the first frame that it answers; where that one does not decode, the next one.
        camera: whose frame; empty: the first source's.
    """

    model: Path
    frame: int
    camera: str = ""


@dataclass(frozen=True, slots=True)
class Drift:
    """Drift is watched, as the daemon does it.

    Attributes:
        reference: judges the first model; None: as its file says, and without that what is seen is learned.
    """

    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """A second model looks at every frame too.

    Attributes:
        model: its file.
        jsonl: file for one line a frame, `-` for standard output.
        html: file for a page with the pictures where the two disagree the most.
        pictures: so many on it, at most.
    """

    model: Path
    jsonl: str | None = None
    html: str | None = None
    pictures: int = 12


@dataclass(frozen=True, slots=True)
class Request:
    """What to replay, and what to write.

    Attributes:
        sources: each what `edge.frames.sources.open_source` takes, and a camera of its own.
        model: the model file.
        camera_names: one for each source; empty: after the sources.
        options: how to run the models.
        jsonl: file for one line of detections a frame, `-` for standard output.
        video: file for the annotated video, .mp4; with several sources, one each: NAME-CAMERA.mp4.
        times: file for one line of stage times a frame.
        drift_jsonl: file for one line a drift state.
        mcap: file for all of it, as an MCAP.
        mcap_start_ns: Unix time, ns, that stands in the MCAP for the start of every drive.
        limit: at most so many frames of each source.
        still_rate_hz: frames per second of still pictures.
        speed: at most so many seconds of a drive in one of ours; None: no limit.
        swap, drift, compare: where asked for.
    """

    sources: tuple[str, ...]
    model: Path
    camera_names: tuple[str, ...] = ()
    options: DetectorOptions = field(default_factory=DetectorOptions)
    jsonl: str | None = None
    video: str | None = None
    times: str | None = None
    drift_jsonl: str | None = None
    mcap: str | None = None
    mcap_start_ns: int = 0
    limit: int | None = None
    still_rate_hz: float = DEFAULT_STILL_RATE_HZ
    speed: float | None = None
    swap: Swap | None = None
    drift: Drift | None = None
    compare: Compare | None = None


def speed_of(text: str) -> float | None:
    """`max`, `recorded`, or a factor of the recording's own time.

    Raises:
        ReplayError: it is none of these.
    """
    if text in _SPEEDS:
        return _SPEEDS[text]
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:  # neither does a NaN pass
        raise ReplayError(f"--speed is {text!r}, expected max, recorded, or a factor above 0")
    return factor


def swap_of(model: Path | None, at: str | None) -> Swap | None:
    """A swap `at` a frame, FRAME or CAMERA:FRAME.

    Raises:
        ReplayError: one of the two is missing, or the frame is none.
    """
    if model is None and at is None:
        return None
    if model is None or at is None:
        raise ReplayError("--swap-to and --swap-at go together: which model, and from which frame on")
    camera, _, number = at.rpartition(":")
    if not number.isdecimal():
        raise ReplayError(f"--swap-at is {at!r}, expected a frame's number, or CAMERA:NUMBER")
    return Swap(model, int(number), camera)


def check(request: Request, videos: Iterable[Path]) -> None:
    """Find what contradicts itself, before anything is opened.

    Args:
        request: what is asked for.
        videos: the files that `request.video` comes to.

    Raises:
        ReplayError: with the first of it.
    """
    if request.limit is not None and request.limit < 1:
        raise ReplayError(f"the limit must be 1 frame or more, not {request.limit}")
    if request.drift_jsonl and request.drift is None:
        raise ReplayError("--drift-jsonl needs --drift")
    compare = request.compare
    if compare and request.swap:
        raise ReplayError("--compare and --swap-to exclude each other: which of the two models is A?")
    if compare and not 1 <= compare.pictures <= 100:
        raise ReplayError(f"--compare-pictures is {compare.pictures}, expected 1 to 100")
    to_stdout = [request.jsonl, request.drift_jsonl, compare.jsonl if compare else None].count(STDOUT)
    if to_stdout > 1:
        raise ReplayError("lines of two kinds would mix on standard output; give one of them a file")
    if STDOUT in (request.times, request.video, request.mcap, compare.html if compare else None):
        raise ReplayError("only lines of detections, drift or comparison can go to standard output")
    _check_files(request, videos)


def _check_files(request: Request, videos: Iterable[Path]) -> None:
    compare = request.compare
    named = [request.jsonl, request.times, request.drift_jsonl, request.mcap]
    named += [compare.jsonl, compare.html] if compare else []
    written = [Path(name).resolve() for name in named if name and name != STDOUT]
    written += [video.resolve() for video in videos]
    if len(set(written)) < len(written):
        raise ReplayError("two outputs have the same name")
    read = [*map(Path, request.sources), request.model]
    read += [request.swap.model] if request.swap else []
    read += [compare.model] if compare else []
    read += [request.drift.reference] if request.drift and request.drift.reference else []
    for path in (path.resolve() for path in read):
        if path in written:
            raise ReplayError(f"{str(path)!r} is read and would be written over; name another output")
