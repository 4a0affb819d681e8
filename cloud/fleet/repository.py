"""What the fleet's side needs of the signed repository, and the one place that opens it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Protocol

from cloud.config import CloudConfig
from cloud.release import key_publishing, repository, serving
from cloud.release.ceremony import current_roles
from cloud.release.key_changes import Roles, role_names
from cloud.release.keys import create_keys, load_keys
from protos.traffic_vision.v1 import fleet_pb2 as fleet

WARN_BEFORE = timedelta(days=30)

_LOG = logging.getLogger(__name__)


class Repository(Protocol):
    """Signed metadata and models, as `cloud init`, `cloud enrol` and the server use them."""

    def prepare(self, root_files: Sequence[Path] = (), root_threshold: int | None = None) -> None:
        """Make the roles' keys and the first metadata, where there are none; root's keys in these files."""

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


@dataclass(frozen=True, slots=True)
class SignedRepository:
    """The repository in the cloud's folders.

    Attributes:
        folder: metadata and targets.
        keys: the roles' keys; only `prepare` and `refresh` need private ones, of the online roles alone.
    """

    folder: Path
    keys: Path

    def prepare(self, root_files: Sequence[Path] = (), root_threshold: int | None = None) -> None:
        """Make keys and metadata; what is there is kept."""
        keys = create_keys(self.keys, root_files)
        repository.create_repository(self.folder, keys, root_threshold=root_threshold)

    def root(self) -> bytes:
        """Give the newest root."""
        return repository.current_root(self.folder)

    def refresh(self) -> None:
        """Sign snapshot and timestamp anew when half of their time is over; finish a change of keys first."""
        key_publishing.resume(self.folder, self.keys)
        ring = load_keys(self.keys)
        if repository.refresh_timestamp(self.folder, ring.signer("snapshot"), ring.signer("timestamp")):
            _warn_of_ends(current_roles(self.folder))

    def fetch_metadata(self, request: fleet.FetchMetadataRequest) -> Iterator[fleet.FetchMetadataResponse]:
        """Give a file of metadata in chunks."""
        return serving.fetch_metadata(self.folder, request)

    def fetch_target(self, request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        """Give a target in chunks."""
        return serving.fetch_target(self.folder, request)


def _warn_of_ends(roles: Roles) -> None:
    """Say which of the roles that no server can renew end soon; twice a day, as the timestamp is renewed."""
    now = datetime.now(timezone.utc)
    for name in role_names(roles):
        metadata = roles.of(name)
        if metadata is not None and metadata.signed.expires - now < WARN_BEFORE:
            _LOG.warning(
                "the %s metadata ends on %s, then vehicles refuse all that is offered: `cloud keys renew`",
                name,
                f"{metadata.signed.expires:%Y-%m-%d}",
            )


def open_repository(config: CloudConfig) -> Repository:
    """Open the repository in the cloud's folders."""
    return SignedRepository(config.folders.repository, config.folders.keys)
