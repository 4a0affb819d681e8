"""How the keys stand: who signs what, where each private key is, until when each role's metadata holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Timestamp

from cloud.release.ceremony import current_roles, pending_change
from cloud.release.errors import ReleaseError
from cloud.release.key_changes import Roles, delegated_role, role_names, roles_of
from cloud.release.keys import KeyRing, check_private, load_keys, open_to_others
from cloud.release.role_files import current_role, moment, read_role


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """A role.

    Attributes:
        role: its name.
        version: of its metadata.
        threshold: so many of its keys must sign.
        keys: their names.
        expires: end of the metadata's validity.
        days_left: until then; below 0: it is over, and vehicles refuse what is offered.
    """

    role: str
    version: int
    threshold: int
    keys: tuple[str, ...]
    expires: datetime
    days_left: float


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """A key.

    Attributes:
        name: in the ring.
        keyid: in metadata.
        roles: that it signs.
        uri: where its private key is.
        reachable: it signed a probe just now.
        trouble: why not, or what is wrong with its file.
    """

    name: str
    keyid: str
    roles: tuple[str, ...]
    uri: str
    reachable: bool
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """All of it.

    Attributes:
        roles: delegators first.
        keys: of the ring.
        retired: keys that were exchanged.
        pending: the change under way; None without one.
    """

    roles: tuple[RoleStatus, ...]
    keys: tuple[KeyStatus, ...]
    retired: tuple[dict[str, Any], ...]
    pending: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, times as ISO 8601."""
        document = asdict(self)
        for role in document["roles"]:
            role["expires"] = role["expires"].isoformat()
        return document

    def to_text(self) -> str:
        """Return it as tables, for people."""
        lines = ["role             version  keys needed                                   until"]
        for role in self.roles:
            of = f"{role.threshold} of {', '.join(role.keys)}"
            over = "  OVER" if role.days_left <= 0 else f"  {role.days_left:.0f} days"
            lines.append(f"{role.role:<16} {role.version:>7}  {of:<45} {role.expires:%Y-%m-%d %H:%M}{over}")
        lines += ["", "key              id        at hand  private key"]
        for key in self.keys:
            at_hand = "yes" if key.reachable else "no"
            trouble = f"  ({key.trouble})" if key.trouble else ""
            lines.append(f"{key.name:<16} {key.keyid[:8]}  {at_hand:<7}  {key.uri}{trouble}")
        for retired in self.retired:
            why = f"revoked: {retired['reason']}" if retired["reason"] else "rotated"
            lines.append(
                f"{retired['name']:<16} {retired['keyid'][:8]}  retired  {why}, {retired['at'][:10]}"
            )
        if self.pending is not None:
            lines += [
                "",
                f"under way: {self.pending['subject']} {self.pending['action']}, change {self.pending['id']}",
            ]
            lines += [
                f"  {line}"
                for line in self.pending["missing"] or ["all have signed: `keys sign` publishes it"]
            ]
        return "\n".join(lines)


def read_key_status(folder: Path, keys: Path, now: datetime | None = None) -> Status:
    """Look at the repository and its keys; every private key that is said to be at hand signs a probe.

    Args:
        folder: the repository.
        keys: the folder of the keys.
        now: the present time; None: by the clock.

    Raises:
        ReleaseError: either cannot be read.
    """
    ring, roles, now = load_keys(keys), current_roles(folder), moment(now)
    pending = pending_change(folder, keys)
    shown = None
    if pending is not None:
        facts = pending.facts
        shown = {
            "id": facts.id,
            "action": facts.action,
            "subject": facts.subject,
            "actor": facts.actor,
            "missing": pending.missing(),
        }
    return Status(
        tuple(_role(folder, ring, roles, name, now) for name in role_names(roles)),
        tuple(_key(ring, roles, name) for name in ring.keys),
        tuple(asdict(key) for key in ring.retired),
        shown,
    )


def _role(folder: Path, ring: KeyRing, roles: Roles, name: str, now: datetime) -> RoleStatus:
    metadata = roles.of(name)
    if metadata is None:
        path = folder / "metadata" / "timestamp.json"
        metadata = read_role(path) if name == Timestamp.type else current_role(folder, name)
    role = delegated_role(roles, name)
    left = (metadata.signed.expires - now).total_seconds() / 86400
    names = tuple(ring.name_of(keyid) for keyid in role.keyids)
    return RoleStatus(
        name, metadata.signed.version, role.threshold, names, metadata.signed.expires, round(left, 3)
    )


def _key(ring: KeyRing, roles: Roles, name: str) -> KeyStatus:
    key = ring.keys[name]
    trouble = ""
    try:
        check_private(key, ring.folder, name)
    except ReleaseError as error:
        reachable, trouble = False, str(error)
    else:
        reachable = True
        path = ring.file_of(key)
        if path is not None and open_to_others(path):
            trouble = f"others can read {path}: chmod 600"
    return KeyStatus(
        name, key.public.keyid, tuple(roles_of(roles, key.public.keyid)), key.uri, reachable, trouble
    )
