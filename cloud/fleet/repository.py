"""What the fleet's side needs of the signed repository, and the one place that opens it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from cloud.config import CloudConfig
from protos.traffic_vision.v1 import fleet_pb2 as fleet


class NoSuchFileError(Exception):
    """There is no such role, version or target."""


class OffsetError(Exception):
    """The offset lies past the file's end."""


class Repository(Protocol):
    """Signed metadata and models, as `cloud init`, `cloud enrol` and the server use them."""

    def prepare(self) -> None:
        """Make the roles' keys and the first metadata, where there are none."""

    def root(self) -> bytes:
        """Give the root metadata that a vehicle is installed with."""

    def refresh(self) -> None:
        """Sign anew what would soon be out of date. Called every few minutes, in a thread."""

    def fetch_metadata(self, request: fleet.FetchMetadataRequest) -> Iterator[fleet.FetchMetadataResponse]:
        """Give a file of metadata in chunks. Called from several threads at a time.

        Raises:
            NoSuchFileError: there is none.
        """

    def fetch_target(self, request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        """Give a target in chunks, from the request's offset on.

        Raises:
            NoSuchFileError: there is none.
            OffsetError: the offset lies past its end.
        """


def open_repository(config: CloudConfig) -> Repository | None:
    """Open the repository in the cloud's folders; None: this cloud signs nothing."""
    return None
