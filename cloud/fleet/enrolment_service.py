"""The contract's EnrolmentService: open to anybody, so that everything about it is bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import time_ns
from typing import Any, NoReturn, TypeVar

import grpc

from cloud.fleet.enrolment_desk import EnrolmentDesk, NotGivenError, Renewal
from cloud.fleet.rate_limit import RateLimit
from cloud.fleet.repository import Repository
from cloud.release.serving import NoSuchFileError
from protos.traffic_vision.v1 import enrolment_pb2 as enrolment
from protos.traffic_vision.v1 import enrolment_pb2_grpc as enrolment_grpc
from protos.traffic_vision.v1.fleet_pb2 import FetchMetadataRequest

MAX_MESSAGE_BYTES = 16_384
MAX_CALLS = 64  # at a time
TIME_LIMIT_S = 20.0
# Of one address: many vehicles may stand behind it.
PER_ADDRESS = (20.0, 200.0)  # a second, and at once
TOGETHER = (100.0, 1000.0)

_Result = TypeVar("_Result")

_LOG = logging.getLogger(__name__)


class EnrolmentService(enrolment_grpc.EnrolmentServiceServicer):
    """Serves who has no certificate that holds, on an event loop."""

    def __init__(self, desk: EnrolmentDesk, repository: Repository | None, fleet_address: str) -> None:
        """Take who decides, where the TUF root is, and where vehicles find the fleet's service."""
        self._desk = desk
        self._repository = repository
        self._fleet_address = fleet_address
        self._by_address = RateLimit(*PER_ADDRESS)
        self._together = RateLimit(*TOGETHER)
        # One thread: it never holds up what vehicles with certificates do, whoever calls here how often.
        self._thread = ThreadPoolExecutor(1, "enrolment")

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown(cancel_futures=True)

    async def Enrol(self, request: enrolment.EnrolRequest, context: Any) -> enrolment.EnrolResponse:  # noqa: N802
        """See enrolment.proto."""

        def work() -> enrolment.EnrolResponse:
            root = self._root(request.root_version)  # before the ticket is used
            given = self._desk.enrol(request.token, request.csr_der, context.peer())
            return enrolment.EnrolResponse(
                certificate_der=given.certificate_der,
                root_json=root,
                fleet_address=self._fleet_address,
                vehicle=given.vehicle,
            )

        return await self._answer(context, work)

    async def BeginRenewal(  # noqa: N802
        self, request: enrolment.BeginRenewalRequest, context: Any
    ) -> enrolment.BeginRenewalResponse:
        """See enrolment.proto."""

        def work() -> enrolment.BeginRenewalResponse:
            return enrolment.BeginRenewalResponse(nonce=self._desk.begin_renewal(), server_wall_ns=time_ns())

        return await self._answer(context, work)

    async def Renew(self, request: enrolment.RenewRequest, context: Any) -> enrolment.RenewResponse:  # noqa: N802
        """See enrolment.proto."""

        def work() -> enrolment.RenewResponse:
            renewal = Renewal(
                request.certificate_der,
                request.nonce,
                request.csr_der,
                request.signature,
                request.instance_id,
            )
            given = self._desk.renew(renewal, context.peer())
            return enrolment.RenewResponse(certificate_der=given.certificate_der)

        return await self._answer(context, work)

    def _root(self, version: int) -> bytes:
        """Give a version of the root, 0 the newest."""
        if self._repository is None:
            return b""
        if not version:
            return self._repository.root()
        asked = FetchMetadataRequest(role="root", version=version)
        try:
            return b"".join(chunk.data for chunk in self._repository.fetch_metadata(asked))
        except NoSuchFileError:
            raise NotGivenError(f"there is no root {version} here") from None

    async def _answer(self, context: Any, work: Callable[[], _Result]) -> _Result:
        if not (self._by_address.take(_host(context.peer())) and self._together.take()):
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests: come back later")
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._thread, work), TIME_LIMIT_S)
        except NotGivenError as refusal:
            await _abort(context, grpc.StatusCode.PERMISSION_DENIED, str(refusal))
        except asyncio.TimeoutError:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, "the cloud is busy: come back later")
        except Exception:  # noqa: BLE001 - the top of the call; what failed is not for strangers
            _LOG.exception("a call to enrol failed")
            await _abort(context, grpc.StatusCode.INTERNAL, "the cloud cannot do that at the moment")


def _host(peer: str) -> str:
    """Give an address without its port: `ipv4:192.0.2.1:5000`, `ipv6:%5B2001:db8::1%5D:5000`."""
    return peer.rpartition(":")[0]


async def _abort(context: Any, code: grpc.StatusCode, why: str) -> NoReturn:
    await context.abort(code, why)
    raise AssertionError("abort returned")
