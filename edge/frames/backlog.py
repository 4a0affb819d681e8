"""Does a reader keep up? Told by whether it ever waits: what it never waits for has waited for it."""

from __future__ import annotations

# A read that took so long had nothing to take: the line was empty.
WAITED_S = 0.001
# Reads in a row that found something ready for so long mean a backlog: at the camera's pace most reads wait.
BEHIND_S = 1.0


class Backlog:
    """Watches a reader's reads. No clock of the camera's comes into it, which may run at another speed."""

    def __init__(self, now_s: float) -> None:
        """Keeping up so far; times are monotonic seconds."""
        self._empty_at = now_s
        self._is_behind = False

    def read(self, asked_s: float, got_s: float) -> bool:
        """Note a read that was asked for and came then; gives whether what came is old and to be let go."""
        if got_s - asked_s >= WAITED_S:
            self._empty_at, self._is_behind = got_s, False
        elif got_s - self._empty_at >= BEHIND_S:
            self._is_behind = True
        return self._is_behind
