"""When a new model has proved itself on the road, and when it has failed. Rules alone, no I/O.

Confirmed: it has driven for so long and published so many frames, and nothing below has happened. Parked time
is no driving, and neither is the time after a recording's end.

Failed, whatever its release promised: at least `LEAST_ERRORS` frames ended in an inference error, and their
share of the frames looked at is more than `MORE_ERRORS` above what the models before it had in the same run.
(Three crashes within a minute fail it too; that rule is the frame loop's: `edge.perception.crashes`.)

Failed by its promise, or by the vehicle's own bounds where they are stricter: inference takes longer, more
frames end in an error, or a typical stretch of driving has fewer or more detections than was promised, and
that beyond what chance explains (`edge.updates.chance`); or what it finds has left the drift reference in its
own file, while the pictures fit it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from edge.updates.chance import DESIGN_EFFECT, Tail, Trial, binomial_tail, exceedance_tail
from edge.updates.driving import DriveTime, Stretch, Stretches, stretches_of
from edge.updates.frame_records import FrameRecord
from protos.release_promise import Promise, Range
from protos.traffic_vision.v1 import common_pb2

LEAST_ERRORS = 10  # frames; fewer say nothing
MORE_ERRORS = 0.05  # of the frames that inference looked at
BEYOND_P99 = 0.01

_SHOWN = 4096  # latencies that the p99 in the report is of
_LEAST_BEFORE = DESIGN_EFFECT * 10  # frames of the model before, for its latency to be a yardstick
_LEAST_STRETCHES_BEFORE = 6
_FIRST_STRETCHES = 12  # fewer of them, all beyond, may be chance
# Of the typical stretch: half of them lie on either side of it.
_TYPICAL = 0.5

KnownFeatures = Collection[tuple[str, str]]  # context and feature


@dataclass(frozen=True, slots=True)
class ProbationRules:
    """What the vehicle asks of every release.

    Attributes:
        seconds: of driving, at least.
        frames: published, at least.
        most_seconds: that a release may ask for.
        latency_ms: of 99 in 100 inferences, at most; None: no bound of its own.
        latency_ratio: the same, of what the model before took; None: no bound of its own.
    """

    seconds: float
    frames: int
    most_seconds: float = 86400.0
    latency_ms: float | None = None
    latency_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class ProbationTerms:
    """What holds of one probation, of the vehicle's rules and the release's promise the stricter.

    Attributes:
        seconds: of driving.
        frames: published.
        most_seconds: after so much driving, `least_frames` are enough.
        least_frames: that the vehicle itself asks for.
        latency_ms, latency_ratio: as in the rules.
        error_share: of the frames looked at, at most; None: not promised.
        promise: the rest.
    """

    seconds: float
    frames: int
    most_seconds: float
    least_frames: int
    latency_ms: float | None = None
    latency_ratio: float | None = None
    error_share: float | None = None
    promise: Promise = field(default_factory=Promise)


def terms_of(rules: ProbationRules, promise: Promise | None) -> ProbationTerms:
    """Put the two together: no promise shortens a probation, or makes it longer than the vehicle allows."""
    promise = promise or Promise()
    latency_ms = None if promise.latency_p99_us is None else promise.latency_p99_us / 1e3
    ratio = None if promise.latency_percent is None else promise.latency_percent / 100
    return ProbationTerms(
        seconds=max(rules.seconds, min(promise.drive_s, rules.most_seconds)),
        frames=max(rules.frames, promise.frames),
        most_seconds=max(rules.seconds, rules.most_seconds),
        least_frames=rules.frames,
        latency_ms=_stricter(latency_ms, rules.latency_ms),
        latency_ratio=_stricter(ratio, rules.latency_ratio),
        error_share=None if promise.errors_permille is None else promise.errors_permille / 1000,
        promise=promise,
    )


@dataclass(frozen=True, slots=True)
class FrameTotals:
    """What inference made of the frames that it looked at since the daemon's start, over all cameras."""

    published: int = 0
    errors: int = 0

    @property
    def error_share(self) -> float:
        """Of the frames that were looked at; 0 where none was."""
        looked_at = self.published + self.errors
        return self.errors / looked_at if looked_at else 0.0

    def since(self, before: FrameTotals) -> FrameTotals:
        """What came after an earlier reading."""
        return FrameTotals(self.published - before.published, self.errors - before.errors)


