"""Which frames matter: rules alone, in the frames' own time. What it takes, others encode, keep and send."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge.day_budget import DayBudget
from edge.errors import TrafficVisionError
from edge.fleet.similarity import HASH_BITS, dhash, distance
from edge.fleet.uncertainty import uncertainty
from protos.traffic_vision.v1 import fleet_pb2

Kind: TypeAlias = fleet_pb2.SampleReason

REQUESTED = fleet_pb2.SAMPLE_REASON_REQUESTED
DRIFT = fleet_pb2.SAMPLE_REASON_DRIFT
UNCERTAINTY = fleet_pb2.SAMPLE_REASON_UNCERTAINTY
BASELINE = fleet_pb2.SAMPLE_REASON_BASELINE

# A reason's priority is its rank plus how strong it is, 0 to 1 without the 1: reasons never change places.
# Rank 2 is for the disagreement of two models.
_RANK: Mapping[Kind, int] = {REQUESTED: 4, DRIFT: 3, UNCERTAINTY: 1, BASELINE: 0}
_STRONGEST = 0.999
_REQUESTS_LIMIT = 8
_LATEST = 32  # samples whose size tells how much room the next one may need


class SamplerOptionsError(TrafficVisionError):
    """An option that makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """What to take. Times are the frames' own.

    Attributes:
        drift_spacing_s, uncertainty_spacing_s, baseline_spacing_s: between two samples for the same reason,
            at least; for the baseline it is its rate. `math.inf` turns a reason off but for its first sample.
        uncertain_share: a frame is uncertain where it is among this share of the most uncertain lately.
        uncertainty_window: offers that "lately" means.
        uncertainty_minimum: offers before the first frame can be called uncertain.
        near_duplicate_bits: a picture whose dHash differs by so few bits or fewer from one taken lately is
            not taken again. On a real drive by night one pair in ten of pictures 5 s apart differs by 4 bits
            or fewer, so 2 refuses what stands still; negative: nothing is refused.
        remembered: samples that "lately" means there.
        bytes_per_day: of samples, in any 24 hours.
        sample_bytes: what room in that is left for a sample whose size is not known yet, at least; the
            largest of the latest, where that is more. Only a sample larger still can exceed the budget.
    """

    drift_spacing_s: float = 5.0
    uncertainty_spacing_s: float = 20.0
    baseline_spacing_s: float = 120.0
    uncertain_share: float = 0.1
    uncertainty_window: int = 600
    uncertainty_minimum: int = 60
    near_duplicate_bits: int = 2
    remembered: int = 64
    bytes_per_day: int = 500_000_000
    sample_bytes: int = 200_000

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            SamplerOptionsError: it names the option.
        """
        for name in ("drift_spacing_s", "uncertainty_spacing_s", "baseline_spacing_s"):
            if not getattr(self, name) >= 0:
                raise SamplerOptionsError(f"{name} must be 0 s or more, not {getattr(self, name)!r}")
        for name in ("uncertainty_window", "uncertainty_minimum", "remembered", "sample_bytes"):
            if getattr(self, name) < 1:
                raise SamplerOptionsError(f"{name} must be 1 or more, not {getattr(self, name)!r}")
        if not 0 < self.uncertain_share < 1:
            raise SamplerOptionsError(
                f"uncertain_share must be above 0 and below 1, not {self.uncertain_share!r}"
            )
        if self.near_duplicate_bits >= HASH_BITS:
            raise SamplerOptionsError(f"near_duplicate_bits must be below {HASH_BITS}, or nothing is taken")
        if self.bytes_per_day < 0:
            raise SamplerOptionsError(f"bytes_per_day must be 0 or more, not {self.bytes_per_day!r}")


@dataclass(frozen=True, slots=True)
class SampleReason:
    """Why a frame is taken, and how much it is wanted: 4 to 5 requested, 3 to 4 drift, 1 to 2 uncertainty."""

    kind: Kind
    priority: float


@dataclass(frozen=True, slots=True)
class SamplerCounts:
    """What became of the offers since the start.

    Attributes:
        offered: frames that were looked at.
        taken: samples.
        by_reason: samples by reason; one sample may have several.
        near_duplicates, over_budget: wanted, and not taken because of that.
    """

    offered: int
    taken: int
    by_reason: Mapping[Kind, int]
    near_duplicates: int
    over_budget: int


@dataclass(slots=True)
class _Request:
    samples: int
    spacing_ns: int


class Sampler:
    """Takes samples of one camera. For one thread; any may call `request`, `weighed` and `change`."""

    def __init__(self, options: SamplerOptions | None = None) -> None:
        """Start with nothing taken."""
        self.options = options or SamplerOptions()
        self._spacing_ns = _spacings(self.options)
        self._now_ns = -(1 << 63)
        self._last_ns: dict[Kind, int] = {}
        self._uncertainties: deque[float] = deque(maxlen=self.options.uncertainty_window)
        self._hashes: deque[int] = deque(maxlen=self.options.remembered)
        self._requests: deque[_Request] = deque()
        self._budget = DayBudget(self.options.bytes_per_day)
        self._reserved: deque[int] = deque()  # for samples that are not weighed yet
        self._weights: deque[int] = deque()  # told by `weighed`, not yet counted
        self._lately: deque[int] = deque(maxlen=_LATEST)
        self._counts: Counter[str] = Counter()
        self._by_reason: Counter[Kind] = Counter()

    def offer(
        self,
        time_ns: int,
        image: npt.NDArray[np.uint8],
        boxes: npt.NDArray[np.float32],
        drift_alarm: bool,
        drift_priority: float = 0.0,
        *,
        parked: bool = False,
    ) -> tuple[SampleReason, ...]:
        """Look at a frame. For each that is taken, `weighed` must be called once.

        Args:
            time_ns: the frame's time, ns; where it goes back, a new drive begins.
            image: `uint8[H, W, 3]`, BGR.
            boxes: `float32[N, 6]`, the detections.
            drift_alarm: whether the drift monitor's verdict is an alarm.
            drift_priority: how strong it is, 0 to 1; a KS statistic will do.
            parked: whether the vehicle is parked: then only what was asked for is taken.

        Returns:
            Why to take it, the strongest reason first; empty: it is not taken.
        """
        if time_ns < self._now_ns:
            self._last_ns.clear()
        self._now_ns = time_ns
        self._count_weights(time_ns)
        self._counts["offered"] += 1
        strengths: dict[Kind, float] = {}
        if self._requests and self._is_due(REQUESTED, self._requests[0].spacing_ns):
            strengths[REQUESTED] = 0.0
        if not parked:
            strengths |= self._reasons(uncertainty(boxes), drift_alarm, drift_priority)
        if not strengths or not self._may_take(image, REQUESTED in strengths):
            return ()
        return self._take(strengths)

    def change(self, options: SamplerOptions) -> None:
        """Go by other options from the next offer on; what was taken before counts. From any thread.

        `uncertainty_window` and `remembered` stay as they were.
        """
        self.options, self._spacing_ns = options, _spacings(options)
        self._budget.limit = options.bytes_per_day

    def weighed(self, size_bytes: int) -> None:
        """Tell what the oldest sample that was not weighed yet takes; 0 where it came to nothing."""
        self._weights.append(size_bytes)

    def request(self, samples: int, spacing_ns: int) -> bool:
        """Take frames whatever the rules say, but for the budget; after the requests that came before.

        Returns:
            False where too many requests wait already.
        """
        if len(self._requests) >= _REQUESTS_LIMIT:
            return False
        if samples > 0:
            self._requests.append(_Request(samples, max(0, spacing_ns)))
        return True

    def counts(self) -> SamplerCounts:
        """What became of the offers."""
        counts = self._counts
        return SamplerCounts(
            counts["offered"],
            counts["taken"],
            dict(self._by_reason),
            counts["near_duplicates"],
            counts["over_budget"],
        )

    def _reasons(self, unsure: float, drift_alarm: bool, drift_priority: float) -> dict[Kind, float]:
        self._uncertainties.append(unsure)
        strengths: dict[Kind, float] = {}
        if drift_alarm and self._is_due(DRIFT, self._spacing_ns[DRIFT]):
            strengths[DRIFT] = drift_priority
        if self._is_due(UNCERTAINTY, self._spacing_ns[UNCERTAINTY]) and self._is_uncertain(unsure):
            strengths[UNCERTAINTY] = unsure / (1.0 + unsure)
        if self._is_due(BASELINE, self._spacing_ns[BASELINE]):
            strengths[BASELINE] = 0.0
        return strengths

    def _is_due(self, kind: Kind, spacing_ns: float) -> bool:
        last_ns = self._last_ns.get(kind)
        return last_ns is None or self._now_ns - last_ns >= spacing_ns

    def _is_uncertain(self, unsure: float) -> bool:
        if unsure <= 0.0 or len(self._uncertainties) < self.options.uncertainty_minimum:
            return False
        # Strictly above: a scene that never changes is not uncertain for ever.
        return unsure > float(np.quantile(self._uncertainties, 1.0 - self.options.uncertain_share))

    def _may_take(self, image: npt.NDArray[np.uint8], requested: bool) -> bool:
        expected = max((self.options.sample_bytes, *self._lately))
        if not self._budget.allows(self._now_ns, expected + sum(self._reserved)):
            self._counts["over_budget"] += 1
            return False
        seen = dhash(image)
        if not requested and any(
            distance(seen, other) <= self.options.near_duplicate_bits for other in self._hashes
        ):
            self._counts["near_duplicates"] += 1
            return False
        self._hashes.append(seen)
        self._reserved.append(expected)
        return True

    def _take(self, strengths: Mapping[Kind, float]) -> tuple[SampleReason, ...]:
        for kind in strengths:
            self._last_ns[kind] = self._now_ns
        if REQUESTED in strengths:
            self._requests[0].samples -= 1
            if self._requests[0].samples == 0:
                self._requests.popleft()
        self._counts["taken"] += 1
        self._by_reason.update(strengths.keys())
        reasons = [SampleReason(kind, _priority(kind, strength)) for kind, strength in strengths.items()]
        return tuple(sorted(reasons, key=lambda reason: -reason.priority))

    def _count_weights(self, time_ns: int) -> None:
        while self._weights and self._reserved:
            self._reserved.popleft()
            size = self._weights.popleft()
            self._budget.spend(time_ns, size)
            if size > 0:
                self._lately.append(size)


def _spacings(options: SamplerOptions) -> dict[Kind, float]:
    return {
        DRIFT: options.drift_spacing_s * 1e9,
        UNCERTAINTY: options.uncertainty_spacing_s * 1e9,
        BASELINE: options.baseline_spacing_s * 1e9,
    }


def _priority(kind: Kind, strength: float) -> float:
    bounded = min(max(strength, 0.0), 1.0) if math.isfinite(strength) else 0.0
    return _RANK[kind] + _STRONGEST * bounded
