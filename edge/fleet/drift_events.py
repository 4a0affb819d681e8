"""Drift events: a verdict that begins or ends an alarm, kept on disk until the cloud has it."""

from __future__ import annotations

import logging
from functools import partial

from edge.background_writer import BackgroundWriter
from edge.fleet.assemble import new_id
from edge.fleet.spool import Spool
from edge.logs import Repeated
from protos.traffic_vision.v1 import common_pb2, fleet_pb2

logger = logging.getLogger(__name__)

_ALARM = common_pb2.DRIFT_VERDICT_ALARM


class DriftEvents:
    """Makes them of the monitors' verdicts, on the frame loop's thread."""

    def __init__(self, spool: Spool, writer: BackgroundWriter) -> None:
        """For the spool that they go to, by way of the writer."""
        self._spool = spool
        self._writer = writer
        self._lost = Repeated(logger, logging.WARNING)
        self._alarms: dict[str, str] = {}  # the event of each camera that is in alarm

    def verdict_changed(self, state: common_pb2.DriftState, previous: common_pb2.DriftVerdict) -> None:
        """Report a verdict that begins or ends an alarm; the others are in each heartbeat."""
        if _ALARM not in (state.verdict, previous):
            return
        event = fleet_pb2.DriftEvent(id=new_id("drift"), state=state, previous=previous)
        self._alarms[state.camera] = event.id if state.verdict == _ALARM else ""
        if not self._writer.submit(partial(self._spool.append, event.id, event.SerializeToString())):
            self._lost.log("camera %s: a drift event is lost: the disk is too slow", state.camera)

    def of(self, camera: str) -> str:
        """The event that began a camera's present alarm; empty without one."""
        return self._alarms.get(camera, "")
