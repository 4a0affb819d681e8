"""The repository as vehicles see it: files in chunks, read and never written. No gRPC of its own.

Names come from the other side, so each is held against a pattern that leaves the folder no way out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from cloud.release.errors import ReleaseError
from protos.release_facts import MODELS_PATH
from protos.traffic_vision.v1.fleet_pb2 import (
    FetchMetadataRequest,
    FetchMetadataResponse,
    FetchTargetRequest,
    FetchTargetResponse,
)

CHUNK_LIMIT_BYTES = 65536

_ROLE = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TARGET = re.compile(
    rf"(?P<folder>{re.escape(MODELS_PATH)}(?:[a-z0-9-]{{1,32}}/)?)(?P<name>[A-Za-z0-9][A-Za-z0-9._+-]{{0,180}})"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class NoSuchFileError(ReleaseError):
    """There is no such file, version or target: NOT_FOUND on the wire."""


class OffsetError(ReleaseError):
    """The offset lies past the file's end: OUT_OF_RANGE on the wire."""


def fetch_metadata(repository: Path, request: FetchMetadataRequest) -> Iterator[FetchMetadataResponse]:
    """Give a metadata file in chunks.

    Raises:
        NoSuchFileError: there is no such role or version. Before the first chunk.
    """
    if _ROLE.fullmatch(request.role) is None:
        raise NoSuchFileError(f"there is no role {_shown(request.role)}")
    name = f"{request.version}.{request.role}.json" if request.HasField("version") else f"{request.role}.json"
    for data, offset, total in _chunks(repository / "metadata" / name, name, 0, CHUNK_LIMIT_BYTES):
        yield FetchMetadataResponse(data=data, offset_bytes=offset, total_bytes=total)


def fetch_target(repository: Path, request: FetchTargetRequest) -> Iterator[FetchTargetResponse]:
    """Give a target in chunks, from the request's offset on.

    Raises:
        NoSuchFileError: there is no such target. Before the first chunk.
        OffsetError: the offset lies past its end. Before the first chunk.
    """
    found = _TARGET.fullmatch(request.path)
    if found is None or _SHA256.fullmatch(request.sha256) is None:
        raise NoSuchFileError(f"there is no target {_shown(request.path)}")
    limit = min(request.chunk_limit_bytes or CHUNK_LIMIT_BYTES, CHUNK_LIMIT_BYTES)
    path = repository / "targets" / found["folder"] / f"{request.sha256}.{found['name']}"
    for data, offset, total in _chunks(path, request.path, request.offset_bytes, limit):
        yield FetchTargetResponse(data=data, offset_bytes=offset, total_bytes=total)


def _chunks(path: Path, name: str, offset: int, limit: int) -> Iterator[tuple[bytes, int, int]]:
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError):
        raise NoSuchFileError(f"there is no {_shown(name)}") from None
    with file:
        # Files are only ever replaced as a whole, so the open one keeps this length.
        total = os.fstat(file.fileno()).st_size
        if offset > total:
            raise OffsetError(f"{_shown(name)} has {total} bytes, asked for from {offset} on")
        file.seek(offset)
        while True:  # once for an empty rest, too: the other side learns the length
            data = file.read(min(limit, total - offset))
            yield data, offset, total
            offset += len(data)
            if offset >= total or not data:
                return


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:97]}...")
