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

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial

from edge.updates.chance import DESIGN_EFFECT, Trial
from edge.updates.driving import Stretches, stretches_of
from edge.updates.frame_records import FrameRecord
from edge.updates.promise_trials import DetectionTrials, Figure, LatencyTrials, share_tail
from edge.vehicle_state.drive_time import DriveTime
from protos.release_promise import Promise
from protos.traffic_vision.v1 import common_pb2

LEAST_ERRORS = 10  # frames; fewer say nothing
MORE_ERRORS = 0.05  # of the frames that inference looked at


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


class Probation:
    """One probation, in this run of the daemon. For one thread."""

    def __init__(
        self,
        digest: str,
        terms: ProbationTerms,
        before: FrameTotals,
        records: Iterable[FrameRecord] = (),
        known: KnownFeatures = (),
        driven: tuple[float, int] = (0.0, 0),
    ) -> None:
        """Begin.

        Args:
            digest: of the model that is on probation.
            terms: what holds.
            before: the totals at this moment.
            records: of the latest frames, those of the models before included.
            known: features of detections that the reference in the model's own file knows.
            driven: seconds and frames of the same probation in earlier runs. The trials begin anew: a camera
                may have been cleaned, and a context changed, between two trips.
        """
        self._driven_s, self._driven_frames = driven
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
        self._latency = LatencyTrials(
            terms.latency_ms, terms.latency_ratio, sorted(record.latency_ms for record in last)
        )
        self._errors = (
            None
            if terms.error_share is None
            else Trial(partial(share_tail, terms.error_share), design_effect=DESIGN_EFFECT)
        )
        self._detections = DetectionTrials(terms.promise, stretches_of(last))
        self.observe(records)

    @property
    def drive_s(self) -> float:
        """Driven so far, seconds."""
        return self._driven_s + self._drive.seconds

    @property
    def frames(self) -> int:
        """Published so far."""
        return self._driven_frames + self._own.published

    @property
    def in_this_run(self) -> tuple[int, int]:
        """Whole seconds driven, and frames published, since the daemon's start."""
        return int(self._drive.seconds), self._own.published

    def observe(self, records: Iterable[FrameRecord]) -> None:
        """Take frames, in order; those of other models are left out."""
        for record in records:
            if record.digest != self.digest:
                continue
            self._drive.add(record.camera, record.time_ns, parked=record.parked)
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
        # An alarm stands for a while after its context was left.
        own = [one for one in alarming if (one.context or state.context, one.name) in known]
        if own:
            named = ", ".join(f"{one.name} ({one.shift_sigma:+.1f} sigma)" for one in own)
            return (
                f"camera {state.camera}: what it finds has left its own reference"
                f" ({own[0].context or state.context}): {named}"
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


def _stricter(one: float | None, other: float | None) -> float | None:
    given = [value for value in (one, other) if value is not None]
    return min(given, default=None)
