"""Authorities, and certificates that they sign, for tests: real ones, made on the spot (P-256)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_NAME = "cloud.test"
_FROM = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)
_TO = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)


@dataclass(frozen=True)
class Issued:
    """PEM bytes."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Put `NAME.crt` and `NAME.key` into a folder."""
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(self.certificate)
        key.write_bytes(self.key)
        return certificate, key


class Authority:
    """A certificate authority of one level."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key(), _TO)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = _pem(builder.sign(self._key, hashes.SHA256()))

    def server(self, name: str = SERVER_NAME, until: datetime.datetime = _TO) -> Issued:
        """A server's certificate; `name` is its only name."""
        return self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, until)

    def vehicle(self, name: str) -> Issued:
        """A vehicle's certificate."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, _TO)

    def sign(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        since: datetime.datetime,
        until: datetime.datetime,
    ) -> x509.Certificate:
        """A vehicle's certificate for a key of its own, as a cloud signs it: in use since then."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        period = x509.PrivateKeyUsagePeriod(not_before=since, not_after=None)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._builder(subject, key, until).add_extension(period, critical=False)
        return builder.add_extension(usage, critical=False).sign(self._key, hashes.SHA256())

    def _issue(self, name: str, usage: x509.ObjectIdentifier, until: datetime.datetime) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key(), until)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(names, critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Issued(_pem(builder.sign(self._key, hashes.SHA256())), private)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FROM)
            .not_valid_after(until)
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
