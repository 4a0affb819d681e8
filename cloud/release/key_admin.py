"""Changes of keys as the owner makes them: begun, published where all have signed, and in the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select

from cloud.config import CloudConfig
from cloud.release import ceremony, key_publishing
from cloud.release.change_file import KeyChange, pending_path
from cloud.release.keys import RoleKey, load_keys, move_key
from cloud.store import open_database
from cloud.store.audit_entry import AuditEntry
from cloud.store.database import audit


@dataclass(frozen=True, slots=True)
class Result:
    """How far a change came.

    Attributes:
        change: it.
        published: vehicles see it.
        file: where it collects signatures, where it is not published yet.
    """

    change: KeyChange
    published: bool
    file: Path


def rotate(
    config: CloudConfig,
    subject: str,
    actor: str,
    reason: str = "",
    given: RoleKey | None = None,
    revoke: bool = False,
) -> Result:
    """Exchange a key, or all keys of a role. See `ceremony.begin_rotation`."""
    folders, wish = config.folders, ceremony.Wish(actor, reason)
    return _carry_out(
        config,
        "revoked" if revoke else "rotated",
        subject,
        lambda: ceremony.begin_rotation(
            folders.repository, folders.keys, subject, wish, given=given, revoke=revoke
        ),
    )


def renew(config: CloudConfig, role_or_all: str, actor: str) -> Result:
    """Sign roles anew for a year. See `ceremony.begin_renewal`."""
    folders, wish = config.folders, ceremony.Wish(actor)
    return _carry_out(
        config,
        "renewed",
        role_or_all,
        lambda: ceremony.begin_renewal(folders.repository, folders.keys, role_or_all, wish),
    )


def delegate(config: CloudConfig, fleet: str, actor: str, own_keys: bool) -> Result:
    """Give a fleet its role. See `ceremony.begin_delegation`."""
    folders, wish = config.folders, ceremony.Wish(actor)
    return _carry_out(
        config,
        "delegated",
        fleet,
        lambda: ceremony.begin_delegation(folders.repository, folders.keys, fleet, wish, own_keys=own_keys),
    )


def sign(config: CloudConfig, collected: Path | None = None) -> Result:
    """Sign the change under way, and publish it where that was the last signature."""
    change = ceremony.sign_pending(config.folders.repository, config.folders.keys, collected)
    return _go_on(config, change, is_new=False)


def abandon(config: CloudConfig, actor: str) -> KeyChange:
    """Give the change under way up."""
    change = ceremony.abandon(config.folders.repository, config.folders.keys)
    _write_down(config, "abandoned", _by(change, actor))
    return change


def move(config: CloudConfig, name: str, uri: str, actor: str, check: bool) -> None:
    """Say where a private key is now. See `keys.move_key`."""
    ring = load_keys(config.folders.keys)
    ring.public(name)
    before = ring.keys[name].uri
    move_key(ring, name, uri, check)
    store = open_database(config.store.database)
    try:
        with store.writing() as session:
            audit(session, actor, "key moved", name, before=before, after=uri)
    finally:
        store.close()


def _carry_out(config: CloudConfig, action: str, subject: str, begin: Callable[[], KeyChange]) -> Result:
    """Begin a change and go as far as possible; where a kill came into the same one before, go on with it."""
    pending = ceremony.pending_change(config.folders.repository, config.folders.keys)
    if pending is not None and not pending.missing():
        result = _go_on(config, pending, is_new=False)
        if (pending.facts.action, pending.facts.subject) == (action, subject):
            return result
    return _go_on(config, begin(), is_new=True)


def _go_on(config: CloudConfig, change: KeyChange, is_new: bool) -> Result:
    folders, file = config.folders, pending_path(config.folders.repository)
    if change.missing():
        if is_new:
            _write_down(config, "begun", change)
        return Result(change, False, file)
    key_publishing.publish(folders.repository, folders.keys)
    _write_down(config, change.facts.action, change)
    key_publishing.finish(folders.repository)
    return Result(change, True, file)


def _write_down(config: CloudConfig, step: str, change: KeyChange) -> None:
    """Write a step into the audit trail; once, though a kill may have it done twice."""
    facts = change.facts
    action = f"keys {step}" if facts.action != "delegated" else f"fleet {step}"
    store = open_database(config.store.database)
    try:
        with store.writing() as session:
            query = select(AuditEntry).where(AuditEntry.action == action, AuditEntry.subject == facts.subject)
            if any(entry.detail.get("change") == facts.id for entry in session.scalars(query)):
                return
            audit(
                session,
                facts.actor,
                action,
                facts.subject,
                change=facts.id,
                reason=facts.reason,
                what=facts.action,
                retired=list(facts.retired),
                metadata=[f"{entry.role} {entry.after.signed.version}" for entry in change.documents],
            )
    finally:
        store.close()


def _by(change: KeyChange, actor: str) -> KeyChange:
    return replace(change, facts=replace(change.facts, actor=actor))
