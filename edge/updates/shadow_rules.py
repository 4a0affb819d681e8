"""When a candidate has been in shadow for long enough, and whether it has passed. Rules alone, no I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from edge.perception.agreement import Agreement
from edge.updates.probation import LEAST_ERRORS, MORE_ERRORS, KnownFeatures, drift_failure
from edge.updates.promise_trials import quantile
from protos.release_promise import Promise, Range, ShadowFacts
from protos.traffic_vision.v1 import common_pb2

LEAST_COMPARED = 30  # frames; fewer say nothing
LEAST_DETECTIONS = 100  # of both models together, for their agreement to mean something
MOST_CLASSES = 200  # that are told apart

_SHOWN = 4096  # durations that the p99 is of


@dataclass(frozen=True, slots=True)
class ShadowTerms:
    """What holds of one shadow.

    Attributes:
        seconds: of driving.
        every_frames: every so-manieth frame is the candidate's turn.
        cpu_share: of one core, at most.
        most_seconds: of driving, after which it is over, and fails if it cannot be judged.
        least_f1: agreement with the active model; None: it is only reported.
        count_percent: of the active model's detections on the same frames; None: not promised.
        no_drift_alarm: its detections must fit the reference in its own file.
    """

    seconds: float
    every_frames: int
    cpu_share: float
    most_seconds: float
    least_f1: float | None = None
    count_percent: Range | None = None
    no_drift_alarm: bool = False


def shadow_terms(
    facts: ShadowFacts, promise: Promise | None, *, most_seconds: float, most_cpu_share: float
) -> ShadowTerms:
    """Put together what the release asks for and promises, and what the vehicle allows at most."""
    promise = promise or Promise()
    least = facts.least_agreement_percent
    return ShadowTerms(
        seconds=min(facts.drive_s, most_seconds),
        every_frames=facts.every_frames,
        cpu_share=min(facts.cpu_percent / 100, most_cpu_share),
        most_seconds=most_seconds,
        least_f1=None if least is None else least / 100,
        count_percent=promise.detections_percent,
        no_drift_alarm=promise.no_drift_alarm,
    )


@dataclass(slots=True)
class ShadowTally:
    """What came of the frames so far.

    Attributes:
        compared, errors: frames that the candidate was shown, by how it went.
        over_budget, busy: frames whose turn it was, and that could not be taken.
        classes: agreement by class.
        drift: the latest judgement of each camera.
        latencies_ms: of the candidate's latest inferences.
        last_error: of a frame.
        drifted: what `drift_failure` said at the end of an earlier run of the daemon; empty: nothing.
    """

    compared: int = 0
    errors: int = 0
    over_budget: int = 0
    busy: int = 0
    classes: dict[str, Agreement] = field(default_factory=dict)
    drift: dict[str, common_pb2.DriftState] = field(default_factory=dict)
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    last_error: str = ""
    drifted: str = ""

    @property
    def total(self) -> Agreement:
        """All classes together."""
        return reduce(add, self.classes.values(), Agreement())

    def add(self, classes: Mapping[str, Agreement], latency_ms: float) -> None:
        """Take a frame that was compared."""
        self.compared += 1
        self.latencies_ms.append(latency_ms)
        for name, one in classes.items():
            if name in self.classes or len(self.classes) < MOST_CLASSES:
                self.classes[name] = self.classes.get(name, Agreement()) + one

    def error(self, reason: str) -> None:
        """Take a frame that the candidate could not look at."""
        self.errors += 1
        self.last_error = reason

    def latency_p99_ms(self) -> float:
        """NaN before the first."""
        return quantile(list(self.latencies_ms), 0.99)


def early_failure(tally: ShadowTally) -> str:
    """Say why it need not go on, for people; empty: it may."""
    shown = tally.compared + tally.errors
    if tally.errors >= LEAST_ERRORS and tally.errors > MORE_ERRORS * shown:
        return f"in shadow {tally.errors} of {shown} frames ended in an error: {tally.last_error}"
    return ""


def is_over(terms: ShadowTerms, drive_s: float, tally: ShadowTally) -> bool:
    """Say whether it has been in shadow for long enough: in driving, and in what its promises are judged by.

    A road on which nothing is seen, or a budget that leaves no frame, ends it too, in the end.
    """
    if drive_s < terms.seconds:
        return False
    return drive_s >= terms.most_seconds or not too_little(terms, tally)


def too_little(terms: ShadowTerms, tally: ShadowTally) -> str:
    """Say what is missing for it to be judged, for people; empty: nothing."""
    if tally.compared < LEAST_COMPARED:
        return f"in shadow {tally.compared} frames were compared, at least {LEAST_COMPARED} are needed"
    is_promised = terms.least_f1 is not None or terms.count_percent is not None
    found = tally.total.active + tally.total.candidate
    if is_promised and found < LEAST_DETECTIONS:
        return (
            f"in shadow both models together found {found} things on {tally.compared} frames, at least"
            f" {LEAST_DETECTIONS} are needed to judge what was promised"
        )
    return ""


def failure(
    terms: ShadowTerms,
    tally: ShadowTally,
    digest: str,
    known: KnownFeatures,
    states: Iterable[common_pb2.DriftState] | None = None,
) -> str:
    """Say at the end why it has failed, for people; empty: it has passed.

    Args:
        terms: what holds.
        tally: what came of the frames.
        digest: of the candidate.
        known: features of detections that the reference in its own file knows.
        states: of its own drift; None: those of the tally.
    """
    missing = too_little(terms, tally)
    if missing:
        return missing
    reasons = []
    total = tally.total
    if terms.least_f1 is not None and total.f1 < terms.least_f1:
        reasons.append(
            f"in shadow it agrees with the active model by F1 {total.f1:.2f} on {tally.compared} frames,"
            f" at least {terms.least_f1:.2f} was promised"
        )
    wanted = terms.count_percent
    if wanted is not None:
        ratio = total.count_ratio if total.active else math.inf
        if not wanted.least <= 100 * ratio <= wanted.most:
            reasons.append(
                f"in shadow it found {total.candidate} things where the active model found {total.active},"
                f" promised were {wanted.least} % to {wanted.most} %"
            )
    if terms.no_drift_alarm:
        reasons += [tally.drifted, drift_failure(states or tally.drift.values(), digest, known)]
    return "; ".join(reason for reason in reasons if reason)
