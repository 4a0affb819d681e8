"""The trials of one probation: latency and detections against what was promised. Rules alone, no I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from edge.updates.chance import DESIGN_EFFECT, Tail, Trial, binomial_tail, exceedance_tail
from edge.updates.driving import Stretch
from protos.release_promise import Promise, Range

BEYOND_P99 = 0.01
_SHOWN = 4096  # latencies that the p99 in the report is of
_LEAST_BEFORE = DESIGN_EFFECT * 10  # frames of the model before, for its latency to be a yardstick
_LEAST_STRETCHES_BEFORE = 6
_FIRST_STRETCHES = 12  # fewer of them, all beyond, may be chance
# Of the typical stretch: half of them lie on either side of it.
_TYPICAL = 0.5


@dataclass(frozen=True, slots=True)
class Figure:
    """A promise, and how it stands.

    Attributes:
        name: with its unit.
        value: measured; NaN: nothing was.
        least, most: that were promised.
        samples: that the value is of.
        broken: beyond chance.
        context: that it is of; empty: any.
    """

    name: str
    value: float
    least: float | None
    most: float | None
    samples: int
    broken: bool
    context: str = ""

    def words(self) -> str:
        """For people."""
        bounds = [f"at least {self.least:g}"] if self.least is not None else []
        bounds += [f"at most {self.most:g}"] if self.most is not None else []
        where = f" in context {self.context}" if self.context else ""
        return f"{self.name}{where} is {self.value:.4g} over {self.samples}, promised {' and '.join(bounds)}"


class LatencyTrials:
    """Both bounds of the latency: a number, and the model before."""

    def __init__(
        self, latency_ms: float | None, latency_ratio: float | None, before_ms: Sequence[float]
    ) -> None:
        """Begin.

        Args:
            latency_ms: most of 99 in 100 inferences; None: not promised.
            latency_ratio: the same, of what the model before took; None: not promised.
            before_ms: what that took, rising.
        """
        self._shown: deque[float] = deque(maxlen=_SHOWN)
        self._frames = 0
        self._most_ms = latency_ms
        self._absolute: Trial | None = None
        if latency_ms is not None:
            self._absolute = Trial(partial(share_tail, BEYOND_P99), design_effect=DESIGN_EFFECT)
        self._ratio = latency_ratio
        self._relative: Trial | None = None
        self._before_ms = math.nan
        self._threshold_ms = math.inf
        if latency_ratio is not None and len(before_ms) >= _LEAST_BEFORE:
            size = len(before_ms) // DESIGN_EFFECT
            rank = max(1, math.ceil(size * BEYOND_P99))
            self._before_ms = before_ms[-((rank - 1) * DESIGN_EFFECT + 1)]
            self._threshold_ms = latency_ratio * self._before_ms
            self._relative = Trial(partial(_rank_tail, rank, size), design_effect=DESIGN_EFFECT)

    def add(self, latency_ms: float) -> None:
        """Take an inference."""
        self._shown.append(latency_ms)
        self._frames += 1
        if self._absolute is not None and self._most_ms is not None:
            self._absolute.add(latency_ms > self._most_ms, 1)
        if self._relative is not None:
            self._relative.add(latency_ms > self._threshold_ms, 1)

    def trials(self) -> tuple[Trial | None, Trial | None]:
        """Those that there are."""
        return self._absolute, self._relative

    def figures(self) -> list[Figure]:
        """How the promises stand."""
        p99 = quantile(self._shown, 1 - BEYOND_P99)
        found = []
        if self._absolute is not None:
            broken = self._absolute.broken
            found.append(Figure("latency_p99_ms", p99, None, self._most_ms, self._frames, broken))
        if self._ratio is not None:
            broken = self._relative is not None and self._relative.broken
            ratio = p99 / self._before_ms if self._before_ms > 0 else math.nan
            found.append(Figure("latency_p99_ratio", ratio, None, self._ratio, self._frames, broken))
        return found


@dataclass(slots=True)
class _Side:
    """Stretches in one context, against one range."""

    name: str
    context: str
    least: float
    most: float
    too_few: Trial
    too_many: Trial
    recent: deque[float]
    scale: float = 1.0

    def add(self, detections: float) -> None:
        self.recent.append(detections / self.scale)
        self.too_few.add(detections / self.scale < self.least, 1)
        self.too_many.add(detections / self.scale > self.most, 1)

    def figure(self) -> Figure:
        broken = self.too_few.broken or self.too_many.broken
        value = quantile(self.recent, _TYPICAL)
        return Figure(self.name, value, self.least, self.most, self.too_few.of, broken, self.context)


class DetectionTrials:
    """The detections of a typical stretch: against numbers for its context, and against the model before."""

    def __init__(self, promise: Promise, before: Sequence[Stretch]) -> None:
        """Begin; `before` are the stretches of the model before."""
        self._promise = promise
        self._by_context: dict[str, _Side] = {}
        self._relative: _Side | None = None
        typical = quantile([stretch.detections for stretch in before], _TYPICAL)
        wanted = promise.detections_percent
        if wanted is not None and len(before) >= _LEAST_STRETCHES_BEFORE and typical > 0:
            size = len(before)
            from_below = math.ceil(size * _TYPICAL)  # as `quantile` counts
            self._relative = _Side(
                "detections_ratio",
                "",
                wanted.least / 100,
                wanted.most / 100,
                _trial_of_stretches(partial(_rank_tail, from_below, size)),
                _trial_of_stretches(partial(_rank_tail, size - from_below + 1, size)),
                deque(maxlen=_SHOWN),
                typical,
            )

    def add(self, stretch: Stretch) -> None:
        """Take a stretch."""
        found = self._promise.detections_in(stretch.context)
        if found is not None:
            if stretch.context not in self._by_context:
                self._by_context[stretch.context] = _in_context(stretch.context, found)
            self._by_context[stretch.context].add(stretch.detections)
        if self._relative is not None:
            self._relative.add(stretch.detections)

    def _sides(self) -> list[_Side]:
        return [*self._by_context.values(), *([self._relative] if self._relative else [])]

    def trials(self) -> list[Trial]:
        """All of them."""
        return [trial for side in self._sides() for trial in (side.too_few, side.too_many)]

    def figures(self) -> list[Figure]:
        """How the promises stand."""
        return [side.figure() for side in self._sides()]


def _in_context(context: str, found: Range) -> _Side:
    tail = partial(share_tail, _TYPICAL)
    least, most = found.least / 1000, found.most / 1000
    trials = _trial_of_stretches(tail), _trial_of_stretches(tail)
    return _Side("detections_per_frame", context, least, most, *trials, deque(maxlen=_SHOWN))


def _trial_of_stretches(tail: Tail) -> Trial:
    return Trial(tail, first_look=_FIRST_STRETCHES)


def quantile(values: Iterable[float], share: float) -> float:
    """Give the smallest value that so many are no larger than; NaN without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered), max(1, math.ceil(share * len(ordered)))) - 1] if ordered else math.nan


def share_tail(share: float, k: int, n: int) -> float:
    """Put `binomial_tail`'s arguments in a trial's order."""
    return binomial_tail(k, n, share)


def _rank_tail(rank: int, before: int, k: int, n: int) -> float:
    return exceedance_tail(k, n, rank, before)
