"""A thread that encodes and writes for the frame loop, which never waits for a disk."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from edge.logs import Repeated

_log = logging.getLogger(__name__)


class BackgroundWriter:
    """Does jobs in order. At most so many wait; what does not fit is counted and not done."""

    def __init__(self, limit: int = 8, name: str = "writer") -> None:
        """Make ready; jobs wait until `start`."""
        self._limit = limit
        self._changed = threading.Condition()
        self._jobs: deque[Callable[[], object]] = deque()
        self._stopping = False
        self._dropped = self._failed = 0
        self._defects = Repeated(_log, logging.ERROR)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def dropped(self) -> int:
        """Jobs that were not taken, because too many waited."""
        with self._changed:
            return self._dropped

    @property
    def failed(self) -> int:
        """Jobs that raised; the log tells of them."""
        with self._changed:
            return self._failed

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Callable[[], object]) -> bool:
        """Have a job done soon; False where it is dropped. Never waits."""
        with self._changed:
            if self._stopping or len(self._jobs) >= self._limit:
                self._dropped += 1
                return False
            self._jobs.append(job)
            self._changed.notify_all()
            return True

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Do what waits, and end; False where that took longer. May be called twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._stopping)
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            try:
                job()
            except Exception:  # noqa: BLE001  # a thread's top: one job fails alone
                self._defects.log("a job failed", exc_info=True)
                with self._changed:
                    self._failed += 1
