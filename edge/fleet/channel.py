"""The vehicle's one connection to its cloud: gRPC with mutual TLS, and what its errors mean."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import grpc
from cryptography.exceptions import InvalidSignature

from edge.backoff import BackoffOptions
from edge.certificates import CertificateError, parse_certificate, read_pem, require_pair
from edge.errors import TrafficVisionError

_log = logging.getLogger(__name__)

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_KEEPALIVE_TIMEOUT_S = 10.0
_ENROLMENT_LIMIT_BYTES = 1_000_000
_DETAIL_LIMIT = 300  # characters of an error that are shown


class ChannelError(TrafficVisionError):
    """A connection that cannot be set up from what was given; the message names it."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """Where the cloud is, and who we are.

    Attributes:
        address: HOST:PORT.
        ca: PEM file of the authority that the cloud's certificate must come from.
        certificate, key: PEM files of the vehicle's own certificate (its chain may follow) and private key.
        server_name: the name that the cloud's certificate must have; None: the address's host.
        keepalive_s: a connection that is silent for so long is asked whether it lives. The server must allow
            it (`grpc.http2.min_ping_interval_without_data_ms` at most so long), or it hangs up.
        backoff: between tries to connect.
    """

    address: str
    ca: Path
    certificate: Path
    key: Path
    server_name: str | None = None
    keepalive_s: float = 60.0
    backoff: BackoffOptions = field(default_factory=BackoffOptions)


def open_channel(options: ChannelOptions) -> grpc.Channel:
    """A channel that connects when it is first used, and again by itself. Whoever opens it closes it.

    Raises:
        ChannelError: the address is none, a file is missing or not what it should be, or the key is not
            the certificate's.
    """
    _require_address(options.address)
    try:
        ca, certificate, key = (read_pem(path) for path in (options.ca, options.certificate, options.key))
        _check(options, ca, certificate, key)
    except CertificateError as error:
        raise ChannelError(str(error)) from error
    settings: list[tuple[str, int | str]] = [
        ("grpc.keepalive_time_ms", round(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(_KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", round(options.backoff.initial_s * 1000)),
        ("grpc.max_reconnect_backoff_ms", round(options.backoff.limit_s * 1000)),
    ]
    if options.server_name is not None:
        settings.append(("grpc.ssl_target_name_override", options.server_name))
    return grpc.secure_channel(options.address, grpc.ssl_channel_credentials(ca, key, certificate), settings)


def open_enrolment_channel(address: str, authority_pem: bytes) -> grpc.Channel:
    """A channel without a certificate of our own, to where one is given. Whoever opens it closes it.

    Args:
        address: HOST:PORT.
        authority_pem: the authority that the cloud's certificate must come from.

    Raises:
        ChannelError: the address is none.
    """
    _require_address(address)
    settings = [
        ("grpc.max_receive_message_length", _ENROLMENT_LIMIT_BYTES),
        ("grpc.enable_retries", 0),
        # Channels to one address otherwise share their connection, and its pause after a failure.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority_pem), settings)


def explain(error: grpc.RpcError) -> str:
    """One line for people: what went wrong between here and the cloud, and what to look at."""
    if not isinstance(error, grpc.Call):
        return str(error)[:_DETAIL_LIMIT]
    details = " ".join((error.details() or "").split())
    if "certificate has expired" in details:
        return "the cloud's certificate is out of date, or this vehicle's clock is wrong"
    if "certificate is not yet valid" in details:
        # TLS asks the system's clock, whatever we know; certificates of `cloud init` begin in 2000.
        return f"the cloud's certificate is not valid yet: this vehicle's clock is wrong ({_now()})"
    # The second: an authority that was made anew under its old name.
    if "CERTIFICATE_VERIFY_FAILED" in details or "certificate signature failure" in details:
        return "the cloud's certificate is not from the authority that this vehicle trusts (ca)"
    if "Hostname Verification Check failed" in details:
        return "the cloud's certificate is for another name: check the address, or set server_name"
    if "Channel closed" in details:
        return "this vehicle closed the connection"
    if "Connection refused" in details:
        return "nothing answers at the cloud's address"
    if "failed to connect" in details and ("Socket closed" in details or "Connection reset" in details):
        return "the cloud hung up at once: it does not accept this vehicle's certificate, or it is stopping"
    return f"{error.code().name}: {details}"[:_DETAIL_LIMIT]


def _now() -> str:
    return f"{datetime.now(timezone.utc):%Y-%m-%d %H:%MZ}"


def _require_address(address: str) -> None:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ChannelError(f"the cloud's address must be HOST:PORT, not {address!r}")


def _check(options: ChannelOptions, ca: bytes, certificate: bytes, key: bytes) -> None:
    """gRPC would take any bytes, and fail at each connection with a message that names no file."""
    authority = parse_certificate(options.ca, ca)
    own = require_pair(options.certificate, certificate, options.key, key)
    try:
        own.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        # Not an error: the cloud may trust several authorities, and an intermediate one may stand between.
        text = "the certificate %s does not come from the authority in %s: the cloud may refuse it"
        _log.warning(text, options.certificate, options.ca)
