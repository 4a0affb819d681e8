"""Certificates: one authority, the server's certificate, one for each vehicle. EC P-256, X.509 v3.

Certificates begin in 2000: a board without a clock battery wakes up in the past and must connect all the
same. Who a vehicle is stands in its certificate as an URI (a SPIFFE ID, https://spiffe.io): a server's
certificate of the same authority has none, and is no vehicle's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.fleet.private_files import write_private_file
from edge.errors import TrafficVisionError

NOT_BEFORE = datetime(2000, 1, 1, tzinfo=timezone.utc)
AUTHORITY_LIFETIME = timedelta(days=30 * 365)
SERVER_LIFETIME = timedelta(days=5 * 365)
# What is left of the server's when a new certificate takes its place.
RENEW_BEFORE = timedelta(days=60)
MAX_REQUEST_BYTES = 4096
ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1")

_VEHICLE_URI = "spiffe://traffic-vision/vehicle/"
_VEHICLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class PkiError(TrafficVisionError):
    """A key or certificate is missing or cannot be used."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its private key, both PEM."""

    certificate: bytes
    key: bytes


def check_vehicle_name(name: str) -> str:
    """Give the name back if a vehicle can have it: it becomes a folder, and part of an URI.

    Raises:
        PkiError: it can't.
    """
    if not _VEHICLE_NAME.fullmatch(name):
        raise PkiError(
            f"{name!r} is no vehicle's name: 1 to 63 letters, digits, - and _, a letter or digit first"
        )
    return name


def vehicle_of_uri(uri: str) -> str | None:
    """Give the vehicle's name in a certificate's URI, None where it names none."""
    name = uri.removeprefix(_VEHICLE_URI)
    return name if uri.startswith(_VEHICLE_URI) and _VEHICLE_NAME.fullmatch(name) else None


