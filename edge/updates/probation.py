"""When a new model has proved itself on the road, and when it has failed. Rules alone, no I/O.

Confirmed: it has run for so long and published so many frames, and nothing below has happened.
Failed: at least `LEAST_ERRORS` frames ended in an inference error, and their share of the frames looked at
is more than `MORE_ERRORS` above what the models before it had in the same run. Three crashes within a minute
fail it too; that rule is the frame loop's (`edge.perception.crashes`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protos.traffic_vision.v1 import common_pb2

LEAST_ERRORS = 10  # frames; fewer say nothing
MORE_ERRORS = 0.05  # of the frames that inference looked at


@dataclass(frozen=True, slots=True)
class ProbationRules:
    """How long a new model must run, seconds, and how many frames it must publish."""

    seconds: float
    frames: int


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
class Probation:
    """A probation as it began, in this run of the daemon.

    Attributes:
        digest: of the model that is on probation.
        began_s: monotonic seconds.
        before: the totals at that moment.
    """

    digest: str
    began_s: float
    before: FrameTotals

    def failure(self, totals: FrameTotals) -> str:
        """Why the model has failed, for people; empty: it has not."""
        own = totals.since(self.before)
        if own.errors < LEAST_ERRORS or own.error_share <= self.before.error_share + MORE_ERRORS:
            return ""
        return (
            f"{own.errors} of {own.errors + own.published} frames ended in an inference error"
            f" ({own.error_share:.0%}; before it, {self.before.error_share:.0%})"
        )

    def passed(self, totals: FrameTotals, now_s: float, rules: ProbationRules) -> bool:
        """Say whether it has run long enough, in time and in frames."""
        own = totals.since(self.before)
        return now_s - self.began_s >= rules.seconds and own.published >= rules.frames


def frame_totals(cameras: Iterable[common_pb2.CameraStatus]) -> FrameTotals:
    """Add up what the cameras' counts say."""
    counts = [count for camera in cameras for count in camera.outcomes]

    def total(outcome: common_pb2.FrameOutcome) -> int:
        return sum(count.frames for count in counts if count.outcome == outcome)

    return FrameTotals(
        total(common_pb2.FRAME_OUTCOME_PUBLISHED), total(common_pb2.FRAME_OUTCOME_INFERENCE_ERROR)
    )
