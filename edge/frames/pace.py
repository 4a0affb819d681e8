"""When a recording's frames are let out: at the moments that they had on the road, or faster or slower."""

from __future__ import annotations

# A reader that falls this far behind takes it that time went on without it (a machine that slept).
SLIP_NS = 1_000_000_000


class Schedule:
    """Maps a recording's time to this machine's, from its first frame on."""

    def __init__(self, factor: float) -> None:
        """`factor` seconds of the recording in one of ours, at most; `math.inf`: none waits."""
        self._factor = factor
        self._first_ns: int | None = None
        self._anchor_ns = 0

    def change(self, factor: float) -> None:
        """Go on at another speed, from the next frame on."""
        if factor != self._factor:
            self._factor, self._first_ns = factor, None

    def due_ns(self, captured_ns: int, now_ns: int) -> int:
        """The monotonic time at which the frame of that time is to be let out; may lie in the past."""
        if self._first_ns is None:
            self._first_ns, self._anchor_ns = captured_ns, now_ns
        due_ns = self._anchor_ns + round((captured_ns - self._first_ns) / self._factor)
        if now_ns - due_ns > SLIP_NS:
            self._anchor_ns += now_ns - due_ns
            return now_ns
        return due_ns
