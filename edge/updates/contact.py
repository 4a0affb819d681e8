"""What the vehicle knows of its cloud's metadata and clock, kept for the status and told once in the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from edge.updates.alarms import Alarms, Contact, alarms
from edge.updates.client import UpdateResult
from edge.updates.errors import Refusal
from protos.traffic_vision.v1 import common_pb2

logger = logging.getLogger(__name__)


class CloudContact:
    """From any thread, but for `log`, which is one thread's."""

    def __init__(
        self, has_cloud: bool, clock: Callable[[], datetime], clock_floor: Callable[[], datetime]
    ) -> None:
        """Nothing is known yet.

        Args:
            has_cloud: without one nothing is expected, and nothing told.
            clock: the present time, UTC.
            clock_floor: the latest moment that is past for certain.
        """
        self._has_cloud = has_cloud
        self._clock = clock
        self._clock_floor = clock_floor
        self._lock = threading.Lock()
        self._contact = Contact()
        self._cloud_ahead: Callable[[], timedelta | None] = lambda: None
        self._logged = Alarms()

    def begin(self, expires: datetime | None) -> None:
        """With metadata that an earlier run left, which ends then; None: there is none."""
        with self._lock:
            self._contact = Contact(expires=expires)

    def compare_clocks(self, cloud_ahead: Callable[[], timedelta | None]) -> None:
        """Have it asked how far the cloud's clock is ahead of this vehicle's."""
        self._cloud_ahead = cloud_ahead

    def note(self, result: UpdateResult) -> None:
        """Remember what a check said of the metadata."""
        expired = result.detail if result.refusal is Refusal.EXPIRED else ""
        with self._lock:
            before = self._contact
            expires = result.metadata_expires or before.expires
            self._contact = Contact(before.checks + 1, expires, expired)

    def fill(self, status: common_pb2.VehicleStatus) -> None:
        """Until when the metadata holds, and what is wrong with it or with the clock."""
        expires, now = self._seen().expires, self._judged()
        if expires is not None:
            status.metadata_expires_wall_ns = int(expires.timestamp()) * 10**9
        status.clock_alarm, status.metadata_alarm = now.clock, now.metadata

    def log(self) -> None:
        """Each alarm once when it comes, and once when it goes."""
        now, before = self._judged(), self._logged
        self._logged = now
        for event, alarm, earlier in (
            ("clock_alarm", now.clock, before.clock),
            ("metadata_alarm", now.metadata, before.metadata),
        ):
            if alarm and not earlier:
                logger.warning("updates: %s; driving goes on", alarm, extra={"event": event})
            elif earlier and not alarm:
                logger.info("updates: no longer so: %s", earlier, extra={"event": f"{event}_over"})

    def _seen(self) -> Contact:
        with self._lock:
            contact = self._contact
        return replace(contact, cloud_ahead=self._cloud_ahead())

    def _judged(self) -> Alarms:
        if not self._has_cloud:
            return Alarms()
        return alarms(self._seen(), self._clock(), self._clock_floor())
