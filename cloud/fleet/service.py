"""The contract's service: each call is admitted, handed on, and answered in the contract's words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, TypeVar

import grpc

from cloud.fleet.admission import Admission, Guest
from cloud.fleet.control import ControlService
from cloud.fleet.group_commit import GroupCommit
from cloud.fleet.ingest import Answer, Upload
from cloud.fleet.repository import Repository
from cloud.fleet.uploads import UploadStream
from cloud.release.serving import NoSuchFileError, OffsetError
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc

# Read from disk at a time: few hops into a thread, little memory for a slow vehicle.
CHUNKS_AHEAD = 16

_Item = TypeVar("_Item")


class FleetService(fleet_grpc.FleetServiceServicer):
    """Serves vehicles, on an event loop."""

    def __init__(
        self,
        admission: Admission,
        control: ControlService,
        uploads: GroupCommit[Upload, Answer],
        repository: Repository | None,
        in_flight_limit: int,
    ) -> None:
        """Take who is let in, who answers, and how many uploads of one stream may wait."""
        self._admission = admission
        self._control = control
        self._uploads = uploads
        self._repository = repository
        self._in_flight_limit = in_flight_limit

    async def Control(self, request_iterator: Any, context: Any) -> AsyncIterator[fleet.ControlResponse]:  # noqa: N802
        """See fleet.proto."""
        caller = await self._admission.caller(context)
        async for response in self._control.converse(caller, request_iterator):
            yield response

    async def UploadSamples(  # noqa: N802
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[fleet.UploadSamplesResponse]:
        """See fleet.proto."""
        async with self._admission.guest(context) as guest:
            stream = UploadStream[fleet.Sample](guest.vehicle, self._uploads, self._in_flight_limit)
            messages = (request.sample async for request in guest.while_welcome(request_iterator))
            async for identity, answer in stream.answers(messages):
                yield fleet.UploadSamplesResponse(sample_id=identity, **_fields(answer))

    async def UploadFeatures(  # noqa: N802
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[fleet.UploadFeaturesResponse]:
        """See fleet.proto."""
        async with self._admission.guest(context) as guest:
            stream = UploadStream[fleet.FeatureSeries](guest.vehicle, self._uploads, self._in_flight_limit)
            messages = (request.series async for request in guest.while_welcome(request_iterator))
            async for identity, answer in stream.answers(messages):
                yield fleet.UploadFeaturesResponse(series_id=identity, **_fields(answer))

    async def FetchMetadata(  # noqa: N802
        self, request: fleet.FetchMetadataRequest, context: Any
    ) -> AsyncIterator[fleet.FetchMetadataResponse]:
        """See fleet.proto."""
        async with self._reader(context) as (guest, repository):
            async for response in guest.while_welcome(_in_thread(repository.fetch_metadata(request))):
                yield response

    async def FetchTarget(  # noqa: N802
        self, request: fleet.FetchTargetRequest, context: Any
    ) -> AsyncIterator[fleet.FetchTargetResponse]:
        """See fleet.proto."""
        async with self._reader(context) as (guest, repository):
            async for response in guest.while_welcome(_in_thread(repository.fetch_target(request))):
                yield response

    @asynccontextmanager
    async def _reader(self, context: Any) -> AsyncIterator[tuple[Guest, Repository]]:
        """Who reads a file, and where from; what cannot be read ends the call with its status."""
        async with self._admission.guest(context) as guest:
            if self._repository is None:
                await context.abort(grpc.StatusCode.NOT_FOUND, "this cloud signs nothing")
                raise AssertionError("abort returned")
            try:
                yield guest, self._repository
            except NoSuchFileError as error:
                await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
            except OffsetError as error:
                await context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))


async def _in_thread(items: Iterator[_Item]) -> AsyncIterator[_Item]:
    """Iterate in a thread what reads from disk."""
    while block := await asyncio.to_thread(lambda: list(islice(items, CHUNKS_AHEAD))):
        for item in block:
            yield item


def _fields(answer: Answer) -> dict[str, Any]:
    return {
        "outcome": answer.outcome,
        "reason": answer.reason,
        "detail": answer.detail,
        "retry_after_ms": answer.retry_after_ms,
    }
