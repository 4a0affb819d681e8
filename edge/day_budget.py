"""Bytes per day, as a rule that no choice of day can get round."""

from __future__ import annotations

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS


class DayBudget:
    """At most so many bytes in any 24 hours of one clock, whichever 24 hours are looked at.

    What was spent is kept by the hour, for this hour and the 24 before it, so an amount may count for up
    to an hour too long, never too short. A clock that goes back takes what was spent along with it: nothing
    is forgotten by it, and nothing is blocked for longer than a day.
    """

    def __init__(self, bytes_per_day: int | None) -> None:
        """Start with nothing spent; None sets no limit."""
        self.limit = bytes_per_day
        self._spent: list[tuple[int, int]] = []  # (hour, bytes), by rising hour, each hour once

    def spent(self, now_ns: int) -> int:
        """Bytes that count at `now_ns`."""
        return sum(amount for _, amount in self._counting(now_ns))

    def allows(self, now_ns: int, amount: int) -> bool:
        """Whether `amount` more bytes keep the budget."""
        return self.limit is None or self.spent(now_ns) + amount <= self.limit

    def spend(self, now_ns: int, amount: int) -> None:
        """Count bytes, allowed or not."""
        counting = self._counting(now_ns)
        if counting and counting[-1][0] == now_ns // HOUR_NS:
            amount += counting.pop()[1]
        self._spent = [*counting, (now_ns // HOUR_NS, amount)]

    def wait_ns(self, now_ns: int, amount: int) -> int | None:
        """How long until `amount` bytes keep the budget; 0: now; None: never, it is more than a day's."""
        if self.allows(now_ns, amount):
            return 0
        left = self.spent(now_ns)
        for hour, spent in self._counting(now_ns):
            left -= spent
            if self.limit is not None and left + amount <= self.limit:
                return (hour + 25) * HOUR_NS - now_ns
        return None

    def hours(self) -> list[tuple[int, int]]:
        """What was spent, as (hour of the clock, bytes), to be kept and given to `restore`."""
        return list(self._spent)

    def restore(self, hours: list[tuple[int, int]]) -> None:
        """Go on from what `hours` gave."""
        self._spent = sorted(hours)[-25:]

    def _counting(self, now_ns: int) -> list[tuple[int, int]]:
        hour = now_ns // HOUR_NS
        back = self._spent[-1][0] - hour if self._spent else 0
        if back > 0:
            self._spent = [(at - back, amount) for at, amount in self._spent]
        return [(at, amount) for at, amount in self._spent if at >= hour - 24]
