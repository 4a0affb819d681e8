"""Certificates and keys in PEM files, checked before gRPC takes them: it takes any bytes, and fails later.

Every refusal names the file.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge.errors import TrafficVisionError


class CertificateError(TrafficVisionError):
    """A file is not what it should be; the message names it."""


def read_pem(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        CertificateError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def parse_certificate(path: Path, data: bytes) -> x509.Certificate:
    """The first certificate of a PEM file.

    Raises:
        CertificateError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise CertificateError(f"{str(path)!r} holds no certificate in PEM") from error


def require_pair(cert: Path, cert_data: bytes, key: Path, key_data: bytes) -> x509.Certificate:
    """Check that a key is that of a certificate; gives the certificate.

    Raises:
        CertificateError: it is not, or one of them is none.
    """
    own = parse_certificate(cert, cert_data)
    try:
        private = serialization.load_pem_private_key(key_data, None)
    except (ValueError, TypeError) as error:
        # The error's own text may quote the file.
        raise CertificateError(f"{str(key)!r} holds no private key in PEM without a password") from error
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        raise CertificateError(f"the key {str(key)!r} is not that of {str(cert)!r}")
    return own