@dataclass(frozen=True, slots=True)
class Figure:
    """A promise, and how it stands.

    Attributes:
        name: with its unit.
        value: measured; NaN: nothing was.
        least, most: that were promised.
        samples: that the value is of.
        broken: beyond chance.
        context: that it is of; empty: any.
    """

    name: str
    value: float
    least: float | None
    most: float | None
    samples: int
    broken: bool
    context: str = ""

    def words(self) -> str:
        """For people."""
        bounds = [f"at least {self.least:g}"] if self.least is not None else []
        bounds += [f"at most {self.most:g}"] if self.most is not None else []
        where = f" in context {self.context}" if self.context else ""
        return f"{self.name}{where} is {self.value:.4g} over {self.samples}, promised {' and '.join(bounds)}"


class Probation:
    """One probation, in this run of the daemon. For one thread."""

    def __init__(
        self,
        digest: str,
        terms: ProbationTerms,
        before: FrameTotals,
        records: Iterable[FrameRecord] = (),
        known: KnownFeatures = (),
    ) -> None:
        """Begin.

        Args:
            digest: of the model that is on probation.
            terms: what holds.
            before: the totals at this moment.
            records: of the latest frames, those of the models before included.
            known: features of detections that the reference in the model's own file knows.
        """
        self.digest = digest
        self.terms = terms
        self._before = before
        self._own = FrameTotals()
        self._known = frozenset(known)
        self._drive = DriveTime()
        self._stretches = Stretches()
        self._drift = ""
        records = list(records)
        earlier = [record for record in records if record.digest != digest]
        last = [record for record in earlier if record.digest == earlier[-1].digest]
        self._latency = _Latency(terms, sorted(record.latency_ms for record in last))
        self._errors = (
            None
            if terms.error_share is None
            else Trial(partial(_share_tail, terms.error_share), design_effect=DESIGN_EFFECT)
        )
        self._detections = _DetectionTrials(terms.promise, stretches_of(last))
        self.observe(records)

    @property
    def drive_s(self) -> float:
        """Driven so far, seconds."""
        return self._drive.seconds

    @property
    def frames(self) -> int:
        """Published so far."""
        return self._own.published

    def observe(self, records: Iterable[FrameRecord]) -> None:
        """Take frames, in order; those of other models are left out."""
        for record in records:
            if record.digest != self.digest:
                continue
            self._drive.add(record)
            self._latency.add(record.latency_ms)
            stretch = self._stretches.add(record)
            if stretch is not None:
                self._detections.add(stretch)

    def count(self, totals: FrameTotals) -> None:
        """Take what has become of frames so far."""
        own = totals.since(self._before)
        new, self._own = own.since(self._own), own
        if self._errors is not None:
            self._errors.add(new.errors, new.published + new.errors)

    def look_at_drift(self, states: Iterable[common_pb2.DriftState]) -> None:
        """Take the drift monitors' states."""
        if self.terms.promise.no_drift_alarm and not self._drift:
            self._drift = drift_failure(states, self.digest, self._known)

    def failure(self) -> str:
        """Why the model has failed, for people; empty: it has not."""
        own, before = self._own, self._before
        if own.errors >= LEAST_ERRORS and own.error_share > before.error_share + MORE_ERRORS:
            return (
                f"{own.errors} of {own.errors + own.published} frames ended in an inference error"
                f" ({own.error_share:.0%}; before it, {before.error_share:.0%})"
            )
        broken = [figure.words() for figure in self.figures() if figure.broken]
        return "; ".join([*broken, *([self._drift] if self._drift else [])])

    def over(self) -> bool:
        """Say whether it has run long enough, in driving and in frames; then the last look is taken."""
        terms = self.terms
        frames = terms.frames if self.drive_s < terms.most_seconds else terms.least_frames
        if self.drive_s < terms.seconds or self.frames < frames:
            return False
        for trial in (self._errors, *self._latency.trials(), *self._detections.trials()):
            if trial is not None:
                trial.last_look()
        return True

    def figures(self) -> tuple[Figure, ...]:
        """How each promise stands."""
        figures = [*self._latency.figures()]
        if self._errors is not None:
            looked_at = self._own.published + self._own.errors
            figures.append(
                Figure(
                    "error_share",
                    self._own.error_share,
                    None,
                    self.terms.error_share,
                    looked_at,
                    self._errors.broken,
                )
            )
        return (*figures, *self._detections.figures())


