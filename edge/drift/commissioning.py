"""The commissioning of one camera: its own reference, fitted of its first days of driving.

    STATE/drift/CAMERA/rows-NNNNNN.f32    features of frames that are not all fitted yet (`edge.drift.rows`)
    STATE/drift/CAMERA/own.json           the camera's own reference (`edge.drift.own`)
    STATE/drift/CAMERA/patience.json      how long the prior has been in alarm (`edge.drift.patience`)
    STATE/drift/CAMERA/recommission       a wish: begin anew, another camera is there

Of each context, after 4, 8, 16 hours of driving and when all that is asked for was seen; then its rows go.
What for long fits no known context is kept apart, until contexts are found in it (`edge.drift.unsorted`);
where none has a name, they are found in all of it.
Another model begins anew for the features of what it finds, and for nothing else. All of it survives a kill:
a fit changes nothing before its result is on disk, and what is not on disk is seen again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.backoff import Backoff, BackoffOptions
from edge.drift import patience
from edge.drift.commission_terms import Present, Terms
from edge.drift.fit_child import FitTerms, fit_in_child
from edge.drift.own import FILE_NAME, UNNAMED, UNSORTED, Fitted, Own, is_judged, joined, merged
from edge.drift.pacing import GAP_S
from edge.drift.progress import Progress, contexts_of, progress_of, progress_text, unsorted_text
from edge.drift.recommission import WISH
from edge.drift.reference import CALIBRATED_HOURS, ContextReference, DriftReferenceError, Reference, align
from edge.drift.rows import Head, Rows
from edge.drift.sieve import Sieve, Usual
from edge.drift.unsorted import days_enough, joined_found
from edge.files import sync_folder
from edge.machine.disk_budget import DiskLane

_LOG = logging.getLogger(__name__)

FLUSH_S = 300.0  # of the frames' time: what a kill costs at most

_KEPT = 2.0  # of the hours asked for: what rows may be there, of all models
_SORT_AGAIN_HOURS = 1.0  # of frames more, where none of those there were made a context
_RETRY = BackoffOptions(initial_s=600.0, limit_s=6 * 3600.0)

Submit = Callable[[Callable[[], object]], bool]
Fit = Callable[[Path, FitTerms, ContextReference | None, threading.Event], Reference]


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


class Commissioning:
    """Of one camera. What is said to be of the loop never waits for a disk; the rest is for two writers."""

    def __init__(
        self,
        camera: str,
        folder: Path,
        terms: Terms,
        disk: DiskLane,
        rows: DiskLane,
        write: Submit,
        fit: Submit,
        *,
        anew: Callable[[], None] = lambda: None,
        fitter: Fit = fit_in_child,
        clock_s: Callable[[], float] = time.monotonic,
        today: Callable[[], str] = _today,
    ) -> None:
        """Go on from what the folder holds.

        Args:
            camera: its name, for the log.
            folder: the camera's own.
            terms: what holds for all cameras.
            disk: where what is written is counted.
            rows: the same of rows, and whether they may be.
            write: has something done soon, in order, on a thread that may wait for a disk.
            fit: the same on a thread that may wait for minutes.
            anew: is called when the camera is to be commissioned anew: what is known of it else goes too.
            fitter: fits a context.
            clock_s: for pauses after a fit that failed.
            today: the date by the wall clock.
        """
        self._camera = camera
        self._folder = folder
        self._terms = terms
        self._disk = disk
        self._write, self._submit_fit = write, fit
        self._anew, self._fitter, self._clock_s, self._today = anew, fitter, clock_s, today
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # guards the generation, and with it what a fit may replace
        self._generation = 0
        self._seen_generation = 0  # by the loop
        self._fitting = False
        self._backoff, self._retry_s = Backoff(_RETRY), -math.inf
        self._trouble = ""
        self._present: Present | None = None
        self._usual: list[Usual] = []
        self._flushed_ns: int | None = None
        self._rows = Rows(folder, rows)
        self.own = self._load()
        self._sort_at_hours = CALIBRATED_HOURS
        self._sieve = Sieve(GAP_S, patience.load(folder))
        self._patience_s = self._sieve.alarmed_s
        self._count()
        self.look()

    def begin(self, present: Present) -> None:
        """On the loop: from now on, this judges the frames."""
        self.flush()
        self._present = present

    def add(
        self,
        time_ns: int,
        vector: npt.NDArray[np.float32],
        context: str,
        nearest: str,
        *,
        alarm: bool,
    ) -> None:
        """On the loop: take a judged frame of a moving vehicle.

        Args:
            time_ns: its time.
            vector: `float32[F]` its features.
            context: that the latest frames fit; empty: none that is known.
            nearest: that they fit best, well or badly.
            alarm: the picture is in alarm, by a reference and not by what was learned on the way.
        """
        if self._seen_generation != self._generation:
            self._seen_generation = self._generation
            self._sieve.clear()
            self._usual.clear()
        own = self.own
        by_own = alarm and own is not None and own.context(context or nearest) is not None
        self._sieve.add(time_ns, vector, context, by_prior=alarm and not by_own, by_own=by_own)
        self._usual += [usual for usual in self._sieve.take() if self._wants(usual.context)]
        if self._flushed_ns is None or time_ns < self._flushed_ns:
            self._flushed_ns = time_ns
        if time_ns - self._flushed_ns >= FLUSH_S * 1e9:
            self._hand_over()
            self._flushed_ns = time_ns

    def flush(self) -> None:
        """On the loop, or after its end: a stretch of driving ends, put on disk what there is of it."""
        self._sieve.end()
        self._usual += [usual for usual in self._sieve.take() if self._wants(usual.context)]
        self._hand_over()

    def stop(self) -> None:
        """End a fit that is under way. What it was made of stays."""
        self._stopping.set()

    def progress(self, context: str) -> Progress:
        """How far a context is. From any thread."""
        present = self._present
        return progress_of(self._hours, self.own, "" if present is None else present.model, context)

    def notes(self, context: str, judged: Reference, *, alarm: bool) -> tuple[str, ...]:
        """What people should know of the commissioning while a context is driven in; nothing when it is done.

        Args:
            context: its name; empty: none that is known.
            judged: by what is judged now.
            alarm: as of `add`.
        """
        present = self._present
        if not context and not self._sieve.has_patience:
            return (unsorted_text(self.progress(UNSORTED).hours, self._unsorted_days),)
        if not context or present is None or not self._needs(context, present):
            return ()
        known = judged.context(context)
        text = progress_text(self.progress(context), self._terms.hours, known, present.rate_hz)
        if not text:
            return ()
        notes = [f"commissioning {context}: {text}"]
        if alarm and self._sieve.has_patience:
            notes.append("what is in alarm is left out of the commissioning")
        if self._trouble:
            notes.append(f"the last fit failed: {self._trouble}")
        return tuple(notes)

    def look(self) -> None:
        """On the writer's thread: begin anew, if somebody wishes it."""
        try:
            if not (self._folder / WISH).exists():
                return
            with self._lock:
                self._begin_anew()
        except OSError as error:
            text = "camera %s: its drift reference cannot be commissioned anew: %s"
            _LOG.warning(text, self._camera, error.strerror)
            return
        _LOG.info(
            "camera %s: its drift reference is commissioned anew",
            self._camera,
            extra={"event": "drift_recommission", "camera": self._camera},
        )

    def _count(self) -> None:
        # For the loop, which does not wait for the rows' lock.
        self._hours, self._unsorted_days = self._rows.hours(), self._rows.days(UNSORTED)

    def _begin_anew(self) -> None:
        self._generation += 1
        self._rows.drop()
        for name in (FILE_NAME, patience.FILE_NAME):
            (self._folder / name).unlink(missing_ok=True)
        self._anew()
        sync_folder(self._folder)
        # Last: a kill before it does all of it again.
        (self._folder / WISH).unlink(missing_ok=True)
        self.own, self._trouble, self._patience_s = None, "", 0.0
        self._sort_at_hours = CALIBRATED_HOURS
        self._count()

    def _load(self) -> Own | None:
        try:
            own = Own.load(self._folder / FILE_NAME)
            reference = align(own.reference, self._terms.names, self._terms.origins)
            # What is watched only now is commissioned beside what is known.
            complete = set(self._terms.names) <= set(own.reference.names)
            return Own(reference, own.model, own.fitted if complete else {})
        except FileNotFoundError:
            return None
        except DriftReferenceError as error:
            _LOG.warning("camera %s: its own drift reference is made anew: %s", self._camera, error)
            return None

    def _needs(self, context: str, present: Present) -> bool:
        """Whether a context is the camera's own business: a configured reference may promise already."""
        prior = present.prior_of(context)
        return prior is None or not prior.promises(present.rate_hz)

    def _wants(self, context: str) -> bool:
        present = self._present
        return (
            present is not None
            and self._needs(context, present)
            and self.progress(context).wants(self._terms.hours)
        )

    def _hand_over(self) -> None:
        """Give what came through to the writer."""
        present, usual, self._usual = self._present, self._usual, []
        if present is not None:
            generation, alarmed_s = self._seen_generation, self._sieve.alarmed_s
            self._write(lambda: self._keep(present, usual, generation, alarmed_s))

    def _keep(self, present: Present, usual: list[Usual], generation: int, alarmed_s: float) -> None:
        """On the writer's thread."""
        self.look()
        with self._lock:
            if generation != self._generation:
                return
            self._rows.drop_other_rates(present.rate_hz)
            for context in dict.fromkeys(one.context for one in usual):
                rows = [one for one in usual if one.context == context]
                day = self._today() if context == UNSORTED else ""
                head = Head(context, present.model, present.rate_hz, self._terms.names, self._terms.run, day)
                times = np.array([one.time_ns for one in rows], np.int64)
                self._rows.append(head, times, np.array([one.vector for one in rows], np.float32))
            self._count()
            self._keep_patience(alarmed_s)
        self._fit_what_is_due(present, generation)

    def _keep_patience(self, alarmed_s: float) -> None:
        if alarmed_s == self._patience_s:
            return
        try:
            self._disk.wrote(patience.save(self._folder, alarmed_s))
        except OSError as error:
            _LOG.warning("camera %s: %s is not kept: %s", self._camera, patience.FILE_NAME, error.strerror)
            return
        self._patience_s = alarmed_s

    def _fit_what_is_due(self, present: Present, generation: int) -> None:
        for context in contexts_of(self._hours, self.own):
            if context != UNSORTED and not is_judged(context, self.own, present.prior):
                self._rows.drop(context)
                self._count()
                continue
            progress = progress_of(self._hours, self.own, present.model, context)
            if progress.hours > _KEPT * self._terms.hours:
                self._rows.drop(context, keep_hours=_KEPT * self._terms.hours)
                self._count()
            if self._fitting or self._stopping.is_set() or self._clock_s() < self._retry_s:
                continue
            due = self._is_sortable(progress) if context == UNSORTED else progress.is_due(self._terms.hours)
            if due and self._needs(context, present):
                self._fitting = True
                if not self._submit_fit(partial(self._fit, present, progress, generation)):
                    self._fitting = False

    def _is_sortable(self, progress: Progress) -> bool:
        return progress.hours >= self._sort_at_hours and days_enough(self._unsorted_days)

    def _fit(self, present: Present, progress: Progress, generation: int) -> None:
        """On the fitter's thread."""
        if generation != self._generation:
            self._fitting = False
            return
        context = progress.context
        terms = FitTerms(
            context,
            present.model,
            present.rate_hz,
            self._terms.names,
            tuple(origin.value for origin in self._terms.origins),
            self._terms.target_hours,
        )
        try:
            made = self._fitter(self._folder, terms, present.prior_of(context), self._stopping)
            one_alone = context not in (UNNAMED, UNSORTED)
            if made.names != self._terms.names or (one_alone and len(made.contexts) != 1):
                raise DriftReferenceError("the fit gave something else than was asked for")
            self._put(made, present, progress, generation)
        except (DriftReferenceError, OSError) as error:
            if self._stopping.is_set():
                pass
            elif context == UNSORTED and isinstance(error, DriftReferenceError):
                self._sort_later(progress.hours, error)
            else:
                self._trouble = str(error)
                self._retry_s = self._clock_s() + self._backoff.next_s()
                _LOG.warning(
                    "camera %s: its reference of context %s is not fitted: %s", self._camera, context, error
                )
        else:
            self._trouble = ""
            self._backoff.reset()
        finally:
            self._fitting = False

    def _put(self, made: Reference, present: Present, progress: Progress, generation: int) -> None:
        found = made.contexts[0].name != progress.context
        with self._lock:
            if generation != self._generation:
                return
            if found:
                # What was one for want of better names is told apart from now on.
                before = None if self.own is None else self.own.without(UNNAMED)
                judged = merged(before, present.prior, present.model)
                own, names = joined_found(before, made, judged, present.model)
            else:
                fitted, names = Fitted(progress.hours, progress.model_hours), [progress.context]
                own = joined(self.own, made.contexts[0], fitted, made, present.model)
            self._disk.wrote(own.save(self._folder / FILE_NAME))
            # What is not on disk is not judged by: a restart would not know it.
            self.own = own
            done = progress_of(self._hours, own, present.model, progress.context)
            if found or done.next_fit(self._terms.hours) is None:
                self._rows.drop(progress.context)
                self._count()
                self._sort_at_hours = CALIBRATED_HOURS
        for name in names:
            self._tell(own, name, is_new=found)

    def _sort_later(self, hours: float, why: DriftReferenceError) -> None:
        with self._lock:
            if hours >= self._terms.hours:
                hours = self._terms.hours / 2
                self._rows.drop(UNSORTED, keep_hours=hours)
                self._count()
            self._sort_at_hours = hours + _SORT_AGAIN_HOURS
        _LOG.info("camera %s: %s", self._camera, why)

    def _tell(self, own: Own, context: str, *, is_new: bool) -> None:
        promises, hours = own.reference.promises(context), own.fitted[context].hours
        text = "context %s was found in what nobody named, and its reference"
        _LOG.info(
            f"camera %s: {text if is_new else 'its reference of context %s'} is fitted of %.1f h, %s",
            self._camera,
            context,
            hours,
            "calibrated" if promises else "not calibrated yet",
            extra={
                "event": "drift_commissioned",
                "camera": self._camera,
                "context": context,
                "hours": hours,
                "calibrated": promises,
                "found": is_new,
            },
        )
