"""A whole series at once: what a monitor says of it, but feature after feature, not frame after frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.drift.contexts import Handover
from edge.drift.distances import sliding_distances
from edge.drift.fitting import JUDGED_EVERY_S, MIN_FRAMES
from edge.drift.learning import is_due
from edge.drift.memory import ContextMemory
from edge.drift.monitor import STANDS_NS, DriftMonitor
from edge.drift.pacing import Pace, Step, gap_at
from edge.drift.reference import DriftReferenceError, FeatureReference, Reference
from edge.drift.series import VERDICTS, Period, Scan
from edge.drift.state import DriftState, FeatureDrift, Verdict
from edge.drift.unknown import UnknownRun
from edge.drift.values import as_frames
from edge.drift.verdicts import promised
from edge.drift.windows import DAY_S, ORDINARY, dated, latched, rates

Frames = npt.NDArray[np.float32]

_AT_ONCE = 65_536  # frames that are looked at together
_WORTH_IT = 64  # fewer are given to the monitor one by one


def scan(
    reference: Reference,
    features: npt.ArrayLike,
    rate_hz: float,
    *,
    target_hours: float | None = None,
) -> Sequence[DriftState]:
    """The states that a monitor gives of a series; see `scan_arrays`.

    Each is made when it is looked at: of weeks of driving there would be too many to hold.
    """
    return scan_arrays(reference, features, rate_hz, target_hours=target_hours)


def scan_arrays(
    reference: Reference,
    features: npt.ArrayLike,
    rate_hz: float,
    *,
    target_hours: float | None = None,
) -> Scan:
    """The states that a monitor gives of a series, as arrays.

    Args:
        reference: what to judge by. Features that it does not know are learned, as a monitor does.
        features: `float[frames, F]`, an array or lists, of consecutive frames; NaN where a feature is not to
            be had.
        rate_hz: frames per second; more than the reference's are thinned as a monitor would.
        target_hours: hours of driving to one false alarm, in place of the reference's own.

    Raises:
        DriftReferenceError: the series is not of numbers, has other features than the reference, or so few
            frames per second that a monitor takes each for the first after a gap.
    """
    if not rate_hz > 0 or 1.0 / rate_hz > gap_at(reference.rate_hz):
        raise DriftReferenceError(
            f"a series of {rate_hz:g} frames per second cannot be judged by a reference of"
            f" {reference.rate_hz:g}: between two frames is a gap, after which nothing before it counts"
        )
    rows = as_frames(features, "the series")
    times = np.round(np.arange(len(rows) if rows.ndim else 0) * (1e9 / rate_hz)).astype(np.int64)
    return scan_times(reference, rows, times, target_hours=target_hours)


def scan_times(
    reference: Reference,
    features: npt.ArrayLike,
    times_ns: npt.NDArray[np.int64],
    *,
    target_hours: float | None = None,
) -> Scan:
    """The same of frames that come as they come.

    Args:
        reference: see `scan_arrays`.
        features: see `scan_arrays`.
        times_ns: `int64[frames]` the frames' time, which rises; frames that come faster than the reference's
            rate are thinned as a monitor would.
        target_hours: see `scan_arrays`.

    Raises:
        DriftReferenceError: the series is not of numbers, has other features than the reference, or a gap
            after which nothing before it counts; it is to be scanned in two.
    """
    count = len(reference.names)
    rows, times_ns = as_frames(features, "the series"), np.asarray(times_ns)
    if rows.ndim != 2 or rows.shape[1] != count or times_ns.shape != rows.shape[:1]:
        raise DriftReferenceError(
            f"a series of shape {rows.shape} at times of shape {times_ns.shape}, the reference has"
            f" {count} features: [frames, {count}] at [frames]"
        )
    pace = Pace(reference.rate_hz)
    steps = [pace.step(time) for time in times_ns.tolist()]
    broken = next((number for number, step in enumerate(steps) if step in (Step.GAP, Step.BACK)), None)
    if broken is not None:
        raise DriftReferenceError(
            f"between frames {broken - 1} and {broken} is a gap, or time goes back: nothing before it counts,"
            " so scan what comes after it by itself"
        )
    taken = np.array([step is Step.TAKE for step in steps], np.bool_)
    values = rows if taken.all() else rows[taken]
    return _Scanner(reference, times_ns[taken], values, target_hours).scan()


@dataclass(frozen=True, eq=False)
class _Run:
    """One feature over some frames at which nothing but the windows of a context moves.

    Attributes:
        number: of the feature.
        column: `float32[n]` its values, of those frames that have it.
        seen: `int64[t]` how many of them by each of the run's judgements.
        steps: the judgements.
        step_s: `float64[t]` the time between two frames.
        limit: the rate a day at which the alarm begins.
        gone: `bool[t]` where most of the latest frames did not have it.
        least: `float64[t]` the least rate that any feature so far reached; what is less takes its place.
    """

    number: int
    column: Frames
    seen: npt.NDArray[np.int64]
    steps: slice
    step_s: npt.NDArray[np.float64]
    limit: float
    gone: npt.NDArray[np.bool_]
    least: npt.NDArray[np.float64]


class _Scanner(DriftMonitor):
    """A monitor that knows the frames to come.

    Where nothing but the windows moves, it moves them over all frames at once; the others, at which a context
    changes, a feature is learned or an old alarm ends, it takes as any monitor.
    """

    def __init__(
        self, reference: Reference, times: npt.NDArray[np.int64], values: Frames, target_hours: float | None
    ) -> None:
        super().__init__(reference, target_hours=target_hours)
        self._times, self._values = times, values
        self._misfits = np.zeros(len(values), np.bool_)
        # How far the frames from one on are from the contexts.
        self._scored_from, self._scored = 0, list[list[float]]()
        self._every = max(1, round(reference.rate_hz * JUDGED_EVERY_S))
        self._steps_ns, self._means_s = self._rate.run(times)
        judged = slice(self._every - 1, None, self._every)
        step_s = self._rate.told(self._means_s[judged])
        self._result = Scan.empty(reference, times[judged], step_s, self._unknown)

    def scan(self) -> Scan:
        """Go through all frames."""
        frame = 0
        while frame < len(self._values):
            frame = self._go_on_from(frame)
        result = self._result
        if len(result):
            changes = np.flatnonzero(np.diff(result.verdict.astype(np.int64), prepend=-1))
            lasts = np.diff(changes, append=len(result))
            result.since_ns[:] = np.repeat(result.time_ns[changes], lasts)
        return replace(result, reference=self.reference)

    def _go_on_from(self, frame: int) -> int:
        """Take frames until something happens; returns the next one."""
        alone = self._next_alone(frame)
        end = min(frame + _AT_ONCE, len(self._values), alone)
        context = self._assignment.current
        for number in range(frame, end):
            handover = self._follow(number)
            if self._assignment.current != context:
                self._take_run(context, frame, number)
                self._take_alone(number, self._assignment.current, handover)
                return number + 1
        self._take_run(context, frame, end)
        if end < alone or end >= len(self._values):
            return end
        handover = self._follow(end)
        self._take_alone(end, self._assignment.current, handover)
        return end + 1

    def _follow(self, frame: int) -> Handover | None:
        if frame >= self._scored_from + len(self._scored):
            self._scored_from = frame
            self._scored = self._assignment.distances(self._values[frame : frame + _AT_ONCE]).tolist()
        handover = self._assignment.take(self._values[frame], self._scored[frame - self._scored_from])
        self._misfits[frame] = self._assignment.misfit
        step, waiting = divmod(frame + 1, self._every)
        if not waiting:
            self._result.judged_in[step - 1] = self._assignment.current
            self._result.fits[step - 1] = self._assignment.fits
            self._result.unknown_share[step - 1] = self._assignment.unknown_share
        return handover

    def _next_alone(self, frame: int) -> int:
        """The first frame at which a feature is learned, or the alarm of a context that was left ends."""
        found = len(self._values)
        for number in self._contexts[self._assignment.current].learning:
            found = min(found, self._next_lesson(frame, number))
        for number, context in enumerate(self._contexts):
            if number != self._assignment.current and context.in_alarm():
                ends = int(np.searchsorted(self._result.time_ns, context.judged_ns + STANDS_NS, side="right"))
                found = min(found, max(frame, (ends + 1) * self._every - 1))
        return found

    def _next_lesson(self, frame: int, number: int) -> int:
        """The first frame, of those that are looked at together, at which a feature is due to be fitted."""
        context = self._contexts[self._assignment.current]
        seen, needed = len(context.learning[number]), context.needed.get(number)
        if is_due(seen, context.learning_ns[number], needed, self._learn_ns):
            return frame
        there = np.flatnonzero(np.isfinite(self._values[frame : frame + _AT_ONCE, number]))
        index = (MIN_FRAMES if needed is None else needed) - seen - 1
        if needed is None:
            spent = context.learning_ns[number] + np.cumsum(self._steps_ns[frame + there])
            index = max(index, int(np.searchsorted(spent, self._learn_ns)))
        return frame + int(there[index]) if index < len(there) else len(self._values)

    def _take_alone(self, frame: int, current: int, handover: Handover | None) -> None:
        time_ns = int(self._times[frame])
        self._rate.go_on(float(self._means_s[frame]))
        misfit, step_ns = bool(self._misfits[frame]), int(self._steps_ns[frame])
        self._take(time_ns, self._values[frame], current, misfit, handover, step_ns)
        step, waiting = divmod(frame + 1, self._every)
        if waiting:
            return
        step -= 1
        state = self._judge(time_ns, current)
        context, result = self._contexts[current], self._result
        judgement = context.windows.judge()
        result.d[step] = np.where(judgement.full, judgement.d, np.nan)
        means = judgement.shift_sigma * context.windows.yardstick.sigma + context.windows.yardstick.mean
        result.mean[step] = np.where(judgement.full, means, np.nan)
        result.latched[step], result.alarmed_ns[step] = context.latched, context.alarmed_ns
        result.gone[step], result.infinite[step] = context.gone, context.infinite
        result.verdict[step] = VERDICTS.index(state.verdict)
        result.false_alarms_per_day[step] = state.false_alarms_per_day
        if self._unknown is not None:
            self._put_unknown(slice(step, step + 1), self._unknown.moment(self._rate.step_s))
        self._period(step, current, self._standing(time_ns, current))

    def _put_unknown(self, steps: slice, run: UnknownRun) -> None:
        result = self._result
        result.misfits[steps], result.misfits_latched[steps] = run.shares, run.latched
        result.misfits_ns[steps] = run.alarmed_ns

    def _period(self, step: int, current: int, standing: Sequence[FeatureDrift]) -> None:
        periods, context = self._result.periods, self._reference.contexts[current]
        if not periods or periods[-1].context is not context or periods[-1].standing != tuple(standing):
            yardstick = self._contexts[current].windows.yardstick
            periods.append(Period(step, context, yardstick, tuple(standing)))

    def _take_run(self, current: int, begin: int, end: int) -> None:
        """Take frames at which nothing but the windows of one context moves."""
        if end - begin < _WORTH_IT:
            for frame in range(begin, end):
                self._take_alone(frame, current, None)
            return
        context, result = self._contexts[current], self._result
        known, rows = self._reference.contexts[current], self._values[begin:end]
        steps = slice(begin // self._every, end // self._every)
        ends = np.arange(steps.start + 1, steps.stop + 1) * self._every - begin
        tests = context.windows.yardstick.tests
        limit = context.windows.yardstick.limit(self.target_hours, known.joint)
        missing = ~np.isfinite(rows)
        gone = context.miss(missing, ends)
        least, step_s = np.full(len(ends), np.inf), result.step_s[steps]
        if self._unknown is not None:
            unknown = self._unknown.run(self._misfits[begin:end], ends, result.time_ns[steps], limit, step_s)
            self._put_unknown(steps, unknown)
            least = unknown.least
        safe, other, waiting = np.zeros((3, len(ends)), np.bool_)
        judged = np.zeros(gone.shape, np.bool_)
        learning = np.full(len(ends), context.learns)
        for number, feature in enumerate(known.features):
            there = ~missing[:, number]
            column, seen = rows[there, number], ends
            if missing[:, number].any():
                seen = np.concatenate([[0], np.cumsum(there)])[ends]
            if number in context.learning:
                learning |= (seen > 0) & (number not in context.needed)
                waiting |= ~gone[:, number]
                context.learning[number].extend(column.tolist())
                context.learning_ns[number] += int(self._steps_ns[begin:end][there].sum())
            elif feature.tails:
                run = _Run(number, column, seen, steps, step_s, limit, gone[:, number], least)
                full = self._slide(context, feature, run)
                judged[full:, number] = True
                waiting[:full] |= ~gone[:full, number]
                certain = promised(known, feature, self._reference.rate_hz)
                (safe if certain else other)[full:] |= ~gone[full:, number]
        self._note_infinite(context, rows, missing, steps, ends)
        if not len(ends):
            return
        result.gone[steps] = gone
        context.latched = result.latched[steps][-1].copy()
        in_alarm: npt.NDArray[np.bool_] = np.any(result.latched[steps], axis=1)
        for number in np.flatnonzero(in_alarm.any(axis=0) | (context.alarmed_ns != 0)).tolist():
            since = dated(in_alarm[:, number], result.time_ns[steps], int(context.alarmed_ns[number]))
            result.alarmed_ns[steps, number] = since
            context.alarmed_ns[number] = since[-1]
        context.judged_ns, context.judged_step_s = int(result.time_ns[steps][-1]), float(step_s[-1])
        standing = self._standing(int(result.time_ns[steps.start]), current)
        result.false_alarms_per_day[steps] = np.minimum(DAY_S, tests / known.joint * least)
        # What is gone is paused, in alarm or not, and what a handover left too little of is waited for.
        alarm = (
            np.any(in_alarm & judged & ~gone, axis=1)
            | np.any(result.misfits_latched[steps], axis=1)
            | bool(standing)
        )
        verdicts = [
            (alarm, Verdict.ALARM),
            (learning, Verdict.LEARNING),
            (other, Verdict.UNCALIBRATED),
            (safe, Verdict.STABLE),
            (waiting, Verdict.LEARNING),
        ]
        result.verdict[steps] = np.select(
            [where for where, _ in verdicts],
            [VERDICTS.index(verdict) for _, verdict in verdicts],
            VERDICTS.index(Verdict.PAUSED),
        )
        self._period(steps.start, current, standing)

    def _note_infinite(
        self,
        context: ContextMemory,
        rows: Frames,
        missing: npt.NDArray[np.bool_],
        steps: slice,
        ends: npt.NDArray[np.int64],
    ) -> None:
        if missing.any():
            infinite = np.logical_or.accumulate(np.isinf(rows), axis=0) | context.infinite
            self._result.infinite[steps] = infinite[ends - 1]
            context.infinite = infinite[-1].copy()
        else:
            self._result.infinite[steps] = context.infinite

    def _slide(self, context: ContextMemory, feature: FeatureReference, run: _Run) -> int:
        """Slide one feature's windows over a run; the first of its judgements at which one is full."""
        result, number, steps = self._result, run.number, run.steps
        before = context.windows.content(number)
        column = np.concatenate([before, run.column])
        ends = run.seen + len(before)
        # The edges are float32 in a file: nothing is lost where they are compared as such.
        bins = np.searchsorted(feature.edges.astype(np.float32), column, side="left").astype(np.uint8)
        sums = np.concatenate([[0.0], np.cumsum(column, dtype=np.float64)])
        lengths = [tail.frames for tail in feature.tails]
        firsts = []
        for window, d in enumerate(sliding_distances(bins, ends, lengths, feature.lower, feature.upper)):
            tail, length = feature.tails[window], lengths[window]
            full = int(np.searchsorted(ends, length))
            per_window = rates(d, tail.slope, tail.offset)
            per_day = per_window * DAY_S / (length * run.step_s)
            per_day[:full] = np.inf
            per_day[run.gone] = np.inf
            np.minimum(run.least, per_day, out=run.least)
            rows = slice(steps.start + full, steps.stop)
            result.d[rows, window, number] = d[full:]
            after = ends[full:]
            result.mean[rows, window, number] = (sums[after] - sums[after - length]) / length
            was = bool(context.latched[window, number])
            result.latched[steps, window, number] = latched(per_day <= run.limit, per_window >= ORDINARY, was)
            firsts.append(full)
        context.windows.fill(number, column)
        return min(firsts)