def fingerprint(certificate: bytes) -> str:
    """Give the SHA-256 of a PEM certificate's DER form, hex: its name in the table of certificates."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()


class Authority:
    """The one who signs. Its key stays in the cloud's folder, its certificate goes onto each vehicle."""

    def __init__(self, pair: KeyPair) -> None:
        """Take the authority's certificate and key."""
        self.certificate = pair.certificate
        self._issuer = x509.load_pem_x509_certificate(pair.certificate)
        self._key = _load_key(pair.key)

    @classmethod
    def open(cls, folder: Path) -> Authority:
        """Read `ca.crt` and `ca.key`.

        Raises:
            PkiError: one is missing or broken.
        """
        return cls(read_pair(folder, "ca"))

    @classmethod
    def make(cls, folder: Path) -> Authority:
        """Read the authority in `folder`, or make one where there is none. A key that is there is kept."""
        key = _key_in(folder / "ca.key")
        path = folder / "ca.crt"
        if not path.exists():
            name = _name("Traffic Vision authority")
            builder = (
                _builder(name, name, key.public_key(), datetime.now(timezone.utc) + AUTHORITY_LIFETIME)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_usage(signs_certificates=True), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            )
            write_private_file(path, _pem(builder.sign(key, hashes.SHA256())), mode=0o644)
        return cls.open(folder)

    def server_pair(self, folder: Path, names: Sequence[str]) -> KeyPair:
        """Make `server.crt` for these hosts and the local ones, with `server.key`.

        What is there is kept while it names all of them, is this authority's, and is far from its end; the
        key is kept in any case.
        """
        wanted = {*ALWAYS_NAMED, *names}
        key = _key_in(folder / "server.key")
        path = folder / "server.crt"
        if not (path.exists() and self._still_good(path.read_bytes(), key) and _hosts(path) == wanted):
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in sorted(wanted)])
            ends = datetime.now(timezone.utc) + SERVER_LIFETIME
            builder = self._builder(
                key.public_key(), "Traffic Vision cloud", alternatives, ends, client=False
            )
            write_private_file(path, _pem(builder.sign(self._key, hashes.SHA256())), mode=0o644)
        return read_pair(folder, "server")

    def vehicle_certificate(
        self, key: ec.EllipticCurvePublicKey, vehicle: str, now: datetime, lifetime: timedelta
    ) -> x509.Certificate:
        """Sign a vehicle's certificate.

        It begins in 2000 as all do; since when its key is in use stands in the extension for that (RFC 3280,
        section 4.2.1.4), so that the vehicle can tell how much of its life is over.

        Args:
            key: the vehicle's own.
            vehicle: its name.
            now: by the cloud's clock.
            lifetime: until its end.

        Raises:
            PkiError: the name cannot be a vehicle's.
        """
        check_vehicle_name(vehicle)
        uri = x509.UniformResourceIdentifier(_VEHICLE_URI + vehicle)
        builder = self._builder(key, vehicle, x509.SubjectAlternativeName([uri]), now + lifetime, client=True)
        since = x509.PrivateKeyUsagePeriod(not_before=now.replace(microsecond=0), not_after=None)
        return builder.add_extension(since, critical=False).sign(self._key, hashes.SHA256())

    def has_signed(self, certificate: x509.Certificate) -> bool:
        """Tell whether a certificate is this authority's; its time is not looked at."""
        try:
            certificate.verify_directly_issued_by(self._issuer)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    def _builder(
        self,
        key: ec.EllipticCurvePublicKey,
        subject: str,
        alternatives: x509.SubjectAlternativeName,
        not_after: datetime,
        *,
        client: bool,
    ) -> x509.CertificateBuilder:
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        return (
            _builder(_name(subject), self._issuer.subject, key, not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(alternatives, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )

    def _still_good(self, pem: bytes, key: ec.EllipticCurvePrivateKey) -> bool:
        certificate = x509.load_pem_x509_certificate(pem)
        left = certificate.not_valid_after_utc - datetime.now(timezone.utc)
        return (
            self.has_signed(certificate)
            and certificate.public_key() == key.public_key()
            and left > RENEW_BEFORE
        )


def key_of_request(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    """Give the key that a certificate is asked for; the names in the request are not looked at.

    Raises:
        PkiError: it is no request that its own key has signed, or the key is not on P-256.
    """
    if len(csr_der) > MAX_REQUEST_BYTES:
        raise PkiError(f"a request of {len(csr_der)} bytes, at most {MAX_REQUEST_BYTES} are taken")
    try:
        request = x509.load_der_x509_csr(csr_der)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise PkiError("no PKCS #10 request that can be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PkiError("the key must be one on the curve P-256")
    if not signed:
        raise PkiError("the request is not signed by its own key")
    return key


def vehicle_of(certificate: x509.Certificate) -> str | None:
    """Give the vehicle that a certificate names, None where it names none, or more than one."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return vehicle_of_uri(uris[0]) if len(uris) == 1 else None


def read_pair(folder: Path, name: str) -> KeyPair:
    """Read `NAME.crt` and `NAME.key`.

    Raises:
        PkiError: one is missing or broken, or they do not belong together.
    """
    try:
        pair = KeyPair((folder / f"{name}.crt").read_bytes(), (folder / f"{name}.key").read_bytes())
    except OSError as error:
        raise PkiError(
            f"{error.filename}: cannot be read ({error.strerror}); `traffic-vision cloud init` makes it"
        ) from None
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
    except ValueError:
        raise PkiError(f"{folder / name}.crt is no PEM certificate") from None
    if certificate.public_key() != _load_key(pair.key, folder / f"{name}.key").public_key():
        raise PkiError(f"{folder / name}.crt is not the certificate of {name}.key")
    return pair


def _key_in(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the key at `path`, or make one there: the first to write wins, and nobody replaces it."""
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private_file(path, pem, replace=False)
    return _load_key(path.read_bytes(), path)


def _load_key(pem: bytes, path: Path | None = None) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise PkiError(f"{path or 'a key'} is no private key in PEM form without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path or 'a key'} is not an elliptic-curve key")
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(not_after)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts(path: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    }


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
