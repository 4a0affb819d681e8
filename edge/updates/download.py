"""A target into a file, by chunks, resumed where it was cut. What arrives is not believed: the slots verify
it.

TUF leaves slow retrieval to the transport. Here one RPC lasts a few seconds at most and the next goes on
where it ended, so a server that drips bytes is noticed after one of them, and a link that breaks loses
nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import grpc

from edge.updates.errors import TransferError
from edge.updates.interruption import Interrupted, cancelled_if, never, put_off
from protos.traffic_vision.v1.fleet_pb2 import FetchTargetRequest
from protos.traffic_vision.v1.fleet_pb2_grpc import FleetServiceStub

CHUNK_LIMIT_BYTES = 65536


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """How long the server may take.

    Attributes:
        rpc_s: deadline of one RPC, seconds.
        least_bytes_per_s: a target's RPC that brought less than this on average is the last one.
        target_s: for a target in one check, seconds; the next goes on from what is kept, by metadata that is
            fresh.
        metadata_s: for all metadata of one check together, seconds.
        metadata_bytes: of all metadata of one check together; targets are capped by what is signed, and by
            the vehicle's `max_model_bytes`.
    """

    rpc_s: float = 10.0
    least_bytes_per_s: float = 4096.0
    metadata_s: float = 60.0
    metadata_bytes: int = 1 << 24
    target_s: float = 3600.0

    def target_deadline_s(self, left_bytes: int) -> float:
        """Seconds that so many bytes of a target may take in one check: as at the least pace, bounded."""
        return min(self.target_s, left_bytes / self.least_bytes_per_s + self.rpc_s)


class Chunk(Protocol):
    """What both of the service's file streams consist of."""

    data: bytes
    offset_bytes: int
    total_bytes: int


def fetch_target(
    stub: FleetServiceStub,
    request: FetchTargetRequest,
    length: int,
    part: Path,
    limits: TransferLimits,
    on_progress: Callable[[int], None],
    interrupted: Interrupted = never,
) -> None:
    """Fetch a target into `part`, from where an earlier try ended; on disk when this returns.

    Args:
        stub: of the fleet's service.
        request: the target's path and digest.
        length: of the target as signed, bytes; not one byte more is written.
        part: holds what arrived so far, also after an error.
        limits: how long the server may take.
        on_progress: called with the bytes that are there, at most once a chunk.
        interrupted: whether something else comes first. Asked at each chunk, and while none comes.

    Raises:
        PutOffError: something else does.
        TransferError: the server is away, too slow, or sends something else.
        OSError: the file cannot be written.
    """
    with part.open("ab") as file:
        if file.tell() > length:
            file.truncate(0)
            file.seek(0)
        allowed_s = limits.target_deadline_s(length - file.tell())
        end_s = time.monotonic() + allowed_s
        while (begin := file.tell()) < length:
            on_progress(begin)
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise TransferError(
                    f"the file took more than {allowed_s:.0f} s; {begin} of {length} bytes are kept"
                )
            call_s = min(limits.rpc_s, left_s)
            if not _one_call(stub, request, length, file, call_s, on_progress, interrupted):
                pace = (file.tell() - begin) / call_s
                if pace < limits.least_bytes_per_s:
                    raise TransferError(
                        f"the server sends {pace:.0f} bytes a second, at least {limits.least_bytes_per_s:.0f}"
                        f" are expected; {file.tell()} of {length} are kept"
                    )
        file.flush()
        os.fsync(file.fileno())


def copy_target(source: IO[bytes], length: int, part: Path, on_progress: Callable[[int], None]) -> None:
    """Copy a target from a bundle; on disk when this returns, and not one byte more than is signed.

    Raises:
        UpdateError: the bundle cannot be read.
        TransferError: it holds less, or more.
        OSError: the file cannot be written.
    """
    with source, part.open("wb") as file:
        while (begin := file.tell()) < length:
            data = source.read(min(CHUNK_LIMIT_BYTES, length - begin))
            if not data:
                raise TransferError(f"the bundle's file ends at {begin} of {length} bytes")
            file.write(data)
            on_progress(file.tell())
        if source.read(1):
            raise TransferError(f"the bundle's file has more than the {length} bytes that are signed")
        file.flush()
        os.fsync(file.fileno())


def _one_call(
    stub: FleetServiceStub,
    request: FetchTargetRequest,
    length: int,
    file: IO[bytes],
    call_s: float,
    on_progress: Callable[[int], None],
    interrupted: Interrupted,
) -> bool:
    """Append what one RPC brings; False where its deadline ended it."""
    following = FetchTargetRequest()
    following.CopyFrom(request)
    following.offset_bytes = file.tell()
    following.chunk_limit_bytes = CHUNK_LIMIT_BYTES

    def kept() -> str:
        return f"{file.tell()} of {length} bytes are kept"

    if interrupted():
        raise put_off(kept())
    try:
        call = stub.FetchTarget(following, timeout=call_s)
    except ValueError as error:  # gRPC's answer on a channel that was closed meanwhile
        raise TransferError(f"{request.path}: {error}") from None
    try:
        with cancelled_if(interrupted, call, kept):
            for data in checked_chunks(call, following.offset_bytes, length):
                file.write(data)
                on_progress(file.tell())
                if file.tell() < length and interrupted():
                    raise put_off(kept())
    except grpc.RpcError as error:
        if code_of(error) is grpc.StatusCode.DEADLINE_EXCEEDED:
            return False
        raise TransferError(
            f"{request.path}: {described(error)}; {file.tell()} of {length} bytes kept"
        ) from None
    return True


def checked_chunks(call: Iterator[Chunk], offset: int, length: int | None) -> Iterator[bytes]:
    """Give the data of chunks that follow each other as the contract says.

    Args:
        call: the stream of messages.
        offset: where the first chunk begins.
        length: that every chunk must declare as the total; None: what the first one declares.

    Raises:
        TransferError: a gap, an overlap, a chunk over the limit, another length, an end past the length.
        grpc.RpcError: whatever the stream raises.
    """
    for chunk in call:
        length = chunk.total_bytes if length is None else length
        if chunk.total_bytes != length:
            raise TransferError(f"the server declares {chunk.total_bytes} bytes, expected {length}")
        if len(chunk.data) > CHUNK_LIMIT_BYTES:
            raise TransferError(
                f"the server sent a chunk of {len(chunk.data)} bytes, at most {CHUNK_LIMIT_BYTES}"
            )
        if chunk.offset_bytes != offset or offset + len(chunk.data) > length:
            raise TransferError(
                f"the server sent {len(chunk.data)} bytes at {chunk.offset_bytes} of {length}, expected them"
                f" at {offset}"
            )
        offset += len(chunk.data)
        yield chunk.data
    if length is not None and offset < length:
        raise TransferError(f"the server's stream ended at {offset} of {length} bytes")


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    """Return the status of an RPC that failed; UNKNOWN where the error carries none."""
    return error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN


def described(error: grpc.RpcError) -> str:
    """Say in one short line why an RPC failed; its text comes from the other side."""
    details = error.details() if isinstance(error, grpc.Call) else str(error)
    text = " ".join(str(details).split())
    return f"{code_of(error).name}: {text[:200]}"
