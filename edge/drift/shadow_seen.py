"""What a candidate in shadow finds on a camera's frames, and what comes of it once it judges them.

    in memory                                while it is in shadow: at most MOST_ROWS, the latest
    STATE/drift/CAMERA/shadow/rows-*.f32     from when it has passed until it is fitted (`edge.drift.rows`)
    STATE/drift/CAMERA/shadow.json           what came of the fit (`edge.drift.own`), while the model judges

A shadow goes on over starts of the daemon, its rows begin anew with each, so they need no disk before its
end. A candidate that is not put in leaves nothing, at the latest after the next start; a kill between the
exchange and the end of the fit costs nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.drift.fitting import MIN_FRAMES
from edge.drift.own import UNNAMED, Fitted, Own
from edge.drift.pacing import GAP_S, Pace, Step
from edge.drift.reference import DriftReferenceError, Reference, align
from edge.drift.rows import Head, Rows, Times, Vectors
from edge.drift.shadow_fit import ShadowFitTerms, fit_shadow_in_child
from edge.drift.state import Origin
from edge.machine.disk_budget import DiskLane

_LOG = logging.getLogger(__name__)

MOST_ROWS = 16_384  # 4.5 h at one a second, 2 MB
FILE_NAME = "shadow.json"
FOLDER = "shadow"

Vector = npt.NDArray[np.float32]
Submit = Callable[[Callable[[], object]], bool]
FitShadow = Callable[[Path, ShadowFitTerms, Reference, Reference | None, threading.Event], Reference]


@dataclass(frozen=True, slots=True)
class SeenTerms:
    """What holds for all cameras.

    Attributes:
        names, origins: of the features.
        learn_s: how much of a feature must have been seen, in the frames' time.
        run: of the daemon; no other run has it.
    """

    names: tuple[str, ...]
    origins: tuple[Origin, ...]
    learn_s: float
    run: str


class ShadowSeen:
    """Of one camera. What is said to be of the loop never waits; the rest may wait for a disk.

    Attributes:
        known: what a model that was in shadow is known by; another model than that has nothing of it.
    """

    def __init__(
        self,
        camera: str,
        folder: Path,
        terms: SeenTerms,
        disk: DiskLane,
        rows: DiskLane,
        fit: Submit,
        *,
        fitter: FitShadow = fit_shadow_in_child,
    ) -> None:
        """Go on from what the folder holds.

        Args:
            camera: its name, for the log.
            folder: the camera's own.
            terms: what holds for all cameras.
            disk: where what is written is counted.
            rows: the same of rows, and whether they may be.
            fit: has something done on a thread that may wait for minutes.
            fitter: fits what was seen.
        """
        self._camera, self._folder, self._terms = camera, folder, terms
        self._disk, self._submit, self._fitter = disk, fit, fitter
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # guards all below but the loop's
        self._candidate = ""  # digest
        self._pace = Pace(1.0)
        self._kept = _Latest(MOST_ROWS, len(terms.names))
        self._rows = Rows(folder / FOLDER, rows)
        models = {model for _, model in self._rows.hours()}
        self._waiting = min(models, default="")  # digest of the model that the rows on disk are of
        self._generation = 0
        self.known = self._load()
        # The loop's.
        self._judging = ""  # digest
        self._rate_hz = 0.0
        self._is_put_in = False  # whether the model that the rows on disk are of has judged

    def begin(self, model: str) -> None:
        """A candidate is in shadow from now on; what others left and did not come to judge goes."""
        self.forget()
        with self._lock:
            self._candidate = model

    def add(self, model: str, time_ns: int, vector: Vector) -> None:
        """Take what the candidate found on a frame of a moving vehicle, `float32[F]`, and its time."""
        with self._lock:
            if model != self._candidate or not self._rate_hz:
                return
            if not len(self._kept):
                self._pace = Pace(self._rate_hz)
            if self._pace.step(time_ns) is not Step.SKIP:
                self._kept.add(time_ns, vector)

    def passed(self) -> None:
        """Its shadow has ended well: put on disk what it found, for when it judges."""
        with self._lock:
            model, (times, values) = self._candidate, self._kept.all()
            self._clear()
            self._drop_rows()
            rate_hz = rate_of(times)
            if not model or len(times) < MIN_FRAMES or rate_hz is None:
                return
            # Nobody has told its contexts yet: those that it will be judged in do.
            head = Head(UNNAMED, model, rate_hz, self._terms.names, self._terms.run)
            if self._rows.append(head, times, values):
                self._waiting = model

    def forget(self) -> None:
        """No candidate will judge: what one found goes."""
        with self._lock:
            self._clear()
            if not self._is_put_in:
                self._drop_rows()

    def camera_is_another(self) -> None:
        """What was seen was seen by another camera."""
        with self._lock:
            self._generation += 1
            self._kept.clear()
            self._drop_rows()
            self._forget_known()

    def judges(self, model: str, judged: Reference, past: Reference | None, target_hours: float) -> None:
        """On the loop: this model judges from now on.

        Args:
            model: its digest.
            judged: by what it judges, as far as that is known.
            past: what was judged by before.
            target_hours: hours of driving to one false alarm of this camera.
        """
        is_first, self._judging, self._rate_hz = not self._judging, model, judged.rate_hz
        if model == self._waiting:
            self._is_put_in = True
        terms = ShadowFitTerms(model, target_hours, self._terms.learn_s)
        if not self._submit(partial(self._settle, terms, judged, past, is_first)):
            text = "camera %s: too many fits wait; what model %s found in shadow waits for the next start"
            _LOG.warning(text, self._camera, model[:12])

    def stop(self) -> None:
        """End a fit that is under way; the next start does it again."""
        self._stopping.set()

    def _settle(
        self, terms: ShadowFitTerms, judged: Reference, past: Reference | None, is_first: bool
    ) -> None:
        """On the fitter's thread: fit what the model was seen to find, and forget what others were."""
        with self._lock:
            if terms.model != self._judging:
                return  # another one came meanwhile, and this is done for that
            if self.known is not None and self.known.model != terms.model:
                self._forget_known()
            if self._waiting != terms.model:
                # Of a model that was taken back; or a run has ended between a shadow and the exchange.
                if is_first or self._is_put_in:
                    self._drop_rows()
                return
            generation = self._generation
        if self._stopping.is_set():
            return
        made: Reference | None = None
        try:
            made = self._fitter(self._folder / FOLDER, terms, judged, past, self._stopping)
        except DriftReferenceError as error:
            if self._stopping.is_set():
                return
            text = "camera %s: what model %s finds is learned on the way: %s"
            _LOG.info(text, self._camera, terms.model[:12], error)
        except OSError as error:
            text = "camera %s: what model %s found in shadow is fitted after the next start: %s"
            _LOG.warning(text, self._camera, terms.model[:12], error)
            return
        with self._lock:
            if generation != self._generation or terms.model != self._judging:
                return
            if made is not None:
                self._put(made, terms.model)
            if self._waiting == terms.model:
                self._drop_rows()

    def _put(self, made: Reference, model: str) -> None:
        hours = {
            context.name: Fitted(0.0, max(one.frames for one in context.features) / made.rate_hz / 3600)
            for context in made.contexts
        }
        own = Own(made, model, hours)
        try:
            self._disk.wrote(own.save(self._folder / FILE_NAME))
        except OSError as error:  # until the next start it is known all the same
            _LOG.warning("camera %s: %s is not kept: %s", self._camera, FILE_NAME, error.strerror)
        self.known = own
        _LOG.info(
            "camera %s: what model %s finds is judged by what it found in shadow: %s",
            self._camera,
            model[:12],
            ", ".join(f"{name} {one.model_hours:.1f} h" for name, one in hours.items()),
            extra={"event": "drift_from_shadow", "camera": self._camera, "model": model},
        )

    def _load(self) -> Own | None:
        try:
            own = Own.load(self._folder / FILE_NAME)
            return Own(align(own.reference, self._terms.names, self._terms.origins), own.model, own.fitted)
        except FileNotFoundError:
            return None
        except DriftReferenceError as error:
            _LOG.warning("camera %s: what was seen in shadow is not used: %s", self._camera, error)
            return None

    def _clear(self) -> None:
        self._candidate = ""
        self._kept.clear()

    def _drop_rows(self) -> None:
        self._rows.drop()
        self._waiting, self._is_put_in = "", False
        with suppress(OSError):  # it is not there, or holds what is nobody's
            (self._folder / FOLDER).rmdir()

    def _forget_known(self) -> None:
        self.known = None
        try:
            (self._folder / FILE_NAME).unlink(missing_ok=True)
        except OSError as error:
            text = "camera %s: %s cannot be removed: %s"
            _LOG.warning(text, self._camera, FILE_NAME, error.strerror)


