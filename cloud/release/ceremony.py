"""Changes of keys, from the wish on: begun, and signed by all who must, here or where the keys are.

begin_... -> folder/pending/keys.json -> sign_... -> publish (key_publishing.py)
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import DelegatedRole, Targets

from cloud.release.change_file import (
    Facts,
    KeyChange,
    check_before,
    load,
    merge,
    pending_path,
    save,
    sign,
)
from cloud.release.errors import ReleaseError
from cloud.release.key_changes import (
    ONLINE_ROLES,
    Roles,
    delegate,
    delegated_role,
    exchange,
    role_names,
    with_online_keys,
)
from cloud.release.key_publishing import begun, signers_at_hand
from cloud.release.keys import (
    RELEASE_KEYS,
    KeyRing,
    RetiredKey,
    RoleKey,
    check_private,
    given_key,
    load_keys,
    new_key,
    signer_at,
)
from cloud.release.locking import locked
from cloud.release.role_files import current_role, moment, newest_root, read_role
from protos.release_facts import FactsError, path_of_fleet, role_of_fleet

_LEAST_DIGITS = 8  # of a key's id that stand for it


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants a change of keys, and why.

    Attributes:
        actor: for the audit trail.
        reason: why; revoking a key needs one.
    """

    actor: str
    reason: str = ""


def current_roles(folder: Path) -> Roles:
    """Return the roles that are signed offline, as vehicles see them.

    Raises:
        ReleaseError: there is no readable repository.
    """
    targets = current_role(folder, Targets.type)
    delegations = targets.signed.delegations
    names = {} if delegations is None or delegations.roles is None else delegations.roles
    return Roles(newest_root(folder), targets, {name: current_role(folder, name) for name in names})


def begin_rotation(
    folder: Path,
    keys: Path,
    subject: str,
    wish: Wish,
    *,
    given: RoleKey | None = None,
    revoke: bool = False,
    now: datetime | None = None,
) -> KeyChange:
    """Exchange a key, or all keys of a role, for new ones, and sign with what is at hand.

    Args:
        folder: the repository.
        keys: the folder of the keys.
        subject: a key's name or a role's.
        wish: who and why.
        given: the key that comes; None: it is made here.
        revoke: the key is in other hands: where it was enough to sign a role alone, the online keys change
            with it, so that vehicles forget versions that a thief raised.
        now: the present time; None: by the clock.

    Raises:
        ReleaseError: there is no such key or role, another change is under way, or `given` cannot be used.
        OSError: the folders cannot be written.
    """
    with locked(folder):
        now = moment(now)
        ring, roles = load_keys(keys), current_roles(folder)
        old = _keyids(ring, roles, subject)
        if given is not None and len(old) != 1:
            raise ReleaseError(f"one key cannot come in the place of {len(old)}: name one of them")
        _refuse_second(folder)
        more = with_online_keys(roles, old) if revoke else []
        exchanged = {keyid: _replacement(ring, keyid, given) for keyid in old}
        exchanged |= {keyid: _replacement(ring, keyid, None) for keyid in more}
        documents = exchange(roles, {keyid: key.public for keyid, (_, key) in exchanged.items()}, (), now)
        made = [key for _, key in exchanged.values() if key is not given]
        action = "revoked" if revoke else "rotated"
        facts = _facts(action, subject, wish, exchanged, _files(keys, made, ring))
        after = _exchanged_ring(ring, exchanged, wish.reason if revoke else "", now)
        return _begin(folder, ring, KeyChange(facts, roles, tuple(documents), after))


