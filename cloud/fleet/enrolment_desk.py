"""Who is given a certificate: for a ticket's token once, and for the signature by an old key. No network.

An identity lives on one computer. When a new ticket is used, every earlier certificate of the vehicle is
revoked; when a certificate is renewed, all but the one that asked. So a copy of an old key is worth something
until the next renewal, and no longer.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import update
from sqlalchemy.orm import Session

from cloud.fleet.nonces import Nonces
from cloud.fleet.pki import Authority, PkiError, key_of_request, vehicle_of
from cloud.fleet.rate_limit import RateLimit
from cloud.fleet.session_chain import Chain
from cloud.fleet.session_records import cleared, keep_chain, was_reported
from cloud.store import Store
from cloud.store.columns import utc_now
from cloud.store.database import audit
from cloud.store.models import Certificate, EnrolmentToken, Vehicle
from protos.enrolment import renewal_text

# A vehicle that was away for longer is enrolled anew.
LONGEST_AWAY = timedelta(days=365)

_LOG = logging.getLogger(__name__)


class NotGivenError(Exception):
    """No certificate is given; the message says why, to the caller too."""

    def __init__(self, why: str, vehicle: str = "") -> None:
        """Why, and to which vehicle, where that is known."""
        super().__init__(why)
        self.vehicle = vehicle


@dataclass(frozen=True, slots=True)
class Renewal:
    """The contract's RenewRequest."""

    certificate_der: bytes
    nonce: bytes
    csr_der: bytes
    signature: bytes
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """A certificate, DER, and the vehicle that it is for."""

    vehicle: str
    certificate_der: bytes


