"""The way to the cloud, step by step: name, TCP, TLS with the vehicle's certificate."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import replace

from edge.config import CloudConfig, EdgeConfig
from edge.doctor.finding import Finding, failure, ok, warning

_TIMEOUT_S = 5.0
_REFUSED = "the cloud refuses this vehicle's certificate: was it enrolled, or revoked?"


def cloud(config: EdgeConfig) -> list[Finding]:
    """Whether the cloud can be reached, and lets this vehicle in. The first step that fails is the last."""
    if config.cloud is None:
        return [ok("cloud", "none is configured: the vehicle runs alone")]
    host, _, port = config.cloud.address.rpartition(":")
    host = host.strip("[]")
    began = time.monotonic()
    try:
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as plain:
            where = plain.getpeername()[0]
            tcp_s = time.monotonic() - began
            found = _handshake(plain, host, config.cloud)
    except socket.gaierror as error:
        # A vehicle is out of reach now and then: the daemon waits for its cloud, and needs none to start.
        return [
            warning("cloud", f"the name {host} is not known: {error.strerror}", "check DNS and the address")
        ]
    except ssl.SSLCertVerificationError as error:
        advice = "cloud.ca must be the authority that signed the cloud's certificate; is the clock right?"
        return [failure("cloud", f"{config.cloud.address}: {error.verify_message}", advice)]
    except ssl.SSLError as error:
        return [failure("cloud", f"{config.cloud.address}: TLS: {error.reason or error}", _REFUSED)]
    except OSError as error:
        said = error.strerror or str(error) or type(error).__name__
        return [warning("cloud", f"{config.cloud.address}: {said}", "check the network and the address")]
    return [replace(found, text=f"{where} answers in {tcp_s * 1e3:.0f} ms; {found.text}")]


def _handshake(plain: socket.socket, host: str, config: CloudConfig) -> Finding:
    context = ssl.create_default_context(cafile=str(config.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(config.cert, config.key)
    with context.wrap_socket(plain, server_hostname=host) as secured:
        # In TLS 1.3 a server that refuses a client's certificate says so after the handshake; one that takes
        # it speaks HTTP/2 and sends its settings first (RFC 9113, section 3.4).
        secured.settimeout(_TIMEOUT_S)
        version = secured.version()
        try:
            first = secured.recv(1)
        except TimeoutError:
            return warning("cloud", f"{version}, and then nothing", "is it the fleet's gRPC port?")
        except (ConnectionError, ssl.SSLError):
            first = b""
        if not first:
            return failure("cloud", f"{version}, and it hung up", _REFUSED)
        return ok("cloud", f"{version}; it takes this vehicle's certificate")
