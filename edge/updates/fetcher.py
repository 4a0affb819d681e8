"""python-tuf's network, spoken over our gRPC service: metadata only, each file capped in time and size."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import unquote

import grpc
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient.fetcher import FetcherInterface

from edge.updates.download import TransferLimits, checked_chunks, code_of, described
from edge.updates.errors import PutOffError, TransferError
from edge.updates.interruption import Interrupted, cancelled_for, never, put_off
from protos.traffic_vision.v1.fleet_pb2 import FetchMetadataRequest
from protos.traffic_vision.v1.fleet_pb2_grpc import FleetServiceStub

BASE_URL = "metadata/"  # what the Updater puts in front of a file's name

_NOT_FOUND = 404
_FILE = re.compile(r"(?:(?P<version>[0-9]{1,10})\.)?(?P<role>[A-Za-z0-9_-]{1,100})\.json")


class GrpcFetcher(FetcherInterface):
    """Fetches metadata for one check.

    The Updater's own caps hold the size of each file; time and size of all of them together are held here,
    since a hostile server could make each of 256 root rotations as long as it may be.

    Args:
        stub: of the fleet's service.
        limits: how long the server may take.
        interrupted: whether something else comes first. Asked at each chunk, and while none comes.
    """

    def __init__(
        self, stub: FleetServiceStub, limits: TransferLimits, interrupted: Interrupted = never
    ) -> None:
        self._stub = stub
        self._limits = limits
        self._interrupted = interrupted
        self._end = time.monotonic() + limits.metadata_s
        self._left_bytes = limits.metadata_bytes

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Give the chunks of one file.

        Raises:
            PutOffError: something else comes first. The Updater lets it through.
            DownloadHTTPError: 404: the server has no such file. No other status says so: 403, too, would end
                the Updater's search for newer roots.
            SlowRetrievalError: the time is over.
            DownloadError: anything else that keeps the file away.
        """
        found = _FILE.fullmatch(unquote(url.removeprefix(BASE_URL)))
        if found is None:
            raise DownloadError(f"{url}: no name of a metadata file")
        version = found["version"]
        request = FetchMetadataRequest(role=found["role"], version=None if version is None else int(version))
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise SlowRetrievalError(f"the metadata took more than {self._limits.metadata_s:g} s")
        try:
            call = self._stub.FetchMetadata(request, timeout=min(self._limits.rpc_s, left_s))
        except ValueError as error:  # gRPC's answer on a channel that was closed meanwhile
            raise DownloadError(f"{url}: {error}") from None
        try:
            with cancelled_for(self._cause, call):
                for data in checked_chunks(call, 0, None):
                    self._left_bytes -= len(data)
                    if self._left_bytes < 0:
                        raise DownloadError(
                            f"{url}: the metadata has more than {self._limits.metadata_bytes} bytes"
                        )
                    yield data
                    if self._interrupted():
                        raise put_off(_kept())
        except TransferError as error:
            raise DownloadError(f"{url}: {error}") from None
        except grpc.RpcError as error:
            message = f"{url}: {described(error)}"
            if code_of(error) is grpc.StatusCode.NOT_FOUND:
                raise DownloadHTTPError(message, _NOT_FOUND) from None
            if code_of(error) is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise SlowRetrievalError(message) from None
            raise DownloadError(message) from None

    def _cause(self) -> PutOffError | None:
        return put_off(_kept()) if self._interrupted() else None


def _kept() -> str:
    return "what is verified of the metadata is kept"
