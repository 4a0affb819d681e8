"""Who listens to the model's state is told of each change, and now and then how a trial goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from protos.traffic_vision.v1 import common_pb2

Listener = Callable[[common_pb2.ModelState], None]

PROGRESS_S = 30.0  # between two reports of a trial that goes on


class Teller:
    """`listen` from any thread, the rest from one."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._told: common_pb2.ModelState | None = None
        self._told_whole = b""
        self._progress_at_s = 0.0  # monotonic

    def listen(self, listener: Listener) -> None:
        """Have it told from now on."""
        with self._lock:
            self._listeners.append(listener)

    def is_news(self, phase: common_pb2.UpdatePhase) -> bool:
        """Whether the phase is another one than was told last."""
        return self._told is None or self._told.phase != phase

    def tell(self, state: common_pb2.ModelState) -> None:
        """Tell the listeners, if it is new."""
        shown, now_s = _lasting(state), time.monotonic()
        whole = state.SerializeToString(deterministic=True)  # in bytes, a NaN equals itself
        if shown == self._told and (whole == self._told_whole or now_s < self._progress_at_s):
            return
        self._told, self._told_whole, self._progress_at_s = shown, whole, now_s + PROGRESS_S
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(state)


def _lasting(state: common_pb2.ModelState) -> common_pb2.ModelState:
    """The state without what changes with every frame or chunk."""
    shown = common_pb2.ModelState()
    shown.CopyFrom(state)
    shown.ClearField("received_bytes")
    shown.ClearField("total_bytes")
    if state.HasField("shadow"):
        run = state.shadow
        shown.shadow.CopyFrom(
            common_pb2.ShadowReport(model=run.model, outcome=run.outcome, detail=run.detail)
        )
    if state.HasField("probation"):
        trial = state.probation
        shown.probation.CopyFrom(
            common_pb2.ProbationReport(model=trial.model, outcome=trial.outcome, detail=trial.detail)
        )
    return shown
