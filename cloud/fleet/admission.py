"""Who is calling: the vehicle that the verified certificate names, if it is enrolled and not revoked.

That is asked when a call begins, and every second or so of all that are open, in one question: a stream of
hours, or a download, ends when its vehicle is revoked.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NoReturn, TypeVar

import grpc
from sqlalchemy import select

from cloud.fleet.pki import fingerprint, vehicle_of_uri
from cloud.fleet.sessions import Session, Sessions
from cloud.store import Store
from cloud.store.columns import utc_now
from cloud.store.models import Certificate, Vehicle
from protos.handshake import INSTANCE_METADATA

# Certificates in one question to the database, which takes no more variables than some thousands.
ASKED_TOGETHER = 500

_Item = TypeVar("_Item")

_LOG = logging.getLogger(__name__)


class Standing(enum.Enum):
    """What a caller is here."""

    ENROLLED = "enrolled"
    UNKNOWN = "not enrolled here"
    REVOKED = "revoked"
    IN_USE = "another instance is connected under this identity"
    ENDED = "the certificate has ended"  # on a connection that is older than its end


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        vehicle: its name; empty where the certificate names none.
        standing: what it is here.
        peer: its connection: the network address, for people too.
        certificate: SHA-256 of its certificate, hex; empty where that names no vehicle.
        instance_id: of the daemon, as the call's metadata says; empty where it says none.
    """

    vehicle: str
    standing: Standing
    peer: str
    certificate: str = ""
    instance_id: str = ""


class NotServedError(Exception):
    """The vehicle is served no more since the call began."""

    def __init__(self, standing: Standing) -> None:
        """Take what it is instead."""
        super().__init__(standing.value)
        self.standing = standing


def _future() -> asyncio.Future[Standing]:
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True, eq=False)
class Guest:
    """A vehicle whose call is served.

    Attributes:
        ended: done when it is served no more; says why.
    """

    caller: Caller
    sessions: Sessions
    ended: asyncio.Future[Standing] = field(default_factory=_future)

    @property
    def vehicle(self) -> str:
        """Its name."""
        return self.caller.vehicle

    def is_welcome(self) -> bool:
        """Tell whether it is, still: no other instance of it is connected, also since the call began."""
        caller = self.caller
        return self.sessions.admits(caller.vehicle, caller.instance_id, caller.peer, peer=caller.peer)

    async def while_welcome(self, items: AsyncIterator[_Item]) -> AsyncIterator[_Item]:
        """Pass on what comes, while it may.

        Raises:
            NotServedError: it is served no more, also while nothing comes, or another instance connected.
        """
        while True:
            coming = asyncio.ensure_future(anext(items))
            try:
                await asyncio.wait((coming, self.ended), return_when=asyncio.FIRST_COMPLETED)
                if self.ended.done():
                    raise NotServedError(self.ended.result())
                item = coming.result()
            except StopAsyncIteration:
                return
            finally:
                coming.cancel()
            if not self.is_welcome():
                raise NotServedError(Standing.IN_USE)
            yield item


