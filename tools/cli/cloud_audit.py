"""`traffic-vision cloud audit`: who did what, registered on the group of `tools.cli.cloud`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from tools.cli.cloud_opening import CONFIG, opened_store


def register(group: click.Group) -> None:
    """Add `audit` to the group `cloud`."""
    group.add_command(_audit)


@click.group("audit")
def _audit() -> None:
    """Show and verify the audit trail: who or what enrolled, released, approved, forced, rotated, revoked."""


@_audit.command("list")
@click.option("--action", help="Only this, such as released.")
@click.option("--subject", help="Only about this, such as a vehicle's name.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line an entry.")
@CONFIG
def _list(action: str | None, subject: str | None, limit: int | None, as_json: bool, config: Path) -> None:
    """Show the entries, the oldest first."""
    from collections import deque

    from cloud.store.database import audit_entries

    with opened_store(config) as (_, store), store.reading() as session:
        chosen = (
            entry
            for entry in audit_entries(session)
            if action in (None, entry.action) and subject in (None, entry.subject)
        )
        for entry in deque(chosen, limit) if limit else chosen:
            if as_json:
                click.echo(json.dumps(asdict(entry) | {"at": entry.at.isoformat()}))
                continue
            detail = json.dumps(entry.detail) if entry.detail else ""
            at = f"{entry.at:%Y-%m-%d %H:%M:%S}"
            click.echo(
                f"{entry.id:>6}  {at}  {entry.actor}: {entry.action} {entry.subject}  {detail}".rstrip()
            )


@_audit.command("verify")
@click.option("--head", is_flag=True, help="Print the newest entry's hash alone, to be noted elsewhere.")
@click.option(
    "--since-head", metavar="HASH", help="Fail too where the entry with this hash is not there any more."
)
@CONFIG
def _verify(head: bool, since_head: str | None, config: Path) -> None:
    """Check the hash chain; the first entry that does not hold is named.

    A chain cannot show that its newest entries were cut off, or that all was written anew: note --head on
    another machine now and then, and give it back as --since-head.
    """
    from cloud.store.audit_chain import verify_chain
    from cloud.store.database import audit_entries

    with opened_store(config) as (_, store), store.reading() as session:
        verified = verify_chain(audit_entries(session), since_head)
    click.echo(verified.head if head else f"{verified.count} entries hold; the newest is {verified.head}")
