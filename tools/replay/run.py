"""The replay itself: lock-step, no frame dropped, one line a frame."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.errors import TrafficVisionError
from edge.frames.frame import BrokenFrame, Frame
from edge.frames.outcomes import FrameCounts, Outcome
from edge.frames.sources import DEFAULT_STILL_RATE_HZ, Source, open_source
from edge.perception.detector import Detections, Detector, DetectorOptions, InferenceError
from edge.perception.model_file import read_model_file
from edge.perception.providers import resolve
from tools.replay.annotate import annotate, broken
from tools.replay.durations import Durations
from tools.replay.lines import detections_line, error_line, stage_ns, times_line
from tools.replay.outputs import STDOUT, LinesFile
from tools.replay.summary import Summary
from tools.replay.video import VideoOutput

_UNKNOWN_RATE_HZ = 25.0

Progress = Callable[[int, int | None], None]


class ReplayError(TrafficVisionError):
    """A replay that cannot be done as asked."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to replay, and what to write.

    Attributes:
        source: what `edge.frames.sources.open_source` takes.
        model: the model file.
        options: how to run it.
        jsonl: file for one line of detections a frame, `-` for standard output.
        video: file for the annotated video, .mp4.
        times: file for one line of stage times a frame.
        limit: at most so many frames.
        still_rate_hz: frames per second of still pictures.
    """

    source: str
    model: Path
    options: DetectorOptions = field(default_factory=DetectorOptions)
    jsonl: str | None = None
    video: str | None = None
    times: str | None = None
    limit: int | None = None
    still_rate_hz: float = DEFAULT_STILL_RATE_HZ


def replay(
    request: Request,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> Summary:
    """Run a drive through the detector.

    Args:
        request: what to do.
        stop_requested: asked before each frame; a frame in hand then leaves as stopped.
        progress: told after each frame how many are done, of how many (None where unknown).

    Raises:
        TrafficVisionError: an output, the source or the model cannot be used; nothing is written then.
    """
    _check_targets(request)
    with ExitStack() as stack:
        # All that can be refused is opened before any work.
        lines = stack.enter_context(LinesFile(request.jsonl)) if request.jsonl else None
        times = stack.enter_context(LinesFile(request.times)) if request.times else None
        source = stack.enter_context(open_source(request.source, still_rate_hz=request.still_rate_hz))
        rate_hz = source.rate_hz or _UNKNOWN_RATE_HZ
        video = stack.enter_context(VideoOutput(request.video, rate_hz)) if request.video else None
        detector = Detector(read_model_file(request.model), request.options)
        run = _Run(detector, lines, times, video)
        return run.over(source, request.limit, stop_requested, progress)


class _Run:
    def __init__(
        self, detector: Detector, lines: LinesFile | None, times: LinesFile | None, video: VideoOutput | None
    ) -> None:
        self._detector = detector
        self._lines = lines
        self._times = times
        self._video = video
        self._counts = FrameCounts()
        self._classes: Counter[int] = Counter()
        self._stages = {
            name: Durations()
            for name in ("decode", "preprocess", "inference", "postprocess", "detect", "write", "frame")
        }
        self._shown: npt.NDArray[np.uint8] | None = None
        metadata = detector.model.metadata
        self._model_title = f"{metadata.name} {metadata.version} {detector.model.digest[:8]}"

    def over(
        self,
        source: Source,
        limit: int | None,
        stop_requested: Callable[[], bool],
        progress: Progress,
    ) -> Summary:
        expected = source.frame_count
        if limit is not None:
            expected = limit if expected is None else min(limit, expected)
        started = time.perf_counter()
        interrupted = False
        drive_s = 0.0
        done = 0
        frames = iter(source)
        while limit is None or done < limit:
            decoding = time.perf_counter_ns()
            frame = next(frames, None)
            if frame is None:
                break
            self._counts.captured()
            if stop_requested():
                self._counts.left(Outcome.STOPPED)
                interrupted = True
                break
            self._counts.left(self._take(frame, time.perf_counter_ns() - decoding))
            self._stages["frame"].add(time.perf_counter_ns() - decoding)
            drive_s = frame.captured_ns / 1e9
            done += 1
            progress(done, expected)
        return self._summary(source.name, drive_s, time.perf_counter() - started, interrupted)

    def _take(self, frame: Frame | BrokenFrame, decode_ns: int) -> Outcome:
        if isinstance(frame, BrokenFrame):
            self._fail(frame, Outcome.DECODE_ERROR, frame.reason)
            return Outcome.DECODE_ERROR
        try:
            found = self._detector.detect(frame.image)
        except InferenceError as error:
            self._fail(frame, Outcome.INFERENCE_ERROR, str(error))
            return Outcome.INFERENCE_ERROR
        self._publish(frame, found, decode_ns)
        return Outcome.PUBLISHED

    def _publish(self, frame: Frame, found: Detections, decode_ns: int) -> None:
        for name, duration_ns in {"decode": decode_ns, **stage_ns(found)}.items():
            self._stages[name].add(duration_ns)
        self._classes.update(int(index) for index in found.boxes[:, 5])
        writing = time.perf_counter_ns()
        if self._lines:
            self._lines.write(detections_line(frame, found, self._detector.class_names))
        if self._times:
            self._times.write(times_line(frame, found, decode_ns))
        if self._video:
            count = len(found.boxes)
            caption = self._caption(frame, f"{count} object{'' if count == 1 else 's'}")
            self._shown = annotate(frame.image, found.boxes, self._detector.class_names, caption)
            self._video.write(self._shown)
        self._stages["write"].add(time.perf_counter_ns() - writing)

    def _fail(self, frame: Frame | BrokenFrame, outcome: Outcome, reason: str) -> None:
        if self._lines:
            self._lines.write(error_line(frame, outcome, reason))
        if not self._video:
            return
        picture = frame.image if isinstance(frame, Frame) else self._shown
        if picture is not None:  # a first frame that broke has nothing to stand on
            self._video.write(broken(picture, self._caption(frame, outcome.value.replace("_", " "))))

    def _caption(self, frame: Frame | BrokenFrame, result: str) -> str:
        return f"frame {frame.sequence}  {frame.captured_ns / 1e9:.2f} s  {result}  {self._model_title}"

    def _summary(self, source_name: str, drive_s: float, wall_s: float, interrupted: bool) -> Summary:
        model = self._detector.model
        names = self._detector.class_names
        ranked = sorted(self._classes.items(), key=lambda item: (-item[1], item[0]))
        return Summary(
            source=source_name,
            model={
                "name": model.metadata.name,
                "version": model.metadata.version,
                "precision": model.metadata.precision,
                "digest": model.digest,
            },
            providers=resolve(self._detector.options.providers),
            frames=self._counts.tally(),
            detections={names[index]: count for index, count in ranked},
            stages_ms={name: times.as_ms() for name, times in self._stages.items() if times.count},
            drive_s=drive_s,
            wall_s=wall_s,
            interrupted=interrupted,
        )


def _check_targets(request: Request) -> None:
    if request.limit is not None and request.limit < 1:
        raise ReplayError(f"the limit must be 1 frame or more, not {request.limit}")
    for target in (request.times, request.video):
        if target == STDOUT:
            raise ReplayError("only --jsonl can go to standard output")
    files = [Path(t).resolve() for t in (request.jsonl, request.times, request.video) if t and t != STDOUT]
    if len(set(files)) < len(files):
        raise ReplayError("two outputs have the same name")
    for path in (Path(request.source).resolve(), request.model.resolve()):
        if path in files:
            raise ReplayError(f"{str(path)!r} is read and would be written over; name another output")