def begin_renewal(
    folder: Path, keys: Path, role_or_all: str, wish: Wish, now: datetime | None = None
) -> KeyChange:
    """Sign a role anew with the same keys, for a year from now: "all" for each that is signed offline.

    Raises:
        ReleaseError: there is no such role, or another change is under way.
        OSError: the folders cannot be written.
    """
    with locked(folder):
        ring, roles = load_keys(keys), current_roles(folder)
        names = [name for name in role_names(roles) if name not in ONLINE_ROLES]
        chosen = names if role_or_all == "all" else [role_or_all]
        if not set(chosen) <= set(names):
            raise ReleaseError(
                f"'{role_or_all}' is no role that is signed offline; there are {', '.join(names)}"
            )
        _refuse_second(folder)
        documents = exchange(roles, {}, chosen, moment(now))
        facts = _facts("renewed", role_or_all, wish)
        return _begin(folder, ring, KeyChange(facts, roles, tuple(documents), ring))


def begin_delegation(
    folder: Path, keys: Path, fleet: str, wish: Wish, *, own_keys: bool = False, now: datetime | None = None
) -> KeyChange:
    """Give a fleet a role of its own: releases that only its vehicles take.

    Args:
        folder: the repository.
        keys: the folder of the keys.
        fleet: its name.
        wish: who and why.
        own_keys: its releases are signed by a trainer's and a gate's key of its own.
        now: the present time; None: by the clock.

    Raises:
        ReleaseError: the name is none, the fleet is there, or another change is under way.
        OSError: the folders cannot be written.
    """
    try:
        name, paths = role_of_fleet(fleet), [f"{path_of_fleet(fleet)}*"]
    except FactsError as error:
        raise ReleaseError(str(error)) from None
    with locked(folder):
        ring, roles = load_keys(keys), current_roles(folder)
        _refuse_second(folder)
        own: dict[str, RoleKey] = {}
        if own_keys and name not in roles.delegated:
            own = {f"{fleet}-{step}": new_key(keys, f"{fleet}-{step}", 1) for step in RELEASE_KEYS}
        after = replace(ring, keys={**ring.keys, **own})
        public = [after.public(after.release_key(step, fleet)) for step in RELEASE_KEYS]
        role = DelegatedRole(name, [], len(RELEASE_KEYS), terminating=True, paths=paths)
        documents = delegate(roles, role, public, moment(now))
        facts = _facts("delegated", fleet, wish, made=_files(keys, own.values(), ring))
        return _begin(folder, ring, KeyChange(facts, roles, tuple(documents), after))


def pending_change(folder: Path, keys: Path) -> KeyChange | None:
    """Return the change that is under way.

    Raises:
        ReleaseError: what is there is none.
    """
    path = pending_path(folder)
    return load(path, keys) if path.exists() else None


def sign_pending(folder: Path, keys: Path, collected: Path | None = None) -> KeyChange:
    """Sign the change under way by every key that is at hand.

    Args:
        folder: the repository.
        keys: the folder of the keys.
        collected: a copy of the change that was signed elsewhere; its signatures are taken over.

    Raises:
        ReleaseError: no change is under way, or the copy is of another.
        OSError: the folders cannot be written.
    """
    with locked(folder):
        change = load(pending_path(folder), keys)
        if collected is not None:
            merge(change, load(collected, keys))
        sign(change, signers_at_hand(load_keys(keys), change, change.signing_keys))
        save(pending_path(folder), change)
        return change


def abandon(folder: Path, keys: Path) -> KeyChange:
    """Give the change under way up, and the keys that were made for it.

    Raises:
        ReleaseError: none is under way, or vehicles see it already.
        OSError: the folders cannot be written.
    """
    with locked(folder):
        change = load(pending_path(folder), keys)
        if begun(folder, change):
            raise ReleaseError("vehicles see this change already: finish it by `keys sign`")
        for name in change.facts.made:
            (keys / name).unlink(missing_ok=True)
        pending_path(folder).unlink()
        return change


def read_elsewhere(path: Path, trusted_root: Path | None = None) -> KeyChange:
    """Read a copy of a change on a machine that has no repository, before somebody signs it there.

    Args:
        path: the copy.
        trusted_root: root metadata that was kept here: this version, or an earlier one that had enough of the
            same keys.

    Raises:
        ReleaseError: it is no change of keys, or does not begin with what is signed by that root's keys.
    """
    change = load(path, Path())
    check_before(change, None if trusted_root is None else read_role(trusted_root))
    return change