def drift_failure(states: Iterable[common_pb2.DriftState], digest: str, known: KnownFeatures) -> str:
    """Say which features of a model's detections have left its own reference; empty: none.

    Where the picture's features are in alarm too, or the context is none that is known, it is the world that
    has changed, and the model is not to blame.
    """
    for state in states:
        if state.model.sha256 != digest or state.verdict != common_pb2.DRIFT_VERDICT_ALARM:
            continue
        alarming = [one for one in state.features if one.verdict == common_pb2.DRIFT_VERDICT_ALARM]
        if not state.context or any(one.origin == common_pb2.FEATURE_ORIGIN_PICTURE for one in alarming):
            continue
        own = [one for one in alarming if (state.context, one.name) in known]
        if own:
            named = ", ".join(f"{one.name} ({one.shift_sigma:+.1f} sigma)" for one in own)
            return (
                f"camera {state.camera}: what it finds has left its own reference ({state.context}): {named}"
            )
    return ""


def frame_totals(cameras: Iterable[common_pb2.CameraStatus]) -> FrameTotals:
    """Add up what the cameras' counts say."""
    counts = [count for camera in cameras for count in camera.outcomes]

    def total(outcome: common_pb2.FrameOutcome) -> int:
        return sum(count.frames for count in counts if count.outcome == outcome)

    return FrameTotals(
        total(common_pb2.FRAME_OUTCOME_PUBLISHED), total(common_pb2.FRAME_OUTCOME_INFERENCE_ERROR)
    )


class _Latency:
    """Both bounds of the latency: a number, and the model before."""

    def __init__(self, terms: ProbationTerms, before_ms: Sequence[float]) -> None:
        self._shown: deque[float] = deque(maxlen=_SHOWN)
        self._frames = 0
        self._most_ms = terms.latency_ms
        self._absolute: Trial | None = None
        if terms.latency_ms is not None:
            self._absolute = Trial(partial(_share_tail, BEYOND_P99), design_effect=DESIGN_EFFECT)
        self._ratio = terms.latency_ratio
        self._relative: Trial | None = None
        self._before_ms = math.nan
        self._threshold_ms = math.inf
        if terms.latency_ratio is not None and len(before_ms) >= _LEAST_BEFORE:
            size = len(before_ms) // DESIGN_EFFECT
            rank = max(1, math.ceil(size * BEYOND_P99))
            self._before_ms = before_ms[-((rank - 1) * DESIGN_EFFECT + 1)]
            self._threshold_ms = terms.latency_ratio * self._before_ms
            self._relative = Trial(partial(_rank_tail, rank, size), design_effect=DESIGN_EFFECT)

    def add(self, latency_ms: float) -> None:
        self._shown.append(latency_ms)
        self._frames += 1
        if self._absolute is not None and self._most_ms is not None:
            self._absolute.add(latency_ms > self._most_ms, 1)
        if self._relative is not None:
            self._relative.add(latency_ms > self._threshold_ms, 1)

    def trials(self) -> tuple[Trial | None, Trial | None]:
        return self._absolute, self._relative

    def figures(self) -> list[Figure]:
        p99 = quantile(self._shown, 1 - BEYOND_P99)
        found = []
        if self._absolute is not None:
            broken = self._absolute.broken
            found.append(Figure("latency_p99_ms", p99, None, self._most_ms, self._frames, broken))
        if self._ratio is not None:
            broken = self._relative is not None and self._relative.broken
            ratio = p99 / self._before_ms if self._before_ms > 0 else math.nan
            found.append(Figure("latency_p99_ratio", ratio, None, self._ratio, self._frames, broken))
        return found


