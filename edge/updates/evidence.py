"""The signed metadata that vouches for one release, kept beside its file and checked without a network.

From the root that ships with the vehicle: root after root, the targets role, the delegated role, the target.
Expiry is ignored on purpose: a vehicle that was away for a year still drives on what was valid when it was
installed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Targets, Timestamp

from edge.updates.errors import Refusal, RefusedError
from edge.updates.signed_roles import DAMAGED, load, newest_root, trusted_root, verify_by
from protos.release_facts import FactsError, ReleaseFacts, from_custom, role_of_fleet

MAX_EVIDENCE_BYTES = 1 << 24
SCHEMA = 1
UNSIGNED_MARK = b'{"schema": 1, "unsigned": '  # how the evidence of what nobody signed begins


@dataclass(frozen=True, slots=True)
class Evidence:
    """Signed metadata, each document as it came.

    Attributes:
        roots: root metadata from the shipped one's successor up, in order; may be empty.
        targets: the top-level targets metadata.
        models: the delegated role's metadata.
        path: of the target in it.
        unsigned: in place of all that, the facts of a model that nobody signed (`custom` of a target).
    """

    roots: tuple[bytes, ...]
    targets: bytes
    models: bytes
    path: str
    unsigned: object = None

    def to_bytes(self) -> bytes:
        """Write as one JSON document; `from_bytes` reads back the same."""
        if self.unsigned is not None:
            return UNSIGNED_MARK + json.dumps(self.unsigned).encode() + b"}"
        document = {
            "schema": SCHEMA,
            "roots": [root.decode() for root in self.roots],
            "targets": self.targets.decode(),
            "models": self.models.decode(),
            "path": self.path,
        }
        return json.dumps(document).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Evidence:
        """Read what `to_bytes` wrote. What it holds is not verified yet.

        Raises:
            RefusedError: it is no such document.
        """
        try:
            document: Any = json.loads(data)
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']!r}")
            if "unsigned" in document:
                return cls((), b"", b"", "a model that nobody signed", document["unsigned"])
            roots = tuple(root.encode() for root in document["roots"])
            targets, models = document["targets"].encode(), document["models"].encode()
            path = document["path"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RefusedError(
                Refusal.METADATA, f"the release's signed metadata is damaged: {error}"
            ) from None
        return cls(roots, targets, models, path)


def check_root(data: bytes) -> int:
    """Check that this is root metadata which vouches for itself, as one that ships does; give its version.

    Raises:
        RefusedError: METADATA: it is not.
    """
    try:
        version: int = trusted_root(data).signed.version
    except DAMAGED as error:
        raise RefusedError(Refusal.METADATA, f"no root metadata of TUF: {error}") from None
    return version


def verify(
    shipped_root: bytes,
    evidence: Evidence,
    model: bytes,
    fleet: str | None = None,
    *,
    unsigned_allowed: bool = False,
) -> ReleaseFacts:
    """Check that `model` is what the owner signed, and return what is signed about it.

    Args:
        shipped_root: the trust anchor.
        evidence: what vouches for it.
        model: the file's bytes.
        fleet: the vehicle's; what another fleet's role signed does not count.
        unsigned_allowed: whether the owner allowed models that nobody signed; then its digest alone is held.

    Raises:
        RefusedError: UNSIGNED where nobody signed it and that is not allowed.
        RefusedError: METADATA where the chain of signatures breaks, CONTENT where the bytes are others.
    """
    if evidence.unsigned is not None:
        return _verify_unsigned(evidence.unsigned, model, unsigned_allowed)
    try:
        target = _target(shipped_root, evidence, role_of_fleet(fleet))
        facts = from_custom(target.custom)
    except (*DAMAGED, FactsError) as error:
        raise RefusedError(
            Refusal.METADATA, f"{evidence.path}: its signed metadata does not check: {error}"
        ) from None
    try:
        target.verify_length_and_hashes(model)
    except RepositoryError as error:
        raise RefusedError(
            Refusal.CONTENT, f"{evidence.path}: not the bytes that were signed: {error}"
        ) from None
    if target.hashes.get("sha256") != facts.model_sha256 or target.path != facts.target_path:
        raise RefusedError(Refusal.METADATA, f"{evidence.path}: its facts speak of another file")
    return facts


def verify_timestamp(shipped_root: bytes, roots: Iterable[bytes], timestamp: bytes) -> Timestamp:
    """Check timestamp metadata from the shipped root down; that it ended does not matter.

    Raises:
        RefusedError: METADATA: the chain of signatures breaks.
    """
    try:
        signed = load(Timestamp, timestamp)
        verify_by(newest_root(shipped_root, roots).signed, Timestamp.type, signed)
    except DAMAGED as error:
        raise RefusedError(Refusal.METADATA, f"the timestamp does not check: {error}") from None
    found: Timestamp = signed.signed
    return found


def _verify_unsigned(custom: object, model: bytes, allowed: bool) -> ReleaseFacts:
    if not allowed:
        raise RefusedError(Refusal.UNSIGNED, "nobody signed this model, and updates.unsigned is not set")
    try:
        facts = from_custom(custom)
    except FactsError as error:
        raise RefusedError(Refusal.METADATA, f"the facts of an unsigned model are damaged: {error}") from None
    if hashlib.sha256(model).hexdigest() != facts.model_sha256:
        raise RefusedError(Refusal.CONTENT, "an unsigned model: not the bytes that were put in")
    return facts


def _target(shipped_root: bytes, evidence: Evidence, role: str) -> Any:
    root = newest_root(shipped_root, evidence.roots)
    targets, models = load(Targets, evidence.targets), load(Targets, evidence.models)
    verify_by(root.signed, Targets.type, targets)
    verify_by(targets.signed, role, models)
    delegations = targets.signed.delegations
    roles = {} if delegations is None or delegations.roles is None else delegations.roles
    # Metadata of a delegated role does not say which it is: where two have the same keys, the path decides.
    if role not in roles or not roles[role].is_delegated_path(evidence.path):
        raise RepositoryError(f"role {role} may not sign it")
    if evidence.path not in models.signed.targets:
        raise RepositoryError(f"role {role} does not list it")
    return models.signed.targets[evidence.path]
