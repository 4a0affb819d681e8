"""Who is calling: the vehicle that the verified certificate names, if it is enrolled and not revoked."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from sqlalchemy import select

from cloud.fleet.pki import fingerprint, vehicle_of_uri
from cloud.store import Store
from cloud.store.columns import utc_now
from cloud.store.models import Certificate, Vehicle


class Standing(enum.Enum):
    """What a caller is here."""

    ENROLLED = "enrolled"
    UNKNOWN = "not enrolled here"
    REVOKED = "revoked"
    ENDED = "the certificate has ended"  # on a connection that is older than its end


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        vehicle: its name; empty where the certificate names none.
        standing: what it is here.
        peer: its network address, for people.
    """

    vehicle: str
    standing: Standing
    peer: str


class Admission:
    """Looks callers up in the database. TLS has verified their certificates before."""

    def __init__(self, store: Store) -> None:
        """Take the database of vehicles and certificates."""
        self._store = store

    async def caller(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Tell who calls."""
        vehicle, certificate = _named(context.auth_context())
        standing = Standing.UNKNOWN
        if vehicle and certificate:
            standing = await asyncio.to_thread(self._standing, vehicle, certificate)
        return Caller(vehicle, standing, context.peer())

    async def vehicle(self, context: grpc.aio.ServicerContext[Any, Any]) -> str:
        """Give the vehicle's name; a caller that is not served ends here, with PERMISSION_DENIED."""
        caller = await self.caller(context)
        if caller.standing is not Standing.ENROLLED:
            await deny(context, caller.standing)
        return caller.vehicle

    def _standing(self, vehicle: str, certificate: bytes) -> Standing:
        query = (
            select(Vehicle.revoked, Certificate.revoked, Certificate.not_after)
            .join(Certificate, Certificate.vehicle == Vehicle.name)
            .where(Vehicle.name == vehicle, Certificate.sha256 == fingerprint(certificate))
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
