"""What a change of keys changes: which metadata is written anew, and whose signatures it needs. No I/O.

A key stands in its delegator's metadata: root's and the online roles' keys in root, the releases' keys in
targets. Exchanging one makes the next version of the delegator, and of every role whose own signatures no
longer count then. Snapshot and timestamp are not here: they are signed when the change is published.

Methods: The Update Framework specification 1.0.34, 5.3 (root) and 6 (fast-forward attacks, key rotation).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.signer import Key
from tuf.api.metadata import (
    TOP_LEVEL_ROLE_NAMES,
    DelegatedRole,
    Metadata,
    Role,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)

from cloud.release.errors import ReleaseError
from cloud.release.role_files import OFFLINE_VALIDITY

ONLINE_ROLES = (Snapshot.type, Timestamp.type)


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles that are signed offline, as they are now.

    Attributes:
        root: the newest root.
        targets: the top-level targets.
        delegated: name -> each role that signs releases.
    """

    root: Metadata[Root]
    targets: Metadata[Targets]
    delegated: Mapping[str, Metadata[Targets]]

    def of(self, role: str) -> Metadata[Any] | None:
        """Return a role's metadata; None for one that is not there."""
        top: dict[str, Metadata[Any]] = {Root.type: self.root, Targets.type: self.targets}
        return top.get(role) or self.delegated.get(role)


@dataclass(frozen=True, slots=True)
class Document:
    """One role's metadata before and after the change.

    Attributes:
        role: its name.
        before: None for a role that is new.
        after: the next version; signatures are collected in it.
    """

    role: str
    before: Metadata[Any] | None
    after: Metadata[Any]


def roles_of(roles: Roles, keyid: str) -> list[str]:
    """Return the names of the roles that a key signs, delegators first."""
    return [
        name for name, role in _all_roles(roles.root.signed, roles.targets.signed) if keyid in role.keyids
    ]


def role_names(roles: Roles) -> list[str]:
    """Return every role's name, delegators first."""
    return [name for name, _ in _all_roles(roles.root.signed, roles.targets.signed)]


def delegated_role(roles: Roles, name: str) -> Role:
    """Return which keys sign a role, and how many must.

    Raises:
        ReleaseError: there is no such role.
    """
    for found, role in _all_roles(roles.root.signed, roles.targets.signed):
        if found == name:
            return role
    raise ReleaseError(f"there is no role '{name}'; there are {', '.join(role_names(roles))}")


def with_online_keys(roles: Roles, revoked: Collection[str]) -> list[str]:
    """Return which keys of the online roles go together with revoked ones.

    Whoever had enough keys of a role to sign it could raise its version beyond all reach (a fast-forward
    attack). Clients forget the versions that they saw when the keys of timestamp and snapshot change, and
    never else.
    """
    reached = any(
        len(set(role.keyids).intersection(revoked)) >= role.threshold
        for _, role in _all_roles(roles.root.signed, roles.targets.signed)
    )
    online = [keyid for role in ONLINE_ROLES for keyid in roles.root.signed.roles[role].keyids]
    return [keyid for keyid in online if keyid not in revoked] if reached else []


def exchange(
    roles: Roles, exchanged: Mapping[str, Key], renewed: Collection[str], now: datetime
) -> list[Document]:
    """Make the metadata in which keys are exchanged, unsigned, delegators first.

    Args:
        roles: as they are now.
        exchanged: id of a key that goes -> the key that comes in its place, in each of its roles.
        renewed: roles that get a new version, and with it a new expiry, even so.
        now: the present time, whole seconds.
    """
    root, targets = copy.deepcopy(roles.root.signed), copy.deepcopy(roles.targets.signed)
    affected = set(renewed)
    for keyid, key in exchanged.items():
        for role in roles_of(roles, keyid):
            delegator = root if role in TOP_LEVEL_ROLE_NAMES else targets
            delegator.revoke_key(keyid, role)
            delegator.add_key(key, role)
            affected |= {role, Root.type if role in TOP_LEVEL_ROLE_NAMES else Targets.type}
    after: dict[str, Any] = {Root.type: root, Targets.type: targets}
    after |= {name: copy.deepcopy(metadata.signed) for name, metadata in roles.delegated.items()}
    return [_document(roles, role, after[role], now) for role in after if role in affected]


def delegate(roles: Roles, role: DelegatedRole, keys: Collection[Key], now: datetime) -> list[Document]:
    """Make the metadata in which targets delegate to a new, empty role, unsigned.

    Raises:
        ReleaseError: a role of that name is there.
    """
    if role.name in role_names(roles):
        raise ReleaseError(f"there is a role '{role.name}' already")
    targets = copy.deepcopy(roles.targets.signed)
    if targets.delegations is None or targets.delegations.roles is None:
        raise ReleaseError("the targets metadata delegates to no role by name: it is not of this program")
    targets.delegations.roles[role.name] = role
    for key in keys:
        targets.add_key(key, role.name)
    empty = Metadata(Targets(expires=now + OFFLINE_VALIDITY))
    return [_document(roles, Targets.type, targets, now), Document(role.name, None, empty)]


def signing_keyids(documents: Collection[Document], roles: Roles, document: Document) -> dict[str, Key]:
    """Return the keys whose signature under a document counts for somebody: id -> key.

    Of root's and targets' keys the old ones too: root needs them, and by the others a vehicle that did not
    see the new root yet can read what is new.
    """
    found: dict[str, Key] = {}
    for delegator in _delegators(documents, roles, document):
        role = delegator.get_delegated_role(document.role)
        found |= {keyid: delegator.get_key(keyid) for keyid in role.keyids if keyid in delegator.keys_by_id}
    return found


