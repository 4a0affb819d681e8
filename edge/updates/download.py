"""A target into a file, by chunks, resumed where it was cut. What arrives is not believed: the slots verify
it.

TUF leaves slow retrieval to the transport. Here a target comes in one RPC that is watched: each few seconds
must bring their share of the least pace, so a server that drips bytes is left soon, and a link that breaks
loses nothing. Not in many short RPCs: what is on its way when one ends still comes, and on a slow link the
next would spend its time behind it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import grpc

from edge.updates.errors import PutOffError, TransferError
from edge.updates.interruption import Interrupted, cancelled_for, never, put_off
from protos.traffic_vision.v1.fleet_pb2 import FetchTargetRequest
from protos.traffic_vision.v1.fleet_pb2_grpc import FleetServiceStub

CHUNK_LIMIT_BYTES = 65536
_LEAST_CHUNK_BYTES = 4096  # below that a transfer consists of messages' headers
_CHUNKS_A_WINDOW = 3  # at the least pace


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """How long the server may take.

    Attributes:
        rpc_s: deadline of an RPC for metadata, seconds.
        least_bytes_per_s: a link that is slower than this for `pace_s` is given up; what came is kept.
        pace_s: over how many seconds the pace of a target is looked at.
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
    pace_s: float = 10.0

    def target_deadline_s(self, left_bytes: int) -> float:
        """Seconds that so many bytes of a target may take in one check: as at the least pace, bounded."""
        return min(self.target_s, left_bytes / self.least_bytes_per_s + self.rpc_s)

    @property
    def chunk_bytes(self) -> int:
        """To ask for: of this size a link of the least pace brings three while its pace is looked at."""
        fitting = int(self.least_bytes_per_s * self.pace_s / _CHUNKS_A_WINDOW)
        return min(CHUNK_LIMIT_BYTES, max(_LEAST_CHUNK_BYTES, fitting))


class Pace:
    """Whether a transfer keeps the least pace, `pace_s` by `pace_s`; a chunk may be on its way at the end."""

    def __init__(
        self, limits: TransferLimits, had_bytes: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin, with so many bytes already there."""
        self._limits = limits
        self._had_bytes = had_bytes
        self._clock = clock
        self._began_s = clock()

    def too_slow(self, received_bytes: int) -> float | None:
        """Give the pace of the seconds that are over now, bytes a second, where it was below the least.

        Args:
            received_bytes: that are there now.
        """
        lasted_s = self._clock() - self._began_s
        if lasted_s < self._limits.pace_s:
            return None
        pace = (received_bytes - self._had_bytes) / lasted_s
        self._began_s += lasted_s
        self._had_bytes = received_bytes
        return pace if pace < self._limits.least_bytes_per_s * (1 - 1 / _CHUNKS_A_WINDOW) else None


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
        begin = file.tell()
        if begin < length:
            on_progress(begin)
            transfer = _Transfer(begin, length, limits, interrupted, Pace(limits, begin))
            _append_rest(stub, request, file, transfer, on_progress)
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


@dataclass(slots=True)
class _Transfer:
    """What is there of a target, and what ends its transfer. `cause` is asked from another thread."""

    received: int
    length: int
    limits: TransferLimits
    interrupted: Interrupted
    pace: Pace

    def kept(self) -> str:
        return f"{self.received} of {self.length} bytes are kept"

    def put_off(self) -> PutOffError | None:
        return put_off(self.kept()) if self.interrupted() else None

    def cause(self) -> PutOffError | TransferError | None:
        slow = self.pace.too_slow(self.received)
        if slow is None:
            return self.put_off()
        return TransferError(
            f"the server sends {slow:.0f} bytes a second, at least {self.limits.least_bytes_per_s:.0f}"
            f" are expected; {self.kept()}"
        )


def _append_rest(
    stub: FleetServiceStub,
    request: FetchTargetRequest,
    file: IO[bytes],
    transfer: _Transfer,
    on_progress: Callable[[int], None],
) -> None:
    begin = transfer.received
    following = FetchTargetRequest(offset_bytes=begin, chunk_limit_bytes=transfer.limits.chunk_bytes)
    following.MergeFrom(request)
    allowed_s = transfer.limits.target_deadline_s(transfer.length - begin)
    if (left := transfer.put_off()) is not None:
        raise left
    try:
        call = stub.FetchTarget(following, timeout=allowed_s)
    except ValueError as error:  # gRPC's answer on a channel that was closed meanwhile
        raise TransferError(f"{request.path}: {error}") from None
    try:
        with cancelled_for(transfer.cause, call):
            for data in checked_chunks(call, begin, transfer.length):
                file.write(data)
                transfer.received += len(data)
                on_progress(transfer.received)
                if transfer.received < transfer.length and (left := transfer.put_off()) is not None:
                    raise left
    except grpc.RpcError as error:
        if code_of(error) is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise TransferError(f"the file took more than {allowed_s:.0f} s; {transfer.kept()}") from None
        raise TransferError(f"{request.path}: {described(error)}; {transfer.kept()}") from None


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