def sign_elsewhere(change: KeyChange, path: Path, uri: str, named: str | None = None) -> KeyChange:
    """Sign a copy of a change on a machine that has nothing but it and a key.

    Args:
        change: by `read_elsewhere`.
        path: the copy; signatures are put into it.
        uri: of the private key; a relative file begins at the present folder.
        named: which key it is, by name or by the beginning of its id; None: the file says it.

    Raises:
        ReleaseError: this key's signature is not needed in it.
        OSError: the copy cannot be written.
    """
    if named is None:
        named = given_key(Path(), uri, None).public.keyid
    by_name = change.ring.keys.get(named)
    wanted = by_name.public.keyid if by_name is not None else named
    found = [
        key
        for keyid, key in change.signing_keys.items()
        if len(wanted) >= _LEAST_DIGITS and keyid.startswith(wanted)
    ]
    if len(found) != 1:
        raise ReleaseError(f"key '{named}' has nothing to sign in {path}")
    key = RoleKey(found[0], uri)
    check_private(key, Path(), named)
    sign(change, {key.public.keyid: signer_at(key, Path(), named)})
    save(path, change)
    return change


def _begin(folder: Path, ring: KeyRing, change: KeyChange) -> KeyChange:
    sign(change, signers_at_hand(ring, change, change.signing_keys))
    save(pending_path(folder), change)
    return change


def _refuse_second(folder: Path) -> None:
    if pending_path(folder).exists():
        raise ReleaseError(
            "another change of keys is under way: finish it by `keys sign`, or give it up by `keys abandon`"
        )


def _facts(
    action: str, subject: str, wish: Wish, retired: Iterable[str] = (), made: Iterable[str] = ()
) -> Facts:
    return Facts(secrets.token_hex(8), action, subject, wish.actor, wish.reason, tuple(retired), tuple(made))


def _keyids(ring: KeyRing, roles: Roles, subject: str) -> list[str]:
    if subject in ring.keys:
        return [ring.public(subject).keyid]
    if subject in role_names(roles):
        return list(delegated_role(roles, subject).keyids)
    raise ReleaseError(
        f"'{subject}' is no key and no role; keys: {', '.join(ring.keys)};"
        f" roles: {', '.join(role_names(roles))}"
    )


def _replacement(ring: KeyRing, keyid: str, given: RoleKey | None) -> tuple[str, RoleKey]:
    """Return the name of a key and what comes in its place."""
    name = next((name for name, key in ring.keys.items() if key.public.keyid == keyid), None)
    if name is None:
        raise ReleaseError(
            f"key {keyid} of the metadata is not in {ring.folder}: bring its entry in keys.json back"
        )
    if given is None:
        return name, new_key(ring.folder, name, 2 + sum(key.name == name for key in ring.retired))
    known = {key.public.keyid for key in ring.keys.values()} | {key.keyid for key in ring.retired}
    if given.public.keyid in known:
        raise ReleaseError(f"{given.uri} is a key that has a role, or had one: each is used once")
    return name, given


def _exchanged_ring(
    ring: KeyRing, exchanged: Mapping[str, tuple[str, RoleKey]], reason: str, now: datetime
) -> KeyRing:
    retired = tuple(
        RetiredKey(name, keyid, ring.keys[name].uri, now.isoformat(), reason)
        for keyid, (name, _) in exchanged.items()
    )
    keys = {**ring.keys, **dict(exchanged.values())}
    return replace(ring, keys=keys, retired=ring.retired + retired)


def _files(keys: Path, made: Iterable[RoleKey], ring: KeyRing) -> list[str]:
    paths = (ring.file_of(key) for key in made)
    return [path.name for path in paths if path is not None and path.parent == keys]