def missing(documents: Collection[Document], roles: Roles, document: Document) -> dict[str, int]:
    """Return whose signatures a document still needs: what for -> how many.

    A new key must sign too, whatever the threshold: a public key without its private one would be found out
    when it is needed.
    """
    data, signatures = document.after.signed_bytes, document.after.signatures
    needed: dict[str, int] = {}
    for delegator in _delegators(documents, roles, document, only_needed=True):
        result = delegator.signed.get_verification_result(document.role, data, signatures)
        if result.missing:
            needed[f"{delegator.shown} ({len(result.signed)} of {result.threshold})"] = result.missing
    newest = _delegators(documents, roles, document)[-1]
    added = set(newest.get_delegated_role(document.role).keyids)
    if document.before is not None:
        added -= set(delegated_role(roles, document.role).keyids)
    signed = newest.signed.get_verification_result(document.role, data, signatures).signed
    absent = added - set(signed)
    if absent and not needed:
        needed["the new keys"] = len(absent)
    return needed


def differences(document: Document, roles: Roles) -> list[str]:
    """Say what a document changes, by a look at both versions and not by what was announced.

    Keys are shown by the first 8 digits of their id.
    """
    before, after = document.before.signed if document.before else None, document.after.signed
    version = f"version {after.version}, until {after.expires:%Y-%m-%d}"
    if before is None:
        return [f"{document.role}: new, {version}"]
    lines = [f"{document.role}: {version} (was {before.version}, until {before.expires:%Y-%m-%d})"]
    if isinstance(after, (Root, Targets)):
        lines += _role_differences(before, after)
    plain_before, plain_after = _without_keys(before), _without_keys(after)
    others = [name for name in plain_after | plain_before if plain_before.get(name) != plain_after.get(name)]
    if others:
        lines.append(f"  OTHER CHANGES in {', '.join(sorted(others))}")
    return lines


@dataclass(frozen=True, slots=True)
class _Delegator:
    signed: Any  # Root or Targets
    shown: str

    @property
    def keys_by_id(self) -> Mapping[str, Key]:
        if isinstance(self.signed, Root):
            return self.signed.keys
        delegations = self.signed.delegations
        return {} if delegations is None else delegations.keys

    def get_delegated_role(self, role: str) -> Role:
        found: Role = self.signed.get_delegated_role(role)
        return found

    def get_key(self, keyid: str) -> Key:
        found: Key = self.signed.get_key(keyid)
        return found


def _delegators(
    documents: Collection[Document], roles: Roles, document: Document, only_needed: bool = False
) -> list[_Delegator]:
    """Return who says which keys count, the old one first; the newest is always the last.

    For root both must be content. For targets the old one is of help, but not needed; for the releases'
    roles it is neither, since vehicles get them together with their delegator.
    """
    name = Root.type if document.role in TOP_LEVEL_ROLE_NAMES else Targets.type
    current = roles.of(name)
    assert current is not None
    changed = next((entry.after for entry in documents if entry.role == name), None)
    if changed is None:
        return [_Delegator(current.signed, f"the present {name}'s keys")]
    newest = _Delegator(changed.signed, f"the next {name}'s keys")
    if document.role not in (Root.type, Targets.type) or (only_needed and document.role != Root.type):
        return [newest]
    return [_Delegator(current.signed, f"the present {name}'s keys"), newest]


def _document(roles: Roles, role: str, after: Signed, now: datetime) -> Document:
    after.version += 1
    after.expires = now + OFFLINE_VALIDITY
    return Document(role, roles.of(role), Metadata(after))


def _all_roles(root: Root, targets: Targets) -> Iterator[tuple[str, Role]]:
    for name in (Root.type, Targets.type, *ONLINE_ROLES):
        yield name, root.roles[name]
    delegations = targets.delegations
    yield from ({} if delegations is None or delegations.roles is None else delegations.roles).items()


def _role_differences(before: Root | Targets, after: Root | Targets) -> Iterator[str]:
    old, new = _roles_in(before), _roles_in(after)
    for name in old | new:
        was, now = old.get(name), new.get(name)
        if now is None:
            yield f"  role {name}: TAKEN OUT"
            continue
        ins = set(now.keyids) - set(was.keyids if was else ())
        outs = set(was.keyids if was else ()) - set(now.keyids)
        changes = [f"key {keyid[:8]} comes" for keyid in sorted(ins)]
        changes += [f"key {keyid[:8]} goes" for keyid in sorted(outs)]
        if was is None or was.threshold != now.threshold:
            changes.append(f"threshold {now.threshold} of {len(now.keyids)}")
        if isinstance(now, DelegatedRole) and (was is None or _reach(was) != _reach(now)):
            changes.append(f"paths {', '.join(now.paths or ())}")
        if changes:
            yield f"  role {name}: {', '.join(changes)}"


def _roles_in(signed: Root | Targets) -> dict[str, Role]:
    if isinstance(signed, Root):
        return dict(signed.roles)
    delegations = signed.delegations
    return {} if delegations is None or delegations.roles is None else dict(delegations.roles)


def _reach(role: Role) -> object:
    return (role.paths, role.terminating) if isinstance(role, DelegatedRole) else None


def _without_keys(signed: Signed) -> dict[str, Any]:
    """What must not change with the keys: a target above all."""
    document = signed.to_dict()
    for name in ("version", "expires", "keys", "roles", "delegations"):
        document.pop(name, None)
    return document
