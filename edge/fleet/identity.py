"""Who this vehicle is towards its cloud: a private key and its certificate, in one file.

One file, because they change together: a rename puts both in place, and a power cut leaves the old pair or
the new one, never a key with another's certificate. The key is made here and never leaves the vehicle.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.certificates import CertificateError, parse_certificate, read_pem, require_pair
from edge.files import atomic_write
from protos.enrolment import renewal_text
from protos.traffic_vision.v1.enrolment_pb2 import RenewRequest

IDENTITY_FILE = "client.pem"
PRIVATE_MODE = 0o600
# A vehicle that was away for longer is enrolled anew: its cloud renews no older certificate.
LONGEST_AWAY = timedelta(days=365)

_RENEWED_AFTER = 2 / 3  # of a certificate's life
_LIFE_UNSAID = timedelta(days=30)  # of a certificate that does not say since when it is used


@dataclass(frozen=True, slots=True)
class Identity:
    """A key on P-256 and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def ends(self) -> datetime:
        """When the certificate ends, UTC."""
        return self.certificate.not_valid_after_utc

    @property
    def since(self) -> datetime:
        """Since when the key is used, UTC; the certificate itself begins in 2000."""
        return used_since(self.certificate)


def used_since(certificate: x509.Certificate) -> datetime:
    """Since when a certificate is used, UTC: by its extension (RFC 3280, section 4.2.1.4), or a guess."""
    try:
        period = certificate.extensions.get_extension_for_class(x509.PrivateKeyUsagePeriod).value
    except (x509.ExtensionNotFound, ValueError):
        return certificate.not_valid_after_utc - _LIFE_UNSAID
    if period.not_before is None:
        return certificate.not_valid_after_utc - _LIFE_UNSAID
    return period.not_before.replace(tzinfo=certificate.not_valid_after_utc.tzinfo)


def renewal_due(certificate: x509.Certificate, jitter: float = 0.0) -> datetime:
    """When a certificate should be renewed, UTC: after two thirds of its life.

    Args:
        certificate: the vehicle's.
        jitter: of its life, added; each vehicle has its own, so that a fleet does not march.
    """
    since, ends = used_since(certificate), certificate.not_valid_after_utc
    return since + (ends - since) * (_RENEWED_AFTER + jitter)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def request_for(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request for a certificate, PKCS #10 in DER, signed by its key. Who we are, the cloud knows."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def sign_renewal(identity: Identity, nonce: bytes, csr_der: bytes) -> bytes:
    """The old key's signature over a request for the new one, DER."""
    old_der = identity.certificate.public_bytes(serialization.Encoding.DER)
    return identity.key.sign(renewal_text(nonce, old_der, csr_der), ec.ECDSA(hashes.SHA256()))


def renewal_request(
    identity: Identity, key: ec.EllipticCurvePrivateKey, nonce: bytes, instance_id: str
) -> RenewRequest:
    """Ask for a certificate of a new key, signed by the old one.

    Args:
        identity: whose certificate is renewed.
        key: the new one.
        nonce: that the cloud gave for it.
        instance_id: of this run of the daemon.
    """
    csr = request_for(key)
    return RenewRequest(
        certificate_der=identity.certificate.public_bytes(serialization.Encoding.DER),
        nonce=nonce,
        csr_der=csr,
        signature=sign_renewal(identity, nonce, csr),
        instance_id=instance_id,
    )


def accept(key: ec.EllipticCurvePrivateKey, certificate_der: bytes, authority: x509.Certificate) -> Identity:
    """Take a certificate that the cloud gave for a key of ours.

    Raises:
        CertificateError: it is not for this key, or not of this authority.
    """
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        certificate.verify_directly_issued_by(authority)
        theirs = certificate.public_key()
    except (ValueError, TypeError, InvalidSignature):
        raise CertificateError("what the cloud gave is no certificate of its own authority") from None
    if theirs != key.public_key():
        raise CertificateError("what the cloud gave is a certificate for another key")
    return Identity(key, certificate)


def read_identity(path: Path) -> Identity:
    """The pair in a file.

    Raises:
        CertificateError: it cannot be read, or its parts do not belong together.
    """
    data = read_pem(path)
    certificate = require_pair(path, data, path, data)
    return Identity(read_key(path, data), certificate)


def write_identity(path: Path, identity: Identity) -> int:
    """Put the pair in place, as a whole; gives its size in bytes.

    Raises:
        OSError: it cannot be written; the pair before stands.
    """
    data = key_to_pem(identity.key) + identity.certificate.public_bytes(serialization.Encoding.PEM)
    atomic_write(path, data, mode=PRIVATE_MODE)
    give_to_owner_of(path.parent, path)
    return len(data)


def give_to_owner_of(folder: Path, path: Path) -> None:
    """Written by root, a file in the service's folder is the service's, which could not read it otherwise."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def read_key(path: Path, data: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """The private key in a PEM file.

    Raises:
        CertificateError: there is none, or not one on an elliptic curve.
    """
    try:
        key = serialization.load_pem_private_key(read_pem(path) if data is None else data, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{str(path)!r} holds no private key in PEM without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"the key in {str(path)!r} is not one on an elliptic curve")
    return key


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8 in PEM, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def authority_of(path: Path) -> x509.Certificate:
    """The authority in a PEM file.

    Raises:
        CertificateError: there is none.
    """
    return parse_certificate(path, read_pem(path))
