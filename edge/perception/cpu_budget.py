"""A share of one core, kept by pausing after each piece of work. Rules alone, no I/O."""

from __future__ import annotations


class CpuBudget:
    """Says when the next piece of work may begin.

    After one that took so much CPU time, the next begins only when that is no more than the share of the time
    since it began: over any time from one beginning to another, however short, the share holds.
    """

    def __init__(self, share: float) -> None:
        """Nothing spent.

        Args:
            share: of one core, more than 0.
        """
        self.share = share
        self._allowed_at_s = float("-inf")
        self._spent_s = 0.0
        self._since_s: float | None = None

    def allows(self, now_s: float) -> bool:
        """Whether work may begin at this moment, monotonic seconds."""
        return now_s >= self._allowed_at_s

    def spent(self, began_s: float, cpu_s: float) -> None:
        """Note a piece of work: when it began, and what it took."""
        if self._since_s is None:
            self._since_s = began_s
        self._spent_s += cpu_s
        self._allowed_at_s = max(self._allowed_at_s, began_s + cpu_s / self.share)

    def spent_share(self, now_s: float) -> float:
        """What was spent, of one core, since the first work began."""
        if self._since_s is None or now_s <= self._since_s:
            return 0.0
        return self._spent_s / (now_s - self._since_s)
