"""Judges a drive by a reference, for its report."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from edge.config import CameraConfig
from edge.drift import DriftMonitor, DriftState, Reference, Verdict
from edge.drift.calibration import WINDOWS_TAU
from edge.drift.explaining import drive_words, explained
from edge.drift.features import NAMES, watched_reference
from edge.drift.frame_rate import FrameRate
from edge.drift.memory import Snapshot
from edge.drift.state import Origin
from edge.drift.unknown import NAME as UNKNOWN
from edge.drift.unknown import usual_share
from edge.perception.detector import Detector
from tools.drift.exact import confirm
from tools.drift.judged import Alarm, Distribution, JudgedDrive, Misfits, Series, Shot
from tools.drift.limits import limits, share_limits, window_distances
from tools.drift.replay import DriftReplayError, Progress, Row, feature_rows
from tools.drift.values import Values

BESIDE_S = 5.0  # the frames before and after an alarm that are shown
BEFORE_S = 60.0  # and how it was, while its windows still held what the reference knows
_PICTURE_WIDTH = 320  # pixels
_JPEG_QUALITY = 80


def picture_only(reference: Reference) -> Reference:
    """The reference without the features that need a model.

    Raises:
        DriftReplayError: none is left.
    """
    contexts = tuple(
        replace(context, features=tuple(one for one in context.features if one.origin is Origin.PICTURE))
        for context in reference.contexts
    )
    if not any(feature.known for context in contexts for feature in context.features):
        raise DriftReplayError("the reference knows no feature of the picture: name the model by --model")
    return replace(reference, contexts=contexts)


def judge_source(
    source: str,
    detector: Detector | None,
    reference: Reference,
    values: Values | None,
    *,
    camera: CameraConfig | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> JudgedDrive:
    """Run a drive through the daemon's path and a monitor of its own.

    Args:
        source: what `edge.frames.sources.open_source` takes.
        detector: finds what is in the frames; None: the features of detections are left out.
        reference: what to judge by.
        values: of the reference, for exact tests; None: there are none.
        camera: whose region and mask are applied.
        stop_requested: asked before each frame; what was judged so far is kept.
        progress: told how many frames of the source are read, of how many.

    Raises:
        TrafficVisionError: the source or the reference cannot be used.
    """
    known = watched_reference(reference)
    known = known if detector else picture_only(known)
    rows = feature_rows(
        source,
        detector,
        reference.rate_hz,
        camera=camera,
        stop_requested=stop_requested,
        progress=progress,
    )
    return judge_rows(source, rows, known, values)


def judge_rows(source: str, rows: Iterable[Row], reference: Reference, values: Values | None) -> JudgedDrive:
    """Judge a drive's rows by a reference of some of their features.

    Raises:
        DriftReplayError: there is no row.
    """
    judging = _Judging(reference, values)
    for row in rows:
        judging.take(row)
    if not judging.times:
        raise DriftReplayError(f"{source!r} gave no frame that could be looked at")
    monitor = judging.monitor
    return JudgedDrive(source, monitor.reference, judging.series(), judging.ended(), monitor.state)


@dataclass(slots=True, eq=False)
class _Open:
    """An alarm that goes on."""

    began: DriftState
    strongest: DriftState
    distributions: tuple[Distribution, ...]
    shots: list[Shot]
    features: dict[str, None]

    def closed(self, end_s: float | None) -> Alarm:
        return Alarm(
            self.began, self.strongest, end_s, tuple(self.features), self.distributions, tuple(self.shots)
        )


class _Judging:
    def __init__(self, reference: Reference, values: Values | None) -> None:
        self.monitor = DriftMonitor(reference)
        self.times: list[float] = []
        self._reference = reference
        self._usual = usual_share(reference)
        self._values = values
        self._columns = [NAMES.index(name) for name in reference.names]
        known = [len(one.tails) for context in reference.contexts for one in context.features]
        self._windows = max(len(WINDOWS_TAU), *known)
        self._vectors: list[npt.NDArray[np.float32]] = []
        self._contexts: list[int] = []
        self._states: list[tuple[float, Verdict, int]] = []
        self._steps: list[float] = []  # average time between two frames, s
        self._d: list[npt.NDArray[np.float32]] = []
        self._means: list[npt.NDArray[np.float32]] = []
        self._alarming: list[npt.NDArray[np.bool_]] = []
        self._shares: list[list[float]] = []
        self._unknown: list[bool] = []
        self._recent: deque[tuple[int, npt.NDArray[np.uint8]]] = deque()
        self._open: _Open | None = None
        self._alarms: list[Alarm] = []

    def take(self, row: Row) -> None:
        vector = row.vector[self._columns]
        self.times.append(row.time_ns / 1e9)
        self._vectors.append(vector)
        self._keep(row)
        state = self.monitor.observe(row.time_ns, vector, moving=row.moving)
        if state is not None:
            self._judged(state)

    def ended(self) -> tuple[Alarm, ...]:
        if self._open is not None:
            self._alarms.append(self._open.closed(None))
            self._open = None
        return tuple(self._alarms)

    def series(self) -> Series:
        features = len(self._columns)
        frames = np.full(len(self.times), -1, np.int8)
        frames[: len(self._contexts)] = self._contexts
        judged_in = np.array([context for _, _, context in self._states], np.int8)
        step_s = FrameRate(self._reference.rate_hz).told(np.array(self._steps))
        return Series(
            np.array(self.times),
            np.array(self._vectors, np.float32),
            frames,
            np.array([time_s for time_s, _, _ in self._states]),
            tuple(verdict for _, verdict, _ in self._states),
            judged_in,
            np.array(self._d, np.float32).reshape(-1, self._windows, features),
            self._limits(judged_in, step_s),
            np.array(self._means, np.float32).reshape(-1, features),
            np.array(self._alarming, np.bool_).reshape(-1, features),
            self._misfits(judged_in, step_s),
        )

    def _limits(
        self, judged_in: npt.NDArray[np.int8], step_s: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        found = np.full((len(judged_in), self._windows, len(self._columns)), np.inf, np.float32)
        for number, context in enumerate(self.monitor.reference.contexts):
            there = judged_in == number
            known = limits(self._reference, context, step_s[there])
            found[there, : known.shape[1]] = known
        return found

    def _misfits(self, judged_in: npt.NDArray[np.int8], step_s: npt.NDArray[np.float64]) -> Misfits | None:
        usual = self._usual
        if usual is None:
            return None
        limit = np.zeros((len(judged_in), len(usual.windows)), np.float32)
        for number, context in enumerate(self.monitor.reference.contexts):
            there = judged_in == number
            limit[there] = share_limits(usual, self._reference, context, step_s[there])
        shares = np.array(self._shares, np.float32).reshape(limit.shape)
        return Misfits(usual.usual, shares, limit, np.array(self._unknown, np.bool_))

    def _keep(self, row: Row) -> None:
        self._recent.append((row.time_ns, _small(row.frame.part)))
        while row.time_ns - self._recent[0][0] > BEFORE_S * 1e9 or row.time_ns < self._recent[0][0]:
            self._recent.popleft()
        if self._open is None:
            return
        after_s = (row.time_ns - self._open.began.time_ns) / 1e9
        if after_s >= BESIDE_S > self._open.shots[-1].after_s:
            self._open.shots.append(Shot(after_s, _jpeg(self._recent[-1][1])))

    def _judged(self, state: DriftState) -> None:
        snapshot = self.monitor.snapshot()
        number = snapshot.following.current
        content = snapshot.contexts[number].values
        known = self.monitor.reference.contexts[number].features
        d = np.full((self._windows, len(known)), np.nan, np.float32)
        means = np.full(len(known), np.nan, np.float32)
        for column, (feature, seen) in enumerate(zip(known, content, strict=True)):
            found = window_distances(feature, seen)[: self._windows]
            d[: len(found), column] = found
            if found and not np.isnan(found[-1]):
                means[column] = seen.mean()
        alarming = {one.name for one in state.features if one.verdict is Verdict.ALARM}
        self._d.append(d)
        self._means.append(means)
        self._alarming.append(np.array([name in alarming for name in self._reference.names]))
        self._states.append((state.time_ns / 1e9, state.verdict, number))
        if self._usual is not None and snapshot.unknown is not None:
            misfits = snapshot.unknown.misfits
            self._shares.append(
                [misfits[-n:].mean() if len(misfits) >= n else np.nan for n in self._usual.windows]
            )
            self._unknown.append(UNKNOWN in alarming)
        self._steps.append(snapshot.step_s or 1 / self._reference.rate_hz)
        self._contexts += [number] * (len(self.times) - len(self._contexts))
        self._follow(state, snapshot)

    def _follow(self, state: DriftState, snapshot: Snapshot) -> None:
        if not state.alarm:
            if self._open is not None:
                self._alarms.append(self._open.closed(state.time_ns / 1e9))
                self._open = None
            return
        told = explained(state, drive_words)
        if self._open is None:
            nearby = (one for one in self._recent if state.time_ns - one[0] <= BESIDE_S * 1e9)
            shown = dict([self._recent[0], next(nearby, self._recent[-1]), self._recent[-1]])
            shots = [Shot((time_ns - state.time_ns) / 1e9, _jpeg(shown[time_ns])) for time_ns in shown]
            self._open = _Open(told, told, self._distributions(state, snapshot), shots, {})
        elif told.false_alarms_per_day <= self._open.strongest.false_alarms_per_day:
            self._open.strongest = told
        carriers = (one.name for one in state.features if one.verdict is Verdict.ALARM)
        self._open.features |= dict.fromkeys(carriers)

    def _distributions(self, state: DriftState, snapshot: Snapshot) -> tuple[Distribution, ...]:
        windows = {
            (context.name, feature.name): (feature, values)
            for context, seen in zip(snapshot.reference.contexts, snapshot.contexts, strict=True)
            for feature, values in zip(context.features, seen.values, strict=True)
        }
        found = []
        for one in state.features:
            key = (one.context, one.name)
            # What is of all contexts together has no distribution.
            if one.verdict is not Verdict.ALARM or one.window_s == 0 or key not in windows:
                continue
            feature, content = windows[key]
            window = content[-one.window_frames :]
            there = self._values.of.get(key) if self._values else None
            exact = (
                None
                if there is None or not len(there)
                else confirm(one.name, one.context, window, feature.tau, there)
            )
            found.append(Distribution(feature, one.context, one.window_s, window, exact))
        return tuple(found)


def _small(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    if width <= _PICTURE_WIDTH:
        return np.array(image, np.uint8)
    size = (_PICTURE_WIDTH, max(1, round(height * _PICTURE_WIDTH / width)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes()
