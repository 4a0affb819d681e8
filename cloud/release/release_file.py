"""A release that waits for keys elsewhere, as a file: taken there, signed, and taken back.

The proposal in the repository (`releasing.proposal_path`) is what counts; the file is a copy with all that a
machine without a repository needs to judge it, in the form of a change of keys (change_file.py). It holds no
secret, and of one that comes back nothing is taken but signatures that verify.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import TargetFile, Targets

from cloud.release.ceremony import read_elsewhere, sign_elsewhere
from cloud.release.change_file import RELEASED, Facts, KeyChange, load, merge, save
from cloud.release.errors import ReleaseError
from cloud.release.key_changes import Document, Roles
from cloud.release.keys import KeyRing, load_keys
from cloud.release.locking import locked
from cloud.release.releasing import adds_only, proposal_path, role_name
from cloud.release.repository import releases_in
from cloud.release.role_files import current_role, moment, newest_root, read_role, write_durable
from protos.release_facts import FactsError, ReleaseFacts, from_custom


@dataclass(frozen=True, slots=True)
class Waiting:
    """A release that waits for signatures.

    Attributes:
        facts: what is to be signed of it.
        target: its file's length and digest.
        change: the metadata, with the signatures so far.
    """

    facts: ReleaseFacts
    target: TargetFile
    change: KeyChange

    @property
    def signed_by(self) -> list[str]:
        """Whose signatures it has, by the keys' names."""
        (document,) = self.change.documents
        return sorted(map(self.change.ring.name_of, document.after.signatures))

    def to_text(self) -> str:
        """What whoever signs puts a name to, by the metadata itself."""
        (document,) = self.change.documents
        facts, signed = self.facts, document.after.signed
        asked = (("trial in shadow", facts.shadow), ("promise", facts.promise))
        whose = "vehicles without a fleet" if facts.fleet is None else f"the fleet {facts.fleet}"
        lines = [
            f"release {facts.release_counter}: {facts.model_name} {facts.model_version}, for {whose} with"
            f" {', '.join(facts.hardware_ids)}, from daemon {facts.minimum_daemon_version} on",
            f"  sha256 {facts.model_sha256}, {self.target.length} bytes",
            *(f"  {what}: {json.dumps(part.to_json())}" for what, part in asked if part is not None),
            f"  {document.role}: version {signed.version}, until {signed.expires:%Y-%m-%d}, nothing else new",
        ]
        return "\n".join(lines)


def prepare(folder: Path, keys: Path, out: Path, fleet: str | None = None) -> Waiting:
    """Write the release that waits for signatures to a file.

    Args:
        folder: the repository.
        keys: the folder of the keys.
        out: the file.
        fleet: whose release; None: of vehicles without one.

    Raises:
        ReleaseError: none waits.
        OSError: the file cannot be written.
    """
    role = role_name(fleet)
    with locked(folder):
        waiting = _proposed(folder, load_keys(keys), role)
    if waiting is None:
        raise ReleaseError(f"no release of the role '{role}' waits for signatures")
    save(out, waiting.change)
    return waiting


def read(path: Path, trusted_root: Path | None = None, model: Path | None = None) -> Waiting:
    """Read the file on a machine that has nothing but it and a key, before somebody signs it there.

    Args:
        path: the file.
        trusted_root: root metadata that was kept here, see `ceremony.read_elsewhere`.
        model: the model file that was judged; None: the digest is compared by whoever signs.

    Raises:
        ReleaseError: it is no release, changes more than that, does not begin with what is signed, or is of
            another model.
    """
    waiting = _release_in(read_elsewhere(path, trusted_root), moment(None))
    if model is not None:
        try:
            with model.open("rb") as file:
                waiting.target.verify_length_and_hashes(file)
        except (OSError, RepositoryError) as error:
            raise ReleaseError(f"{model} is not what {path} releases: {error}") from None
    return waiting


def sign(waiting: Waiting, path: Path, uri: str, named: str | None = None) -> Waiting:
    """Sign the file by the key at `uri`. See `ceremony.sign_elsewhere`.

    Raises:
        ReleaseError: this key's signature is not needed in it.
        OSError: the file cannot be written.
    """
    sign_elsewhere(waiting.change, path, uri, named)
    return waiting


def take_signatures(folder: Path, keys: Path, path: Path) -> tuple[Waiting, list[str]]:
    """Take over the signatures of a file that comes back; what it says otherwise is not believed.

    Args:
        folder: the repository.
        keys: the folder of the keys.
        path: the file.

    Returns:
        The release, with all signatures so far, and by the keys' names those of the file that count.

    Raises:
        ReleaseError: it is not the release that waits, or a signature is forged.
        OSError: the repository cannot be written.
    """
    brought = _release_in(load(path, keys), moment(None))
    (document,) = brought.change.documents
    with locked(folder):
        ring = load_keys(keys)
        waiting = _proposed(folder, ring, document.role)
        if waiting is None:
            current = current_role(folder, document.role)
            if brought.facts not in [one.facts for one in releases_in(folder, current)]:
                raise ReleaseError(f"no release of the role '{document.role}' waits for signatures")
            documents = (replace(document, after=current),)  # signed by whom, says what vehicles see
            return replace(brought, change=replace(brought.change, documents=documents, ring=ring)), []
        if merge(waiting.change, brought.change):
            (proposed,) = waiting.change.documents
            write_durable(proposal_path(folder, proposed.role), proposed.after.to_bytes())
        counted = (keyid for keyid in document.after.signatures if keyid in waiting.change.signing_keys)
        return waiting, sorted(map(ring.name_of, counted))


def _proposed(folder: Path, ring: KeyRing, role: str) -> Waiting | None:
    path = proposal_path(folder, role)
    if not path.exists():
        return None
    current, proposed = current_role(folder, role), read_role(path)
    roles = Roles(newest_root(folder), current_role(folder, Targets.type), {role: current})
    digest = hashlib.sha256(proposed.signed_bytes).hexdigest()
    documents = (Document(role, current, proposed),)
    counters = [one.facts.release_counter for one in releases_in(folder, proposed)]
    facts = Facts(digest[:16], RELEASED, str(counters[-1]), "")
    return _release_in(KeyChange(facts, roles, documents, ring), moment(None))


def _release_in(change: KeyChange, now: datetime) -> Waiting:
    """The one release that a change adds, whatever the file says that it is.

    Raises:
        ReleaseError: it changes anything else.
    """
    found = _added(change, now)
    if found is None:
        raise ReleaseError(
            f"{change.facts.what} is not one new release and nothing else: it is not to be signed"
        )
    return found


def _added(change: KeyChange, now: datetime) -> Waiting | None:
    document = change.documents[0] if len(change.documents) == 1 else None
    if document is None or document.before is None or document.role not in change.roles.delegated:
        return None
    before, after = document.before.signed, document.after.signed
    if not isinstance(before, Targets) or not isinstance(after, Targets):
        return None
    new = set(after.targets) - set(before.targets)
    path = min(new, default="")
    if len(new) != 1 or not adds_only(after, before, path, now):
        return None
    target = after.targets[path]
    try:
        facts = from_custom(target.custom)
        earlier = [from_custom(one.custom).release_counter for one in before.targets.values()]
    except FactsError:
        return None
    is_it = facts.target_path == path and target.hashes == {"sha256": facts.model_sha256}
    is_its_fleets = document.role == role_name(facts.fleet)
    is_newest = facts.release_counter > max(earlier, default=0)
    return Waiting(facts, target, change) if is_it and is_its_fleets and is_newest else None
