"""Whether the daemon does its work, as a rule alone: for `/readyz`, and for the watchdog.

It goes by progress, not by life: a thread that lives and answers no frame is no use to a vehicle.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from edge.frames.capture import CapturePhase

# An idle loop comes round twice a second, a busy one once an inference; one that takes longer hangs.
STUCK_AFTER_S = 10.0
# Of frames that all come to nothing: too old, or refused by the model.
FRUITLESS_AFTER_S = 10.0


class CameraState(enum.Enum):
    """How a camera is."""

    OPENING = "opening"
    FRESH = "fresh"
    STALE = "stale"
    BACK_OFF = "back_off"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """What the rule goes by, of one camera.

    Attributes:
        name: the camera's.
        phase: what its capture is at.
        last_arrival_ns: monotonic time of its last frame that decoded; None before the first.
        stale_after_ns: age of that beyond which the camera is stale.
        back_off_until_ns: by when the present try has come to something; None but in back-off.
    """

    name: str
    phase: CapturePhase
    last_arrival_ns: int | None
    stale_after_ns: int
    back_off_until_ns: int | None = None

    def state(self, now_ns: int) -> CameraState:
        """How the camera is at a moment of the monotonic clock."""
        if self.phase is CapturePhase.ENDED:
            return CameraState.ENDED
        if self.phase is CapturePhase.BACK_OFF:
            return CameraState.BACK_OFF
        if self.last_arrival_ns is None:
            return CameraState.OPENING
        is_fresh = now_ns - self.last_arrival_ns <= self.stale_after_ns
        return CameraState.FRESH if is_fresh else CameraState.STALE


@dataclass(frozen=True, slots=True)
class LoopHealth:
    """What the rule goes by, of the frame loop. Times are monotonic ns.

    Attributes:
        is_running: its thread lives and was not asked to end.
        stepped_ns: when it last came round; it does so without frames too.
        fruitless_since_ns: when it took the first of the frames that came to nothing since the last one that
            was answered, the one in hand included; None where there is none.
        taken_ns: when it took its last frame; None before the first.
        down_since_ns: since when inference waits to be started again; None while it is up.
        restarts: how often it broke down and was started again.
    """

    is_running: bool
    stepped_ns: int
    fruitless_since_ns: int | None = None
    taken_ns: int | None = None
    down_since_ns: int | None = None
    restarts: int = 0


def loop_troubles(loop: LoopHealth, now_ns: int) -> tuple[str, ...]:
    """Why the frame loop is not alive, for people; empty: it is.

    Inference that is down leaves it alive: what is down is started again by the loop itself.
    """
    if not loop.is_running:
        return ("the frame loop does not run",)
    stuck_s = (now_ns - loop.stepped_ns) / 1e9
    if stuck_s > STUCK_AFTER_S:
        return (f"the frame loop has not come round for {stuck_s:.1f} s: inference hangs",)
    return ()


def health(cameras: Sequence[CameraHealth], loop: LoopHealth, now_ns: int) -> tuple[str, ...]:
    """Why the daemon does not do its work, for people; empty: it does.

    It does while its frame loop comes round, inference is up and answers the frames that it gets, and every
    camera is fresh, waits in counted back-off for its next try, or was a recording that has ended.

    Args:
        cameras: all of them.
        loop: the frame loop.
        now_ns: the moment that is asked about, of the monotonic clock.
    """
    troubles = list(loop_troubles(loop, now_ns))
    if loop.down_since_ns is not None:
        troubles.append(f"inference has been down for {(now_ns - loop.down_since_ns) / 1e9:.1f} s")
    elif not troubles and loop.fruitless_since_ns is not None and loop.taken_ns is not None:
        fruitless_s, idle_s = (now_ns - loop.fruitless_since_ns) / 1e9, (now_ns - loop.taken_ns) / 1e9
        # Without frames, the last of which came to nothing, there is nothing to answer.
        if fruitless_s > FRUITLESS_AFTER_S >= idle_s:
            troubles.append(f"inference has answered none of the frames of the last {fruitless_s:.1f} s")
    for camera in cameras:
        state = camera.state(now_ns)
        until_ns = camera.back_off_until_ns
        if state is CameraState.BACK_OFF and until_ns is not None and now_ns > until_ns:
            late_s = (now_ns - until_ns) / 1e9
            troubles.append(f"camera {camera.name} hangs while it is opened: {late_s:.1f} s over its time")
        elif state is CameraState.OPENING:
            troubles.append(f"camera {camera.name} has not given its first frame yet")
        elif state is CameraState.STALE:
            assert camera.last_arrival_ns is not None
            since_s, limit_s = (now_ns - camera.last_arrival_ns) / 1e9, camera.stale_after_ns / 1e9
            troubles.append(
                f"camera {camera.name} has given no frame for {since_s:.1f} s, more than {limit_s:g} s"
            )
    return tuple(troubles)
