"""Percentiles of durations in bounded memory, however long the drive."""

from __future__ import annotations

import math

# Neighbouring buckets are 1 % apart, so that a percentile is off by half of that at most.
_LOG_STEP = math.log(1.01)


class Durations:
    """Counts durations in logarithmic buckets, as HdrHistogram does. Minimum and maximum are exact."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.min_ns = 0
        self.max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration, ns; below 1 ns it counts as 1."""
        duration_ns = max(duration_ns, 1)
        bucket = round(math.log(duration_ns) / _LOG_STEP)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.min_ns = min(self.min_ns, duration_ns) if self.count else duration_ns
        self.max_ns = max(self.max_ns, duration_ns)
        self.count += 1

    def include(self, other: Durations) -> None:
        """Count all that another one has counted."""
        if not other.count:
            return
        self.min_ns = min(self.min_ns, other.min_ns) if self.count else other.min_ns
        self.max_ns = max(self.max_ns, other.max_ns)
        self.count += other.count
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def quantile_ns(self, q: float) -> float:
        """The duration, ns, at or below which the share `q` of all lie (nearest rank, within 0.5 %).

        Raises:
            ValueError: nothing was counted.
        """
        if not self.count:
            raise ValueError("no duration was counted")
        rank = max(1, math.ceil(q * self.count))
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return min(max(math.exp(bucket * _LOG_STEP), self.min_ns), self.max_ns)
        return self.max_ns

    def as_ms(self) -> dict[str, float]:
        """`min`, `p50`, `p99` and `max` in ms, to the microsecond."""
        p50, p99 = self.quantile_ns(0.5), self.quantile_ns(0.99)
        figures = {"min": self.min_ns, "p50": p50, "p99": p99, "max": self.max_ns}
        return {name: round(ns / 1e6, 3) for name, ns in figures.items()}