@dataclass(slots=True)
class _Side:
    """Stretches in one context, against one range."""

    name: str
    context: str
    least: float
    most: float
    too_few: Trial
    too_many: Trial
    recent: deque[float]
    scale: float = 1.0

    def add(self, detections: float) -> None:
        self.recent.append(detections / self.scale)
        self.too_few.add(detections / self.scale < self.least, 1)
        self.too_many.add(detections / self.scale > self.most, 1)

    def figure(self) -> Figure:
        broken = self.too_few.broken or self.too_many.broken
        value = quantile(self.recent, _TYPICAL)
        return Figure(self.name, value, self.least, self.most, self.too_few.of, broken, self.context)


class _DetectionTrials:
    """The detections of a typical stretch: against numbers for its context, and against the model before."""

    def __init__(self, promise: Promise, before: Sequence[Stretch]) -> None:
        self._promise = promise
        self._by_context: dict[str, _Side] = {}
        self._relative: _Side | None = None
        typical = quantile([stretch.detections for stretch in before], _TYPICAL)
        wanted = promise.detections_percent
        if wanted is not None and len(before) >= _LEAST_STRETCHES_BEFORE and typical > 0:
            size = len(before)
            from_below = math.ceil(size * _TYPICAL)  # as `quantile` counts
            self._relative = _Side(
                "detections_ratio",
                "",
                wanted.least / 100,
                wanted.most / 100,
                _trial_of_stretches(partial(_rank_tail, from_below, size)),
                _trial_of_stretches(partial(_rank_tail, size - from_below + 1, size)),
                deque(maxlen=_SHOWN),
                typical,
            )

    def add(self, stretch: Stretch) -> None:
        found = self._promise.detections_in(stretch.context)
        if found is not None:
            if stretch.context not in self._by_context:
                self._by_context[stretch.context] = _in_context(stretch.context, found)
            self._by_context[stretch.context].add(stretch.detections)
        if self._relative is not None:
            self._relative.add(stretch.detections)

    def _sides(self) -> list[_Side]:
        return [*self._by_context.values(), *([self._relative] if self._relative else [])]

    def trials(self) -> list[Trial]:
        return [trial for side in self._sides() for trial in (side.too_few, side.too_many)]

    def figures(self) -> list[Figure]:
        return [side.figure() for side in self._sides()]


def _in_context(context: str, found: Range) -> _Side:
    tail = partial(_share_tail, _TYPICAL)
    least, most = found.least / 1000, found.most / 1000
    trials = _trial_of_stretches(tail), _trial_of_stretches(tail)
    return _Side("detections_per_frame", context, least, most, *trials, deque(maxlen=_SHOWN))


def _trial_of_stretches(tail: Tail) -> Trial:
    return Trial(tail, first_look=_FIRST_STRETCHES)


def quantile(values: Iterable[float], share: float) -> float:
    """Give the smallest value that so many are no larger than; NaN without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered), max(1, math.ceil(share * len(ordered)))) - 1] if ordered else math.nan


def _share_tail(share: float, k: int, n: int) -> float:
    return binomial_tail(k, n, share)


def _rank_tail(rank: int, before: int, k: int, n: int) -> float:
    return exceedance_tail(k, n, rank, before)


def _stricter(one: float | None, other: float | None) -> float | None:
    given = [value for value in (one, other) if value is not None]
    return min(given, default=None)
