"""The replay itself: lock-step, no frame dropped, one line a frame."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from edge.config import CameraConfig, DriftConfig
from edge.drift.features import fleet_prior, watched_reference
from edge.drift.reference import Reference
from edge.frames.camera import Camera
from edge.frames.frame import BrokenFrame, Frame
from edge.frames.sources import MAX_STILL_RATE_HZ
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.hot_swap import prepare
from edge.perception.model_file import ModelFile, read_model_file
from edge.perception.providers import resolve
from tools.replay.compare.run import Comparing
from tools.replay.errors import ReplayError
from tools.replay.mcap_file import McapOutput
from tools.replay.naming import camera_names, video_paths
from tools.replay.outputs import LinesFile, OutputError
from tools.replay.path import Answered, DaemonPath
from tools.replay.quiet import only_errors_logged
from tools.replay.request import Request, Swap, check
from tools.replay.summary import DriveSummary, Summary, SwapSummary, model_facts
from tools.replay.tally import DriveTally
from tools.replay.video import VideoOutput
from tools.replay.writing import Writing

_UNKNOWN_RATE_HZ = 25.0
_CHECK_TIMEOUT_S = 900.0  # as the daemon's own default

Progress = Callable[[int, int | None], None]


def replay(
    request: Request,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> Summary:
    """Run drives through the daemon's path, one after the other.

    Args:
        request: what to do.
        stop_requested: asked before each frame; frames in hand then leave as stopped.
        progress: told after each frame how many are done, of how many (None where unknown).

    Raises:
        TrafficVisionError: an output, a source or a model cannot be used; nothing is written then.
    """
    names = camera_names(request.sources, request.camera_names)
    videos = video_paths(request.video, names)
    check(request, videos)
    with ExitStack() as stack:
        stack.enter_context(only_errors_logged())
        # All that can be refused is opened before any work.
        lines, times, drift_lines = (
            stack.enter_context(LinesFile(target)) if target else None
            for target in (request.jsonl, request.times, request.drift_jsonl)
        )
        mcap = stack.enter_context(_open_mcap(request, request.mcap)) if request.mcap else None
        model = read_model_file(request.model)
        comparing = page_file = None
        if request.compare:
            asked = request.compare
            compared = stack.enter_context(LinesFile(asked.jsonl)) if asked.jsonl else None
            page_file = stack.enter_context(_open_page(asked.html)) if asked.html else None
            comparing = Comparing(asked, model, request.options, compared)
        path = stack.enter_context(
            DaemonPath(
                [_camera(request, *pair) for pair in zip(names, request.sources, strict=True)],
                Detector(model, request.options),
                limit=request.limit,
                drift=_drift(request, model),
                factory=request.model,
            )
        )
        swap = _plan_swap(path, request.swap, request.options, names[0]) if request.swap else None
        writing = Writing(lines, times, drift_lines, mcap)
        for name, target in zip(names, videos, strict=False):
            rate_hz = path.recording(name).rate_hz or _UNKNOWN_RATE_HZ
            writing.videos[name] = stack.enter_context(VideoOutput(str(target), rate_hz))

        run = _Run(path, writing, comparing, swap, stop_requested, progress)
        summary = run.over_all(model)
        if mcap:
            mcap.attach_summary(json.dumps(summary.to_json(), indent=2).encode())
        if page_file and comparing:
            from tools.replay.compare.page import page

            page_file.write(page(comparing))
        return summary


class _Run:
    def __init__(
        self,
        path: DaemonPath,
        writing: Writing,
        comparing: Comparing | None,
        swap: _Swap | None,
        stop_requested: Callable[[], bool],
        progress: Progress,
    ) -> None:
        self._path = path
        self._writing = writing
        self._comparing = comparing
        self._swap = swap
        self._stop_requested = stop_requested
        self._progress = progress
        self._done = 0
        counts = [path.recording(camera.config.name).frame_count for camera in path.cameras]
        known = [count for count in counts if count is not None]
        self._expected = sum(known) if len(known) == len(counts) else None

    def over_all(self, model: ModelFile) -> Summary:
        began = time.perf_counter()
        if self._writing.mcap:
            self._writing.mcap.add_model(model)
        drives: list[DriveSummary] = []
        for camera in self._path.cameras:
            if self._stop_requested():
                break
            drives.append(self._over(camera))
        comparing = self._comparing
        return Summary(
            model=model_facts(model),
            providers=resolve(self._path.options.providers),
            drives=tuple(drives),
            sources=len(self._path.cameras),
            wall_s=time.perf_counter() - began,
            interrupted=self._stop_requested(),
            swap=self._swap.summary() if self._swap else None,
            compare=comparing.to_json() if comparing else None,
            compare_text=comparing.to_text() if comparing else "",
        )

    def _over(self, camera: Camera) -> DriveSummary:
        name = camera.config.name
        recording = self._path.recording(name)
        if self._writing.mcap:
            self._writing.mcap.add_camera(name, recording.name)
        tally = DriveTally(name, recording.name)
        for event in self._path.frames(camera, self._stop_requested):
            writing_ns = time.perf_counter_ns()
            if isinstance(event, Answered):
                self._answered(event, tally)
                shot: Frame | BrokenFrame = event.frame
            else:
                self._writing.unanswered(event)
                shot = event.shot
            tally.passed(shot.captured_ns, time.perf_counter_ns() - writing_ns)
            self._done += 1
            self._progress(self._done, self._expected)
        return tally.summary(camera.counts.tally())

    def _answered(self, event: Answered, tally: DriveTally) -> None:
        swap = self._swap
        if swap and swap.first_frame is None and event.published.detections.model_digest == swap.model.digest:
            swap.first_frame = event.frame.sequence
            if self._writing.mcap:
                self._writing.mcap.add_model(swap.model)
        tally.answered(event)
        self._writing.answered(event)
        if self._comparing:
            self._comparing.look(event)


@dataclass(slots=True, eq=False)
class _Swap:
    """A swap that is planned: the model, where it was asked for, and where it came."""

    model: ModelFile
    camera: str
    frame: int
    first_frame: int | None = None

    def summary(self) -> SwapSummary:
        return SwapSummary(model_facts(self.model), self.camera, self.frame, self.first_frame)


def _plan_swap(path: DaemonPath, asked: Swap, options: DetectorOptions, first_camera: str) -> _Swap:
    """Check the new model as the daemon does, load it, and have it wait for its frame."""
    swap = _Swap(read_model_file(asked.model), asked.camera or first_camera, asked.frame)
    path.check_swap(swap.camera, swap.frame)
    if swap.model.digest == path.model.digest:
        raise ReplayError(f"--swap-to {str(asked.model)!r} is the model that runs already")
    detector = prepare(swap.model, options, timeout_s=_CHECK_TIMEOUT_S, stopping=threading.Event())
    path.plan_swap(detector, swap.camera, swap.frame)
    return swap


def _camera(request: Request, name: str, source: str) -> CameraConfig:
    """The configuration that a daemon would have for this recording."""
    if not source:
        raise ReplayError("a source is empty: give a video file, a folder of pictures, or sim:...")
    if not 0 < request.still_rate_hz <= MAX_STILL_RATE_HZ:  # neither does a NaN pass
        raise ReplayError(
            f"--rate must be above 0 and at most {MAX_STILL_RATE_HZ:g} pictures per second,"
            f" not {request.still_rate_hz:g}"
        )
    return CameraConfig(
        name=name,
        url=source,
        pace="lockstep",
        speed_limit=request.speed,
        still_rate_hz=request.still_rate_hz,
    )


def _drift(request: Request, model: ModelFile) -> DriftConfig | None:
    """How drift is watched; what cannot judge is refused here, where the daemon would learn in its place."""
    if request.drift is None:
        return None
    prior = model.metadata.drift_prior
    if request.drift.reference is not None:
        watched_reference(Reference.load(request.drift.reference))
        return DriftConfig(reference=request.drift.reference, commission_hours=0)
    if prior is not None:
        fleet_prior(prior)
    return DriftConfig(commission_hours=0)


def _open_mcap(request: Request, target: str) -> McapOutput:
    facts = {
        "traffic_vision_version": version("traffic-vision"),
        "providers": ", ".join(resolve(request.options.providers)),
        "threads": str(request.options.threads),
    }
    return McapOutput(target, request.mcap_start_ns, facts)


def _open_page(target: str) -> LinesFile:
    import jinja2  # noqa: F401 - what is missing is missed before the work

    if Path(target).suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"cannot write {target!r}: a page's name ends in .html")
    return LinesFile(target)
