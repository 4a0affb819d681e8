"""The bundle: releases and all that proves them in one file, for a vehicle without a network.

An uncompressed tar archive (POSIX.1-1988, ustar) of regular files with these names and no others:

    traffic-vision-bundle           the first one: the schema's number, a line
    metadata/N.root.json            root metadata, one file a version
    metadata/timestamp.json
    metadata/N.ROLE.json            snapshot, targets, and delegated roles, as the repository has them
    targets/SHA256                  a release's file, by its digest

Nothing in it is believed for being there: a vehicle verifies it by the same rules as what comes by the
network.
"""

from __future__ import annotations

import re

SCHEMA = 1
MARK = "traffic-vision-bundle"

MAX_FILES = 1024
MAX_METADATA_BYTES = 1 << 22  # of one file, as the vehicle allows for the network
MAX_TARGET_BYTES = 1 << 29

TIMESTAMP_NAME = "metadata/timestamp.json"

_ROLE = r"[A-Za-z0-9_-]{1,64}"
_METADATA = re.compile(rf"metadata/(?:timestamp|[1-9][0-9]{{0,9}}\.{_ROLE})\.json")
_TARGET = re.compile(r"targets/[0-9a-f]{64}")


def metadata_name(role: str, version: int | None) -> str:
    """Return where a role's metadata lies; without a version, as the timestamp alone has none."""
    return f"metadata/{role}.json" if version is None else f"metadata/{version}.{role}.json"


def target_name(sha256: str) -> str:
    """Return where a release's file lies."""
    return f"targets/{sha256}"


def size_limit(name: str) -> int | None:
    """Return the most bytes that a file of this name may have; None where no file may be called so."""
    if name == MARK:
        return 16
    if _METADATA.fullmatch(name):
        return MAX_METADATA_BYTES
    if _TARGET.fullmatch(name):
        return MAX_TARGET_BYTES
    return None
