"""From moving and standing still to driving and parked: rules alone, in whichever time their evidence has."""

from __future__ import annotations

from collections import deque

from protos.traffic_vision.v1 import common_pb2

# A speed sensor that stands still still flickers: standing begins this much below `moving_mps`.
_STILL_SHARE = 0.8

# Of the looks within a span, what must agree: a bus that passes does not make a parked car drive.
_AGREE = 0.8
_DRIVING_AFTER_NS = 3_000_000_000
_LEAST_LOOKS = 3
_GAP_NS = 10_000_000_000  # looks further apart say nothing of the time between them


class ReportedStanding:
    """By reports, in monotonic time. For one thread at a time."""

    def __init__(self, *, moving_mps: float, parked_after_s: float, valid_ms: int) -> None:
        """Nothing reported yet.

        Args:
            moving_mps: slower than this is standing still.
            parked_after_s: standing still for so long is parked; with the ignition off it is at once.
            valid_ms: reports further apart say nothing of the time between them.
        """
        self._moving_mps = moving_mps
        self._parked_after_ns = round(parked_after_s * 1e9)
        self._valid_ns = valid_ms * 1_000_000
        self._still_since_ns: int | None = None
        self._last_ns: int | None = None
        self._says: bool | None = None
        self._is_off = False

    def report(self, time_ns: int, state: common_pb2.VehicleState) -> None:
        """Take a report."""
        gap = self._last_ns is None or time_ns - self._last_ns > self._valid_ns
        self._last_ns = time_ns
        self._is_off = state.ignition == common_pb2.IGNITION_OFF
        still = self._is_still(state, None if gap else self._says)
        if still is not True:
            self._still_since_ns = None
        elif gap or self._still_since_ns is None:
            self._still_since_ns = time_ns
        self._says = still

    @property
    def moves(self) -> bool | None:
        """Whether the latest report says that it moves; None: it says nothing of it."""
        return None if self._says is None else not self._says

    def parked(self, now_ns: int) -> bool:
        """Whether it has stood still for long enough, by reports that were never too far apart."""
        if self._still_since_ns is None:
            return False
        return self._is_off or now_ns - self._still_since_ns >= self._parked_after_ns

    def _is_still(self, state: common_pb2.VehicleState, before: bool | None) -> bool | None:
        if not state.HasField("speed_mps"):
            return True if self._is_off else None
        speed = abs(state.speed_mps)
        if speed >= self._moving_mps:
            return False
        if speed <= self._moving_mps * _STILL_SHARE:
            return True
        return True if before is None else before


class SeenStanding:
    """By one camera's pictures, in the frames' time. For one thread at a time."""

    def __init__(self, *, parked_after_s: float) -> None:
        """Nothing seen yet.

        Args:
            parked_after_s: a picture that stands still for so long is of a parked vehicle.
        """
        self._parked_after_ns = max(round(parked_after_s * 1e9), _DRIVING_AFTER_NS)
        self._looks: deque[tuple[int, bool]] = deque()
        self.motion: common_pb2.Motion = common_pb2.MOTION_UNSPECIFIED

    def look(self, time_ns: int, moves: bool | None) -> common_pb2.Motion:
        """Take a look. One that can tell nothing changes nothing."""
        if self._looks and time_ns < self._looks[-1][0]:  # another drive
            self.restart()
        if moves is None:
            return self.motion
        if self._looks and time_ns - self._looks[-1][0] > _GAP_NS:
            self._looks.clear()
        self._looks.append((time_ns, moves))
        # One look older than the span is kept: it says that the span is full.
        while len(self._looks) > 1 and time_ns - self._looks[1][0] >= self._parked_after_ns:
            self._looks.popleft()
        if self._agree(time_ns, _DRIVING_AFTER_NS, moving=True):
            self.motion = common_pb2.MOTION_DRIVING
            self._forget_stillness(time_ns)
        elif time_ns - self._looks[0][0] >= self._parked_after_ns and self._agree(
            time_ns, self._parked_after_ns, moving=False
        ):
            self.motion = common_pb2.MOTION_PARKED
        return self.motion

    def restart(self) -> None:
        """Begin anew."""
        self._looks.clear()
        self.motion = common_pb2.MOTION_UNSPECIFIED

    def _agree(self, now_ns: int, span_ns: int, *, moving: bool) -> bool:
        looks = [moves for time_ns, moves in self._looks if now_ns - time_ns <= span_ns]
        return len(looks) >= _LEAST_LOOKS and sum(moves is moving for moves in looks) >= _AGREE * len(looks)

    def _forget_stillness(self, now_ns: int) -> None:
        while self._looks and now_ns - self._looks[0][0] > _DRIVING_AFTER_NS:
            self._looks.popleft()
