"""Whether a daemon on this machine serves: the standard health service, asked once."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge.config import ServeConfig
from edge.config.types import is_loopback
from edge.errors import TrafficVisionError


class NotServingError(TrafficVisionError):
    """The daemon does not answer, or says that it does not serve."""


def require_serving(config: ServeConfig, timeout_s: float = 3.0) -> str:
    """Ask the first address that needs no certificate.

    Returns:
        The address that answered.

    Raises:
        NotServingError: it does not answer in time, or does not serve; or every address is guarded by TLS.
    """
    addresses = (config.address, *config.more_addresses)
    # TLS guards the addresses of TCP; a Unix socket has its mode.
    plain = [one for one in addresses if one.startswith("unix:") or (config.tls is None and is_loopback(one))]
    if not plain:
        raise NotServingError(
            f"every address ({', '.join(addresses)}) asks for TLS: add a Unix socket to serve.more_addresses"
        )
    with grpc.insecure_channel(plain[0]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            code = error.code().name if isinstance(error, grpc.Call) else str(error)
            raise NotServingError(f"no daemon answers at {plain[0]}: {code}") from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise NotServingError(f"the daemon at {plain[0]} does not serve (yet)")
    return plain[0]
