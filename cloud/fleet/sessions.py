"""Which instance of each vehicle is connected, and who is not that one.

An identity lives on one computer. While a vehicle has a control stream, a call under its identity is its own
where it comes over the same connection, or names the same instance: the id that the daemon makes anew at each
start and tells nobody else. Everything else is a copy of the identity, or the vehicle itself after a crash
that its old connection has not told of yet. So it is refused, and reported only when the connected instance
is heard from afterwards: then there are two. Who shows the session token that follows (`session_chain`) has
the connected instance asked for a word first, and takes its place where there is none.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from cloud.fleet.vehicle_records import IdentityInUse
from protos import handshake
from protos.traffic_vision.v1 import fleet_pb2 as fleet

OUTGOING_LIMIT = 64
TOKEN_BYTES = 32
KNOCK_ID = "are-you-there"  # of the command that an instance is asked by whether it still lives
REPORT_INTERVAL_S = 60.0  # a report is a row for ever


@dataclass(slots=True, eq=False)
class Session:
    """An open control stream. What is in `outgoing` is sent; None ends the stream.

    Attributes:
        peer: the connection that it came over.
        certificate: SHA-256 of that which it came with, hex.
        token: that its Welcome gives; a secret.
        heard: set at each message.
        rival: who else came under the identity since it was last asked.
    """

    vehicle: str
    instance_id: str
    peer: str
    certificate: str
    outgoing: asyncio.Queue[fleet.ControlResponse | None] = field(
        default_factory=lambda: asyncio.Queue(OUTGOING_LIMIT)
    )
    token: bytes = field(default_factory=lambda: secrets.token_bytes(TOKEN_BYTES), repr=False)
    last_heard: float = field(default_factory=monotonic)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    assigned: fleet.Assignment | None = None  # as it was told last
    rival: IdentityInUse | None = None
    reported: float | None = None

    def offer(self, response: fleet.ControlResponse | None) -> bool:
        """Send soon, or not at all to a vehicle that takes nothing: it is told again at its next Hello."""
        try:
            self.outgoing.put_nowait(response)
        except asyncio.QueueFull:
            return False
        return True

    def end(self, response: fleet.ControlResponse | None = None) -> None:
        """End the stream, with this as the last message."""
        while not self.outgoing.empty():
            self.outgoing.get_nowait()
        if response is not None:
            self.offer(response)
        self.offer(None)

    def hears(self) -> None:
        """Note that its vehicle said something."""
        self.last_heard = monotonic()
        self.heard.set()

    async def answers(self, within_s: float) -> bool:
        """Ask its vehicle for a word, and tell whether one came in time."""
        self.heard.clear()
        command = fleet.Command(id=KNOCK_ID, status_request=fleet.StatusRequest())
        self.offer(fleet.ControlResponse(command=command))
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.heard.wait(), within_s)
        return self.heard.is_set()

    def meets(self, instance_id: str, came_from: str) -> None:
        """Note that another instance came under the same identity, to be reported if this one still lives."""
        self.rival = IdentityInUse(self.instance_id, instance_id, came_from)

    def to_report(self) -> IdentityInUse | None:
        """Give who came beside it, now that it is heard from, if that is to be written down."""
        rival, self.rival = self.rival, None
        now = monotonic()
        if rival is None or (self.reported is not None and now - self.reported < REPORT_INTERVAL_S):
            return None
        self.reported = now
        return rival


class Sessions:
    """The open control streams by vehicle. Changed on the event loop; `admits` may be asked elsewhere."""

    def __init__(self, silent_limit_s: float) -> None:
        """Take for how long a vehicle that says nothing still counts as connected."""
        self._silent_limit_s = silent_limit_s
        self._by_vehicle: dict[str, Session] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_vehicle)

    def __iter__(self) -> Iterator[Session]:
        """Each."""
        return iter(self._by_vehicle.values())

    def of(self, vehicle: str) -> Session | None:
        """Give a vehicle's; None: it is away."""
        return self._by_vehicle.get(vehicle)

    def enter(self, session: Session) -> None:
        """Put a session in the place of its vehicle."""
        self._by_vehicle[session.vehicle] = session

    def leave(self, session: Session) -> bool:
        """Take a session out, unless a newer one of the same vehicle has its place."""
        if self._by_vehicle.get(session.vehicle) is not session:
            return False
        del self._by_vehicle[session.vehicle]
        return True

    def other(self, vehicle: str, instance_id: str, peer: str | None) -> Session | None:
        """Give the session of another instance than the one that asks; None: there is none.

        Args:
            vehicle: by the caller's certificate.
            instance_id: that the caller names; empty: none.
            peer: the caller's connection; None: it proves nothing.
        """
        session = self._by_vehicle.get(vehicle)
        if session is None or instance_id == session.instance_id or peer == session.peer:
            return None
        return None if monotonic() - session.last_heard > self._silent_limit_s else session

    def admits(self, vehicle: str, instance_id: str, came_from: str, *, peer: str | None = None) -> bool:
        """Tell whether no other instance is connected (see `other`), and note who came if one is."""
        other = self.other(vehicle, instance_id, peer)
        if other is not None:
            other.meets(instance_id, came_from)
        return other is None

    def evict(self, session: Session) -> None:
        """End a session whose certificate lets nobody in any more."""
        problem = fleet.Problem(
            code=fleet.PROBLEM_CODE_REVOKED,
            detail="the certificate was revoked, or has ended",
            protocol=handshake.supported(),
        )
        session.rival = None
        session.end(fleet.ControlResponse(problem=problem))
        self.leave(session)
