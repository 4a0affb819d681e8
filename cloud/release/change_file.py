"""A change of keys on its way: one file that collects signatures, on one machine or from several.

    folder/pending/keys.json        at most one change at a time

A release that waits for signatures travels in such a file too (release_file.py).

It holds no secret, so it may travel to the machine that reaches an offline key, and back. What it says is
believed nowhere: the machine that signs shows what it would change (`key_changes.differences`), and the one
that publishes takes nothing of a file that comes back but signatures that verify.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from cloud.release.errors import ReleaseError
from cloud.release.key_changes import Document, Roles, differences, missing, signing_keyids
from cloud.release.keys import KeyRing, ring_document, ring_from
from cloud.release.role_files import sign_role, write_durable

SCHEMA = 1
RELEASED = "released"
MAX_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Facts:
    """What was asked for.

    Attributes:
        id: of this change, in no other.
        action: "rotated", "revoked", "renewed", "delegated" or RELEASED.
        subject: of which keys or roles, for people; the counter of a release.
        actor: who asked.
        reason: why, where it was said.
        retired: ids of the keys that go.
        made: files of private keys that were made for it, in the folder of the keys.
    """

    id: str
    action: str
    subject: str
    actor: str
    reason: str = ""
    retired: tuple[str, ...] = ()
    made: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """What it is, for people."""
        return f"release {self.subject}" if self.action == RELEASED else "change of keys"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A change of keys, or a release.

    Attributes:
        facts: what was asked for.
        roles: the roles as they were when it began.
        documents: what is written anew, delegators first.
        ring: the keys as they are after it.
    """

    facts: Facts
    roles: Roles
    documents: tuple[Document, ...]
    ring: KeyRing

    def after(self, role: str) -> Metadata[Any] | None:
        """Return a role's next version, None where it stays as it is."""
        return next((document.after for document in self.documents if document.role == role), None)

    @property
    def signing_keys(self) -> dict[str, Key]:
        """The keys whose signature somewhere in it counts for somebody: id -> key."""
        keys = (signing_keyids(self.documents, self.roles, document) for document in self.documents)
        return {keyid: key for found in keys for keyid, key in found.items()}

    @property
    def root(self) -> Root:
        """The root that counts after the change."""
        root: Root = (self.after(Root.type) or self.roles.root).signed
        return root

    def missing(self) -> list[str]:
        """Say which signatures are missing, for people; empty: it can be published."""
        return [
            f"{document.role} needs {count} more by {whose}"
            for document in self.documents
            for whose, count in missing(self.documents, self.roles, document).items()
        ]

    def differences(self) -> list[str]:
        """Say what it changes, for people, by the metadata itself."""
        return [line for document in self.documents for line in differences(document, self.roles)]


def sign(change: KeyChange, signers: Mapping[str, Signer]) -> int:
    """Sign each document by those of the signers that count for it and did not yet; return how many times.

    Args:
        change: signatures are put into its documents.
        signers: id of the key -> signer.

    Raises:
        ReleaseError: a signer failed.
    """
    count = 0
    for document in change.documents:
        for keyid in signing_keyids(change.documents, change.roles, document):
            if keyid in signers and keyid not in document.after.signatures:
                sign_role(document.after, [signers[keyid]], append=True)
                count += 1
    return count


def merge(change: KeyChange, other: KeyChange) -> int:
    """Take over the signatures that another copy of the same change collected; return how many were new.

    Raises:
        ReleaseError: it is of another change, or not the same metadata.
    """
    theirs = {document.role: document.after for document in other.documents}
    same = change.facts.id == other.facts.id and all(
        document.role in theirs and theirs[document.role].signed_bytes == document.after.signed_bytes
        for document in change.documents
    )
    if not same:
        raise ReleaseError(
            f"this is not the {change.facts.what} that is under way ({change.facts.id}): it is"
            f" {other.facts.id}, or was altered"
        )
    count = 0
    for document in change.documents:
        for keyid, key in signing_keyids(change.documents, change.roles, document).items():
            signature = theirs[document.role].signatures.get(keyid)
            if signature is None or keyid in document.after.signatures:
                continue
            try:
                key.verify_signature(signature, document.after.signed_bytes)
            except UnverifiedSignatureError:
                raise ReleaseError(
                    f"a signature of key {keyid[:8]} under {document.role} is forged"
                ) from None
            document.after.signatures[keyid] = signature
            count += 1
    return count


def check_before(change: KeyChange, trusted_root: Metadata[Root] | None) -> None:
    """Check that what the change begins with is signed, so that its differences say what they seem to.

    Args:
        change: from a file that somebody else may have written.
        trusted_root: that this machine knows: the change begins with this version or a later one, or it could
            bring back keys that were exchanged since. Without one, the change's root vouches for itself
            alone: who wrote the file may have put keys of his own into both versions.

    Raises:
        ReleaseError: it is not.
    """
    roles = change.roles
    version, kept = roles.root.signed.version, 0 if trusted_root is None else trusted_root.signed.version
    if version < kept:
        raise ReleaseError(f"the {change.facts.what} begins with root {version}, older than root {kept} here")
    try:
        for delegator in (trusted_root or roles.root, roles.root):
            delegator.verify_delegate(Root.type, roles.root)
        roles.root.verify_delegate(Targets.type, roles.targets)
        for name, metadata in roles.delegated.items():
            roles.targets.verify_delegate(name, metadata)
    except (RepositoryError, ValueError) as error:
        raise ReleaseError(f"what the {change.facts.what} begins with is not signed: {error}") from None


def pending_path(folder: Path) -> Path:
    """Return where the repository's change under way lies."""
    return folder / "pending" / "keys.json"


def save(path: Path, change: KeyChange) -> None:
    """Write a change, through to the disk."""
    roles = change.roles
    before: dict[str, Metadata[Any]] = {Root.type: roles.root, Targets.type: roles.targets, **roles.delegated}
    document = {
        "schema": SCHEMA,
        "facts": asdict(change.facts),
        "before": {role: metadata.to_dict() for role, metadata in before.items()},
        "after": {entry.role: entry.after.to_dict() for entry in change.documents},
        "ring": ring_document(change.ring),
    }
    write_durable(path, json.dumps(document, indent=1).encode())


def load(path: Path, folder: Path) -> KeyChange:
    """Read a change.

    Args:
        path: the file.
        folder: of the keys, where relative URIs begin.

    Raises:
        ReleaseError: it is no readable change.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        document: Any = json.loads(data)
        if document["schema"] != SCHEMA:
            raise ReleaseError(f"{path} has schema {document['schema']!r}, this program reads {SCHEMA}")
        before = {role: Metadata[Any].from_dict(entry) for role, entry in document["before"].items()}
        roles = Roles(before.pop(Root.type), before.pop(Targets.type), before)
        if not isinstance(roles.root.signed, Root) or not isinstance(roles.targets.signed, Targets):
            raise ValueError("roles are exchanged")
        documents = tuple(
            Document(role, roles.of(role), Metadata[Any].from_dict(entry))
            for role, entry in document["after"].items()
        )
        said = document["facts"]
        facts = Facts(**{**said, "retired": tuple(said["retired"]), "made": tuple(said["made"])})
        change = KeyChange(facts, roles, documents, ring_from(folder, document["ring"]))
        change.missing()  # what its roles say of each other holds together
    except FileNotFoundError:
        raise ReleaseError(f"{path} is not there: nothing that is to be signed is under way") from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        RepositoryError,
    ) as error:
        raise ReleaseError(f"{path} is no change of keys, and no release: {error!r}") from None
    return change
