"""What the vehicle says of itself: which values can be, the latest report, and for how long it holds."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.errors import TrafficVisionError
from protos.traffic_vision.v1 import common_pb2

DEFAULT_VALID_MS = 2000

SPEED_LIMIT_MPS = 150.0  # faster than any road vehicle
LIGHT_LIMIT_LUX = 1e6  # the sun at noon gives 1.3e5
_BOOT_ID_LIMIT = 64

_RANGES: dict[str, tuple[float, float]] = {
    "speed_mps": (-SPEED_LIMIT_MPS, SPEED_LIMIT_MPS),
    "latitude_deg": (-90.0, 90.0),
    "longitude_deg": (-180.0, 180.0),
    "ambient_light_lux": (0.0, LIGHT_LIMIT_LUX),
}


class VehicleStateError(TrafficVisionError):
    """A report that cannot be; the message names field and value."""


def require_possible(state: common_pb2.VehicleState) -> None:
    """Check the values of a report.

    Raises:
        VehicleStateError: one cannot be.
    """
    for name, (low, high) in _RANGES.items():
        if not state.HasField(name):
            continue
        value = getattr(state, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise VehicleStateError(f"{name} is {value:g}, expected {low:g} to {high:g}")
    if state.HasField("latitude_deg") != state.HasField("longitude_deg"):
        one, other = ("latitude_deg", "longitude_deg")[:: 1 if state.HasField("latitude_deg") else -1]
        raise VehicleStateError(
            f"{one} is {getattr(state, one):g} and {other} is missing: a position is both, or neither"
        )
    if state.ignition not in common_pb2.Ignition.values():
        known = ", ".join(common_pb2.Ignition.keys())
        raise VehicleStateError(f"ignition is {state.ignition}, expected one of {known}")
    if len(state.observed.boot_id) > _BOOT_ID_LIMIT:
        raise VehicleStateError(
            f"observed.boot_id has {len(state.observed.boot_id)} characters, not {_BOOT_ID_LIMIT} at most"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What the vehicle said.

    Attributes:
        state: the whole state; to be read, not to be changed.
        arrived_ns: monotonic time, ns.
    """

    state: common_pb2.VehicleState
    arrived_ns: int


class Reports:
    """The latest report of the vehicle, whichever way it came. From any thread."""

    def __init__(
        self,
        now: Callable[[], common_pb2.Instant] | None = None,
        *,
        valid_ms: int = DEFAULT_VALID_MS,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Nothing reported yet.

        Args:
            now: stamps a report that brings no time of its own; None: it stays without.
            valid_ms: how long a report holds.
            monotonic_ns: this machine's monotonic clock.
        """
        self.valid_ms = valid_ms
        self._now = now
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        self._latest: Report | None = None
        self._listener: Callable[[Report], None] = lambda report: None

    def listen(self, listener: Callable[[Report], None]) -> None:
        """Call it with each report, in order, on the thread that it came by; it has to be quick."""
        self._listener = listener

    def report(self, state: common_pb2.VehicleState) -> int:
        """Take a report in place of the one before; gives how long it holds, ms.

        Raises:
            VehicleStateError: a value cannot be; the report before stands.
        """
        require_possible(state)
        kept = common_pb2.VehicleState()
        kept.CopyFrom(state)
        kept.DiscardUnknownFields()
        if self._now is not None and not kept.HasField("observed"):
            kept.observed.CopyFrom(self._now())
        with self._lock:
            self._latest = Report(kept, self._monotonic_ns())
            self._listener(self._latest)
        return self.valid_ms

    def valid(self) -> Report | None:
        """The latest report; None where there is none that still holds."""
        with self._lock:
            latest = self._latest
        if latest is None or self._monotonic_ns() - latest.arrived_ns > self.valid_ms * 1_000_000:
            return None
        return latest
