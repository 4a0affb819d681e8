"""Wall time beside the monotonic clock: the system's, or a PTP hardware clock's. For people and for fusion.

Nothing in the daemon is timed by it: ages and intervals are monotonic.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge.config import ClockConfig
from edge.errors import TrafficVisionError
from edge.logs import Repeated
from protos.traffic_vision.v1 import common_pb2

logger = logging.getLogger(__name__)

# One reading serves so long: two time stamps of one frame agree to the nanosecond, a clock that steps is
# followed within it, and two oscillators 50 ppm apart differ by 25 us by its end.
_REFRESH_NS = 500_000_000
_READINGS = 3  # of which the one that took the shortest counts
_CLOCK_FD = 3  # CLOCKFD in linux/posix-timers.h: a dynamic clock, by its file handle
_SOURCES = {
    "system": common_pb2.CLOCK_SOURCE_SYSTEM,
    "ptp": common_pb2.CLOCK_SOURCE_PTP,
    "gnss": common_pb2.CLOCK_SOURCE_GNSS,
}

Read = Callable[[], int]


class WallClockError(TrafficVisionError):
    """The configured clock cannot be read; the message names the device."""


class WallClock:
    """Maps monotonic time to Unix time. From any thread."""

    def __init__(
        self,
        read: Read = time.time_ns,
        source: common_pb2.ClockSource = common_pb2.CLOCK_SOURCE_SYSTEM,
        *,
        name: str = "the system's clock",
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Over a clock.

        Args:
            read: its time now, Unix time in ns; raises OSError where it cannot be had.
            source: what is said of it.
            name: for the log.
            monotonic_ns: this machine's monotonic clock.
        """
        self.source = source
        self._read = read
        self._name = name
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        self._offset_ns: int | None = None
        self._read_at_ns: int | None = None
        self._failures = Repeated(logger, logging.WARNING)

    def at(self, monotonic_ns: int) -> int | None:
        """Unix time of a monotonic moment, ns; None while the clock cannot be read."""
        with self._lock:
            now_ns = self._monotonic_ns()
            if self._read_at_ns is None or now_ns - self._read_at_ns >= _REFRESH_NS:
                self._read_at_ns = now_ns
                self._offset_ns = self._measure()
            return None if self._offset_ns is None else monotonic_ns + self._offset_ns

    def _measure(self) -> int | None:
        """Wall less monotonic time, by the tightest of several bracketed readings."""
        best: tuple[int, int] | None = None
        try:
            for _ in range(_READINGS):
                before = self._monotonic_ns()
                wall = self._read()
                after = self._monotonic_ns()
                found = (after - before, wall - (before + after) // 2)
                best = found if best is None else min(best, found)
        except OSError as error:
            self._failures.log(
                "%s cannot be read, time stamps are without wall time: %s",
                self._name,
                error.strerror or error,
            )
            return None
        return None if best is None else best[1]


class PtpDevice:
    """A PTP hardware clock (Documentation/driver-api/ptp.rst in Linux). Holds a file handle until `close`."""

    def __init__(self, path: Path, utc_offset_s: int) -> None:
        """Open it and read it once.

        Raises:
            WallClockError: it is not there, is none, or cannot be read.
        """
        self._utc_offset_ns = utc_offset_s * 1_000_000_000
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise WallClockError(
                f"PTP clock {str(path)!r} cannot be opened: {error.strerror}; [clock] ptp_device names it"
            ) from None
        try:
            self.read()
        except OSError as error:
            os.close(self._handle)
            raise WallClockError(
                f"{str(path)!r} is no PTP clock that can be read: {error.strerror}; see [clock] ptp_device"
            ) from None

    def read(self) -> int:
        """Unix time, ns.

        Raises:
            OSError: it cannot be read.
        """
        # FD_TO_CLOCKID in Linux's tools/testing/selftests/ptp/testptp.c
        clock_id = (~self._handle << 3) | _CLOCK_FD
        return time.clock_gettime_ns(clock_id) - self._utc_offset_ns

    def close(self) -> None:
        """Give the file handle back."""
        os.close(self._handle)


def open_wall_clock(config: ClockConfig) -> WallClock:
    """Open what the section [clock] names; it is held until the process ends.

    Raises:
        WallClockError: the device cannot be used.
    """
    source = _SOURCES[config.source]
    if config.ptp_device is None:
        return WallClock(source=source)
    device = PtpDevice(config.ptp_device, config.ptp_utc_offset_s)
    wall = WallClock(device.read, source, name=f"PTP clock {config.ptp_device}")
    ahead_s = (device.read() - time.time_ns()) / 1e9
    logger.info(
        "%s is %+.3f s off the system's clock", config.ptp_device, ahead_s, extra={"event": "ptp_clock"}
    )
    return wall
