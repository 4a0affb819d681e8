"""Which release each vehicle is assigned, kept up to date beside the event loop that serves them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from cloud.config import CloudConfig
from cloud.fleet.rollout_changes import SERVER
from cloud.fleet.rollout_return import take_back
from cloud.fleet.rollouts import Assignments, Rollouts
from cloud.store import Store
from cloud.store.columns import utc_now
from protos.traffic_vision.v1 import fleet_pb2 as fleet

LEAST_PAUSE_S = 0.1  # between two looks, however much is reported
PAUSE_SHARE = 3.0  # of a look's own time: a large fleet's looks leave the processor to its streams
LONGEST_PAUSE_S = 1.0
RETRY_S = 10.0  # between two tries to sign what takes a release back

_LOG = logging.getLogger(__name__)


class Assigner:
    """Looks at the rollouts now and then, after reports, and when a vehicle comes that it does not know.

    Everything but `wake` belongs to the event loop that `run` runs on.
    """

    def __init__(self, store: Store, config: CloudConfig) -> None:
        """Prepare; `run` does the work.

        Args:
            store: the database, where rollouts are.
            config: the cloud's.
        """
        self._store = store
        self._config = config
        self._rollouts = Rollouts(store, config.rollout)
        self._assignments = Assignments()
        self._listeners: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted = asyncio.Event()
        self._looked = asyncio.Condition()
        self._begun = self._ended = 0  # looks
        self._stopped = asyncio.Event()
        self._sign_at = 0.0

    def listen(self, listener: Callable[[], None]) -> None:
        """Have it called after each look."""
        self._listeners.append(listener)

    def wake(self) -> None:
        """Look soon. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wanted.set)

    def known(self, vehicle: str) -> fleet.Assignment | None:
        """What a vehicle is assigned, as of the last look; None: this cloud assigns nothing."""
        return self._assignments.of(vehicle, utc_now())

    async def of(self, vehicle: str) -> fleet.Assignment | None:
        """What a vehicle is assigned that has just said Hello; where none is known, after another look."""
        if not self._assignments.counters.get(vehicle):
            await self.look_again()
        return self.known(vehicle)

    async def look_again(self) -> None:
        """Wait for a look that begins after this call; who listens has heard of it then."""
        wanted = self._begun + 1
        self._wanted.set()
        async with self._looked:
            await self._looked.wait_for(lambda: self._ended >= wanted or self._stopped.is_set())

    async def run(self) -> None:
        """Look until `stop`."""
        self._loop = asyncio.get_running_loop()
        while not self._stopped.is_set():
            self._wanted.clear()
            self._begun += 1
            began_s = monotonic()
            try:
                self._assignments = await asyncio.to_thread(self._look)
            except Exception:  # noqa: BLE001 - the top of this task
                _LOG.exception("the rollouts could not be looked at; what was assigned stays so")
            for listener in self._listeners:
                listener()
            async with self._looked:
                self._ended = self._begun
                self._looked.notify_all()
            pause_s = max(LEAST_PAUSE_S, PAUSE_SHARE * (monotonic() - began_s))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), min(pause_s, LONGEST_PAUSE_S))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), self._config.serve.release_poll_s)
        async with self._looked:
            self._looked.notify_all()

    def stop(self) -> None:
        """Ask `run` to end; whoever waits for a look waits no longer."""
        self._stopped.set()
        self._wanted.set()

    def _look(self) -> Assignments:
        assignments = self._rollouts.look()
        if assignments.returning and monotonic() >= self._sign_at:
            self._sign_at = monotonic() + RETRY_S
            if not take_back(self._store, self._config, SERVER, utc_now()):
                assignments = self._rollouts.look()
        return assignments
