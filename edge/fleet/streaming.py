"""One bidirectional stream after another, in a thread of its own, until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import grpc

from edge.backoff import Backoff, BackoffOptions
from edge.fleet.channel import explain
from edge.logs import Repeated

_log = logging.getLogger(__name__)

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
RequestOutT = TypeVar("RequestOutT", covariant=True)
ResponseOutT = TypeVar("ResponseOutT", covariant=True)
ResponseInT = TypeVar("ResponseInT", contravariant=True)

_LOOK_AGAIN_S = 60.0


class Party(Protocol[RequestOutT, ResponseInT]):
    """What is said in a stream, from our side. Of calls, threads and back-off it knows nothing."""

    def wanted_in(self) -> float | None:
        """Seconds until a stream is wanted; 0: now; None: when woken."""

    def requests(self) -> Iterator[RequestOutT]:
        """What to say in the stream that now begins; iterated in gRPC's thread, it ends after `closed`."""

    def received(self, response: ResponseInT) -> bool:
        """Take what was said; True where the stream does its work, so that back-off begins anew."""

    def closed(self, error: grpc.RpcError | None) -> float:
        """The stream is over, whatever it was; seconds to wait before the next one, at least."""


class Call(Protocol[ResponseOutT]):
    """A call under way, as gRPC gives it."""

    def __iter__(self) -> Iterator[ResponseOutT]: ...

    def cancel(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How a stream is doing.

    Attributes:
        connected: the present stream does its work.
        streams: that were opened since the start.
        failures: streams that ended in an error.
        trouble: the latest error, for people; empty after a stream did its work.
    """

    connected: bool
    streams: int
    failures: int
    trouble: str


class StreamThread(Generic[RequestT, ResponseT]):
    """Keeps a party's stream open while it is wanted, with back-off between tries and a deadline on each."""

    def __init__(
        self,
        name: str,
        call: Callable[[Iterator[RequestT], float], Call[ResponseT]],
        party: Party[RequestT, ResponseT],
        *,
        deadline_s: float,
        backoff: BackoffOptions | None = None,
    ) -> None:
        """Make ready; nothing runs before `start`.

        Args:
            name: of the thread, and in logs.
            call: opens a stream, from the requests and the deadline in seconds.
            party: what is said in it.
            deadline_s: a stream that lasts longer is cut.
            backoff: between tries.
        """
        self._name = name
        self._open = call
        self._party = party
        self._deadline_s = deadline_s
        self._backoff = Backoff(backoff)
        self._lock = threading.Lock()
        self._call: Call[ResponseT] | None = None
        self._connected = False
        self._streams = self._failures = 0
        self._trouble = self._reason = ""
        self._troubles, self._recoveries = Repeated(_log, logging.WARNING), Repeated(_log, logging.INFO)
        self._defects = Repeated(_log, logging.ERROR)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Ask the party again whether a stream is wanted."""
        self._wake.set()

    def cancel(self, reason: str = "") -> None:
        """Cut the present stream, if there is one; `reason` is its trouble, for people."""
        with self._lock:
            self._reason = reason
            if self._call is not None:
                self._call.cancel()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """Cut the stream and end the thread; False where it has not ended in time. May be called twice."""
        self._stopping.set()
        self._wake.set()
        self.cancel()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def status(self) -> StreamStatus:
        """A consistent reading."""
        with self._lock:
            return StreamStatus(self._connected, self._streams, self._failures, self._trouble)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                pause_s = self._step()
            except Exception:  # noqa: BLE001  # a thread's top
                if self._stopping.is_set():  # the channel was closed under it
                    return
                # A defect in the party must not end the vehicle's uploads for good.
                self._defects.log("%s: a defect; it goes on after a pause", self._name, exc_info=True)
                pause_s = self._backoff.next_s()
            self._stopping.wait(pause_s)

    def _step(self) -> float:
        """Wait until a stream is wanted, or run one; seconds to pause after it."""
        self._wake.clear()
        wanted_s = self._party.wanted_in()
        if wanted_s is None or wanted_s > 0:
            self._wake.wait(_LOOK_AGAIN_S if wanted_s is None else min(wanted_s, _LOOK_AGAIN_S))
            return 0.0
        worked, error = False, None
        call = self._open(self._party.requests(), self._deadline_s)
        try:
            with self._lock:
                self._call, self._reason = call, ""
                self._streams += 1
            if self._stopping.is_set():
                call.cancel()
            for response in call:
                if self._party.received(response) and not worked:
                    worked = True
                    self._works()
        except grpc.RpcError as raised:
            error = raised
        finally:
            call.cancel()  # where the party failed; a call that is over does not mind
            with self._lock:
                self._call, self._connected = None, False
            at_least_s = self._party.closed(error)
        if error is not None and not self._stopping.is_set():
            self._failed(error)
        # After a good end too: a cloud that welcomes and hangs up must not be asked in a tight loop.
        own_s = self._backoff.options.initial_s if worked and error is None else self._backoff.next_s()
        return max(at_least_s, own_s)

    def _works(self) -> None:
        self._backoff.reset()
        with self._lock:
            self._connected, trouble, self._trouble = True, self._trouble, ""
        if trouble:
            self._recoveries.log("%s: connected again", self._name)

    def _failed(self, error: grpc.RpcError) -> None:
        with self._lock:
            trouble = self._reason or explain(error)
            self._failures += 1
            new, self._trouble = trouble != self._trouble, trouble
        # A cloud that is away fails at every try: one line for each kind of trouble. One that comes and goes
        # has one a minute.
        if new:
            self._troubles.log("%s: %s", self._name, trouble, key=trouble)
        else:
            _log.debug("%s: %s", self._name, trouble)