class _Latest:
    """The latest rows, in memory that is there once they come."""

    def __init__(self, most: int, features: int) -> None:
        self._times = np.empty(most, np.int64)
        self._values = np.empty((most, features), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return min(self._count, len(self._times))

    def add(self, time_ns: int, vector: Vector) -> None:
        place = self._count % len(self._times)
        self._times[place], self._values[place] = time_ns, vector
        self._count += 1

    def all(self) -> tuple[Times, Vectors]:
        """Copies, the oldest first."""
        oldest = self._count - len(self)
        places = np.arange(oldest, self._count) % len(self._times)
        return self._times[places], self._values[places]

    def clear(self) -> None:
        """Forget them, and give the memory back."""
        self._times, self._values = np.empty_like(self._times), np.empty_like(self._values)
        self._count = 0


class SeenInShadow:
    """Of all cameras: what whoever runs candidates in shadow tells of them. From any threads but the loop."""

    def __init__(self, cameras: Mapping[str, ShadowSeen]) -> None:
        """Have each camera told."""
        self._cameras = cameras

    def begin(self, model: str) -> None:
        """A candidate is in shadow from now on."""
        for camera in self._cameras.values():
            camera.begin(model)

    def add(self, model: str, camera: str, time_ns: int, features: Vector) -> None:
        """It has looked at a frame of a moving vehicle."""
        seen = self._cameras.get(camera)
        if seen is not None:
            seen.add(model, time_ns, features)

    def passed(self) -> None:
        """It has passed, and is to be put in."""
        for camera in self._cameras.values():
            camera.passed()

    def forget(self) -> None:
        """It will not be put in."""
        for camera in self._cameras.values():
            camera.forget()


def rate_of(times: Times) -> float | None:
    """Frames per second of most frames; None: there are not even two of one stretch of driving.

    Args:
        times: `int64[n]`, ns; between two stretches is a gap, or a step back.
    """
    steps = np.diff(times)
    steps = steps[(steps > 0) & (steps <= GAP_S * 1e9)]
    return 1e9 / float(np.median(steps)) if len(steps) else None
