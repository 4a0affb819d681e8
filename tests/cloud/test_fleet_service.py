"""Fetching through the service: chunks as the repository gives them, its refusals as gRPC's codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from cloud.fleet.admission import Caller, Guest, Standing
from cloud.fleet.service import CHUNKS_AHEAD, FleetService
from cloud.fleet.sessions import Sessions
from cloud.release.serving import NoSuchFileError, OffsetError
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests.clouds import WAIT_S

CHUNKS = 2 * CHUNKS_AHEAD + 3


class Admits:
    """Everyone is the vehicle "one"."""

    @asynccontextmanager
    async def guest(self, _: object) -> AsyncIterator[Guest]:
        yield Guest(Caller("one", Standing.ENROLLED, "a peer"), Sessions(1.0))


class Files:
    """A repository of one role and one target."""

    def fetch_metadata(self, request: fleet.FetchMetadataRequest) -> Iterator[fleet.FetchMetadataResponse]:
        if request.role != "root":
            raise NoSuchFileError(f"there is no role {request.role!r}")
        yield fleet.FetchMetadataResponse(data=b"{}", total_bytes=2)

    def fetch_target(self, request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        if request.offset_bytes > CHUNKS:
            raise OffsetError(f"past {CHUNKS}")
        for offset in range(request.offset_bytes, CHUNKS):
            yield fleet.FetchTargetResponse(data=b"x", offset_bytes=offset, total_bytes=CHUNKS)


def fetched(
    fetch: Callable[[fleet_grpc.FleetServiceAsyncStub], Awaitable[Any]], repository: Any = None
) -> Any:
    """What a vehicle's call gives, on a server in this process."""

    async def scenario() -> Any:
        server = grpc.aio.server()
        unused: Any = None
        service = FleetService(Admits(), unused, unused, repository, 1)
        fleet_grpc.add_FleetServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub: Any = fleet_grpc.FleetServiceStub(channel)
                return await asyncio.wait_for(fetch(stub), WAIT_S)
        finally:
            await server.stop(None)

    return asyncio.run(scenario())


def target(**fields: int) -> Callable[[Any], Awaitable[list[int]]]:
    async def fetch(stub: Any) -> list[int]:
        request = fleet.FetchTargetRequest(path="models/m", **fields)
        return [chunk.offset_bytes async for chunk in stub.FetchTarget(request)]

    return fetch


def metadata(role: str) -> Callable[[Any], Awaitable[bytes]]:
    async def fetch(stub: Any) -> bytes:
        request = fleet.FetchMetadataRequest(role=role)
        return b"".join([chunk.data async for chunk in stub.FetchMetadata(request)])

    return fetch


@pytest.mark.parametrize("offset", [0, 1, CHUNKS_AHEAD, CHUNKS])
def test_a_target_comes_whole_and_in_order(offset: int) -> None:
    assert fetched(target(offset_bytes=offset), Files()) == list(range(offset, CHUNKS))


def test_metadata_comes_as_it_is() -> None:
    assert fetched(metadata("root"), Files()) == b"{}"


@pytest.mark.parametrize(
    ("fetch", "repository", "code"),
    [
        (metadata("other"), Files(), grpc.StatusCode.NOT_FOUND),
        (metadata("root"), None, grpc.StatusCode.NOT_FOUND),
        (target(), None, grpc.StatusCode.NOT_FOUND),
        (target(offset_bytes=CHUNKS + 1), Files(), grpc.StatusCode.OUT_OF_RANGE),
    ],
)
def test_what_is_not_there_has_its_code(fetch: Any, repository: Any, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        fetched(fetch, repository)
    assert refused.value.code() == code
