"""Whether the frame loop stands still, by looks at it from another thread. No I/O."""

from __future__ import annotations

from edge.health import LoopHealth

HANG_S = 20.0  # an inference takes a fraction of a second; systemd's watchdog takes longer (WatchdogSec)
MOST_BETWEEN_S = 2.0  # looks further apart say that this process stood still itself, or was busy elsewhere


class Hang:
    """Adds up the time between looks that found the loop where the look before had."""

    def __init__(self) -> None:
        """It was not looked at yet."""
        self._stepped_ns: int | None = None
        self._looked_s = 0.0
        self._still_s = 0.0

    def look(self, loop: LoopHealth, now_s: float) -> str:
        """Take a look; says what is wrong, for people, or nothing.

        Args:
            loop: how it is.
            now_s: monotonic time.
        """
        if not loop.is_running or loop.stepped_ns != self._stepped_ns:
            self._stepped_ns, self._still_s = loop.stepped_ns, 0.0
        else:
            self._still_s += min(now_s - self._looked_s, MOST_BETWEEN_S)
        self._looked_s = now_s
        if self._still_s < HANG_S:
            return ""
        return f"inference hangs: the frame loop has not come round for {self._still_s:.0f} s"