class Admission:
    """Looks callers up in the database. TLS has verified their certificates before."""

    def __init__(self, store: Store, sessions: Sessions) -> None:
        """Take the database of vehicles and certificates, and which instances are connected."""
        self._store = store
        self._sessions = sessions
        self._guests: set[Guest] = set()

    async def caller(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Tell who calls."""
        vehicle, certificate = _named(context.auth_context())
        standing, sha256 = Standing.UNKNOWN, ""
        if vehicle and certificate:
            sha256 = fingerprint(certificate)
            standing = await asyncio.to_thread(self._standing, vehicle, sha256)
        return Caller(vehicle, standing, context.peer(), sha256, _instance(context.invocation_metadata()))

    @asynccontextmanager
    async def guest(self, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Guest]:
        """Tell whose call is served, while it is; one that is not, or no longer, ends with PERMISSION_DENIED.

        So does one under the identity of a vehicle of which another instance is connected: see `Sessions`.
        """
        caller = await self.caller(context)
        if caller.standing is not Standing.ENROLLED:
            await deny(context, caller.standing)
        other = await self.rival(caller.vehicle, caller.instance_id, caller.peer)
        if other is not None:
            other.meets(caller.instance_id, caller.peer)
            await deny(context, Standing.IN_USE)
        guest = Guest(caller, self._sessions)
        self._guests.add(guest)
        try:
            yield guest
        except NotServedError as refused:
            await deny(context, refused.standing)
        finally:
            self._guests.discard(guest)

    async def look_again(self) -> None:
        """End the calls and the control streams of those who are enrolled no more."""
        callers = [(guest.caller.vehicle, guest.caller.certificate) for guest in self._guests]
        streams = [(session.vehicle, session.certificate) for session in self._sessions]
        gone = await asyncio.to_thread(self._no_longer_enrolled, {*callers, *streams})
        for guest in tuple(self._guests):
            caller = guest.caller
            standing = gone.get((caller.vehicle, caller.certificate))
            if standing is not None and not guest.ended.done():
                _LOG.warning("%s at %s: its call ends: %s", caller.vehicle, caller.peer, standing.value)
                guest.ended.set_result(standing)
        for session in tuple(self._sessions):
            standing = gone.get((session.vehicle, session.certificate))
            if standing is not None:
                _LOG.warning("%s at %s: its stream ends: %s", session.vehicle, session.peer, standing.value)
                self._sessions.evict(session)

    async def rival(self, vehicle: str, instance_id: str, peer: str | None) -> Session | None:
        """Give the session of another instance, as `Sessions.other`; one whose certificate ended is ended."""
        while (other := self._sessions.other(vehicle, instance_id, peer)) is not None:
            standing = await asyncio.to_thread(self._standing, vehicle, other.certificate)
            if standing is Standing.ENROLLED:
                return other
            _LOG.warning("%s at %s: the certificate of its stream: %s", vehicle, other.peer, standing.value)
            self._sessions.evict(other)
        return None

    def _no_longer_enrolled(self, known: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Standing]:
        """Give those of the vehicles with their certificates that are not, and what they are instead."""
        certificates = iter({certificate for _, certificate in known})
        good: set[tuple[str, str]] = set()
        with self._store.reading() as session:
            while some := list(islice(certificates, ASKED_TOGETHER)):
                query = (
                    select(Vehicle.name, Certificate.sha256)
                    .join(Certificate, Certificate.vehicle == Vehicle.name)
                    .where(Certificate.sha256.in_(some), Certificate.not_after > utc_now())
                    .where(Vehicle.revoked.is_(None), Certificate.revoked.is_(None))
                )
                good.update((name, sha256) for name, sha256 in session.execute(query))
        return {pair: self._standing(*pair) for pair in known if pair not in good}

    def _standing(self, vehicle: str, certificate: str) -> Standing:
        query = (
            select(Vehicle.revoked, Certificate.revoked, Certificate.not_after)
            .join(Certificate, Certificate.vehicle == Vehicle.name)
            .where(Vehicle.name == vehicle, Certificate.sha256 == certificate)
        )
        with self._store.reading() as session:
            found = session.execute(query).one_or_none()
        if found is None:
            return Standing.UNKNOWN
        vehicle_revoked, certificate_revoked, not_after = found
        if vehicle_revoked is not None or certificate_revoked is not None:
            return Standing.REVOKED
        return Standing.ENROLLED if utc_now() < not_after else Standing.ENDED


async def deny(context: grpc.aio.ServicerContext[Any, Any], standing: Standing) -> NoReturn:
    """End the call: this vehicle is not served."""
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, standing.value)
    raise AssertionError("abort returned")


def _named(auth: Mapping[str, Iterable[bytes]]) -> tuple[str, bytes]:
    names = [vehicle_of_uri(uri.decode(errors="replace")) for uri in auth.get("peer_spiffe_id", ())]
    certificates = list(auth.get("x509_pem_cert", ()))
    if len(names) != 1 or names[0] is None or len(certificates) != 1:
        return "", b""
    return names[0], certificates[0]


def _instance(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    named = [value for key, value in metadata or () if key == INSTANCE_METADATA]
    return named[0] if len(named) == 1 and isinstance(named[0], str) else ""