class EnrolmentDesk:
    """Gives certificates, and writes down what was given and what was not. For one thread at a time."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        lifetime: timedelta,
        *,
        now: Callable[[], datetime] = utc_now,
        admits: Callable[[str, str, str], bool] = lambda vehicle, instance_id, peer: True,
    ) -> None:
        """Take the database, who signs, how long certificates hold, the clock, and who is connected.

        `admits` tells of a vehicle, an instance of it and where that came from, whether no other instance is
        connected; see `Sessions.admits`.
        """
        self._store = store
        self._authority = authority
        self._lifetime = lifetime
        self._now = now
        self._admits = admits
        self._nonces = Nonces()
        # Refusals cost rows for ever, and anybody can cause them.
        self._audited_refusals = RateLimit(0.1, 100)

    def enrol(self, token: str, csr_der: bytes, peer: str) -> Given:
        """Give the certificate that a token is good for.

        The same token with the same key is given the same again until the token ends: the vehicle may have
        lost the answer.

        Args:
            token: of a ticket.
            csr_der: the vehicle's request.
            peer: where it came from, for people.

        Raises:
            NotGivenError: nothing is given for it.
        """
        try:
            return self._enrol(token, csr_der, peer)
        except NotGivenError as refusal:
            self._refused("enrolment refused", refusal, peer)
            raise

    def begin_renewal(self) -> bytes:
        """Give a nonce."""
        return self._nonces.make()

    def renew(self, renewal: Renewal, peer: str) -> Given:
        """Give a vehicle a new certificate, for the signature by the key of its old one.

        Raises:
            NotGivenError: nothing is given for it.
        """
        try:
            return self._renew(renewal, peer)
        except NotGivenError as refusal:
            self._refused("renewal refused", refusal, peer)
            raise

    def _enrol(self, token: str, csr_der: bytes, peer: str) -> Given:
        key = _key(csr_der)
        key_sha256 = _key_sha256(key)
        now = self._now()
        with self._store.writing() as session:
            row = session.get(EnrolmentToken, token_sha256(token), with_for_update=True)
            if row is None:
                raise NotGivenError("there is no such ticket here")
            vehicle = _served(session, row.vehicle)
            if now >= row.expires:
                raise NotGivenError(f"the ticket ended on {row.expires:%Y-%m-%d %H:%MZ}", vehicle.name)
            if row.certificate is not None:
                if row.key_sha256 != key_sha256:
                    raise NotGivenError("the ticket was used already, with another key", vehicle.name)
                _require_in_force(session, row.certificate, vehicle.name)
                return Given(vehicle.name, row.certificate)
            self._end_others(session, vehicle.name, now, keep=())
            certificate = self._certify(session, vehicle.name, key, now)
            row.certificate = certificate.public_bytes(Encoding.DER)
            row.used = vehicle.enrolled = now
            row.key_sha256 = key_sha256
            keep_chain(vehicle, Chain())
            vehicle.fleet = row.fleet
            facts = {"certificate": _sha256(certificate), "fleet": row.fleet}
            audit(session, "server", "enrolled", vehicle.name, peer=peer, **facts)
            return Given(vehicle.name, row.certificate)

    def _renew(self, renewal: Renewal, peer: str) -> Given:
        old, old_key = self._old(renewal.certificate_der)
        key = _key(renewal.csr_der)
        text = renewal_text(renewal.nonce, renewal.certificate_der, renewal.csr_der)
        try:
            old_key.verify(renewal.signature, text, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise NotGivenError("the request is not signed by the key of that certificate") from None
        if not self._nonces.spend(renewal.nonce):
            raise NotGivenError("the nonce is too old, was used, or is not from here: begin anew")
        now = self._now()
        with self._store.writing() as session:
            row = session.get(Certificate, _sha256(old), with_for_update=True)
            if row is None or row.vehicle != vehicle_of(old):
                raise NotGivenError("that certificate is not known here")
            vehicle = _served(session, row.vehicle)
            if row.revoked is not None:
                raise NotGivenError("that certificate was revoked, or replaced by a newer one", vehicle.name)
            if now >= row.not_after + LONGEST_AWAY:
                raise NotGivenError(
                    f"that certificate ended on {row.not_after:%Y-%m-%d}, more than a year ago: "
                    "enrol the vehicle anew",
                    vehicle.name,
                )
            if not self._admits(vehicle.name, renewal.instance_id, peer):
                raise NotGivenError("another instance is connected under this identity", vehicle.name)
            if was_reported(session, vehicle, cleared(vehicle)):
                raise NotGivenError(
                    "this identity was used on two computers, or lost its state: enrol the vehicle anew, or"
                    f" vouch for it: traffic-vision cloud vehicles accept {vehicle.name}",
                    vehicle.name,
                )
            self._end_others(session, vehicle.name, now, keep=(row.sha256,))
            certificate = self._certify(session, vehicle.name, key, now)
            audit(
                session,
                "server",
                "renewed",
                vehicle.name,
                certificate=_sha256(certificate),
                replaces=row.sha256,
                peer=peer,
            )
        return Given(vehicle.name, certificate.public_bytes(Encoding.DER))

    def _old(self, der: bytes) -> tuple[x509.Certificate, ec.EllipticCurvePublicKey]:
        try:
            old = x509.load_der_x509_certificate(der)
            key = old.public_key()
        except (ValueError, TypeError):
            raise NotGivenError("no certificate that can be read") from None
        if not self._authority.has_signed(old) or not isinstance(key, ec.EllipticCurvePublicKey):
            raise NotGivenError("that certificate is not of this authority")
        return old, key

    def _certify(
        self, session: Session, vehicle: str, key: ec.EllipticCurvePublicKey, now: datetime
    ) -> x509.Certificate:
        certificate = self._authority.vehicle_certificate(key, vehicle, now, self._lifetime)
        session.add(
            Certificate(
                sha256=_sha256(certificate),
                vehicle=vehicle,
                serial=f"{certificate.serial_number:x}",
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
                issued=now,
            )
        )
        return certificate

    @staticmethod
    def _end_others(session: Session, vehicle: str, now: datetime, keep: tuple[str, ...]) -> None:
        session.execute(
            update(Certificate)
            .where(
                Certificate.vehicle == vehicle,
                Certificate.revoked.is_(None),
                Certificate.sha256.not_in(keep),
            )
            .values(revoked=now)
        )

    def _refused(self, action: str, refusal: NotGivenError, peer: str) -> None:
        _LOG.warning("%s: %s: %s: %s", peer, refusal.vehicle or "unknown", action, refusal)
        if self._audited_refusals.take():
            with self._store.writing() as session:
                audit(session, "server", action, refusal.vehicle or "unknown", reason=str(refusal), peer=peer)


def token_sha256(token: str) -> str:
    """Give what a token is known by here. It is random enough that no salt is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def _served(session: Session, name: str) -> Vehicle:
    vehicle = session.get(Vehicle, name, with_for_update=True)
    if vehicle is None:
        raise NotGivenError("there is no such vehicle here")
    if vehicle.revoked is not None:
        raise NotGivenError(f"{name} was revoked", name)
    return vehicle


def _require_in_force(session: Session, certificate_der: bytes, vehicle: str) -> None:
    given = session.get(Certificate, _sha256(x509.load_der_x509_certificate(certificate_der)))
    if given is None or given.revoked is not None:
        raise NotGivenError("the ticket was used already, and its certificate was replaced since", vehicle)


def _key(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return key_of_request(csr_der)
    except PkiError as error:
        raise NotGivenError(str(error)) from None


def _key_sha256(key: ec.EllipticCurvePublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _sha256(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
