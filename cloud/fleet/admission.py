"""Who is calling: the vehicle that the verified certificate names, if it is enrolled and not revoked."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from sqlalchemy import select

from cloud.fleet.pki import fingerprint, vehicle_of_uri
from cloud.fleet.sessions import Session, Sessions
from cloud.store import Store
from cloud.store.columns import utc_now
from cloud.store.models import Certificate, Vehicle
from protos.handshake import INSTANCE_METADATA

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


@dataclass(frozen=True, slots=True)
class Guest:
    """A vehicle whose call is served."""

    caller: Caller
    sessions: Sessions

    @property
    def vehicle(self) -> str:
        """Its name."""
        return self.caller.vehicle

    def is_welcome(self) -> bool:
        """Tell whether it is, still: no other instance of it is connected, also since the call began."""
        caller = self.caller
        return self.sessions.admits(caller.vehicle, caller.instance_id, caller.peer, peer=caller.peer)


class Admission:
    """Looks callers up in the database. TLS has verified their certificates before."""

    def __init__(self, store: Store, sessions: Sessions) -> None:
        """Take the database of vehicles and certificates, and which instances are connected."""
        self._store = store
        self._sessions = sessions

    async def caller(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Tell who calls."""
        vehicle, certificate = _named(context.auth_context())
        standing, sha256 = Standing.UNKNOWN, ""
        if vehicle and certificate:
            sha256 = fingerprint(certificate)
            standing = await asyncio.to_thread(self._standing, vehicle, sha256)
        return Caller(vehicle, standing, context.peer(), sha256, _instance(context.invocation_metadata()))

    async def guest(self, context: grpc.aio.ServicerContext[Any, Any]) -> Guest:
        """Tell whose call is served; one that is not ends here, with PERMISSION_DENIED.

        So does one under the identity of a vehicle of which another instance is connected: see `Sessions`.
        """
        caller = await self.caller(context)
        if caller.standing is not Standing.ENROLLED:
            await deny(context, caller.standing)
        other = await self.rival(caller.vehicle, caller.instance_id, caller.peer)
        if other is not None:
            other.meets(caller.instance_id, caller.peer)
            await deny(context, Standing.IN_USE)
        return Guest(caller, self._sessions)

    async def rival(self, vehicle: str, instance_id: str, peer: str | None) -> Session | None:
        """Give the session of another instance, as `Sessions.other`; one whose certificate ended is ended."""
        while (other := self._sessions.other(vehicle, instance_id, peer)) is not None:
            standing = await asyncio.to_thread(self._standing, vehicle, other.certificate)
            if standing is Standing.ENROLLED:
                return other
            _LOG.warning("%s at %s: the certificate of its stream: %s", vehicle, other.peer, standing.value)
            self._sessions.evict(other)
        return None

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
