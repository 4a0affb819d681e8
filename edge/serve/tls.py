"""TLS of the perception service: certificates from files, and renewed ones on the next connection."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import grpc

from edge.certificates import CertificateError, parse_certificate, read_pem, require_pair
from edge.config import TlsConfig
from edge.logs import Repeated

logger = logging.getLogger(__name__)

_Versions = tuple[tuple[int, int, int], ...]


def server_credentials(config: TlsConfig) -> grpc.ServerCredentials:
    """Credentials that look at the files again at each new connection.

    Files that were renewed are taken over once they fit together; until then, and where they are broken, the
    old ones go on and the log says why.

    Raises:
        CertificateError: a file is not what it should be.
    """
    files = _Files(config)
    return grpc.dynamic_ssl_server_credentials(
        files.load(),
        files.renewed,  # type: ignore[arg-type]  # by its documentation, None is for no change
        require_client_authentication=config.client_ca is not None,
    )


def channel_credentials(ca: Path | None, cert: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    """A client's credentials; without `ca`, the system's authorities are trusted.

    Raises:
        CertificateError: a file is not what it should be, or one of `cert` and `key` is missing.
    """
    if (cert is None) != (key is None):
        raise CertificateError("cert and key go together, and only one of them is given")
    authority = None
    if ca is not None:
        authority = read_pem(ca)
        parse_certificate(ca, authority)
    if cert is None or key is None:
        return grpc.ssl_channel_credentials(authority)
    cert_data, key_data = read_pem(cert), read_pem(key)
    require_pair(cert, cert_data, key, key_data)
    return grpc.ssl_channel_credentials(authority, key_data, cert_data)


class _Files:
    """The server's files as they were last taken over. gRPC asks from threads of its own."""

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._paths = [path for path in (config.cert, config.key, config.client_ca) if path is not None]
        self._lock = threading.Lock()
        self._taken: _Versions = ()
        self._refusals = Repeated(logger, logging.ERROR)

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Read and check all of them."""
        versions = self._versions()
        cert, key = read_pem(self._config.cert), read_pem(self._config.key)
        require_pair(self._config.cert, cert, self._config.key, key)
        authority = None
        if self._config.client_ca is not None:
            authority = read_pem(self._config.client_ca)
            parse_certificate(self._config.client_ca, authority)
        configuration = grpc.ssl_server_certificate_configuration([(key, cert)], authority)
        self._taken = versions
        return configuration

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new in the files; None where nothing is, or what is new cannot be used."""
        with self._lock:
            try:
                if self._versions() == self._taken:
                    return None
                configuration = self.load()
            except CertificateError as error:
                self._refusals.log("renewed certificates are not taken over yet: %s", error)
                return None
            logger.info("renewed certificates are taken over", extra={"event": "certificates_renewed"})
            return configuration

    def _versions(self) -> _Versions:
        try:
            stats = [path.stat() for path in self._paths]
        except OSError as error:
            raise CertificateError(f"{error.filename!r} cannot be read: {error.strerror}") from error
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
