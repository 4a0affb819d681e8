"""`traffic-vision cloud keys`: who may sign what, registered on the group of `tools.cli.cloud`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cloud.release.key_admin import Result

_PATH = click.Path(path_type=Path)
_CONFIG = click.option("--config", type=_PATH, required=True, help="The cloud's cloud.toml.")


def register(group: click.Group) -> None:
    """Add `keys` to the group `cloud`."""
    group.add_command(_keys)


@click.group("keys")
def _keys() -> None:
    """Show, rotate, revoke and move the keys that sign metadata and releases.

    A change that needs a key which is not at hand waits in a file for it: take that file to where the key
    is, `keys sign FILE --uri URI` there, bring it back, and `keys sign FILE --config cloud.toml`.
    """


@_keys.command("status")
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def _status(config: Path, as_json: bool) -> None:
    """Show roles, keys, where each private key is, and when each role's metadata ends."""
    from cloud.config import load_config
    from cloud.release.key_status import read_key_status

    folders = load_config(config).folders
    status = read_key_status(folders.repository, folders.keys)
    click.echo(json.dumps(status.to_json(), indent=2) if as_json else status.to_text())


@_keys.command("rotate")
@click.argument("key", metavar="KEY|ROLE")
@click.option(
    "--uri", help="Where the new private key is, as file2:/media/stick/root-1.pem or hsm:2?label=x."
)
@click.option("--public", type=_PATH, help="The new public key, PEM, where the private one is not at hand.")
@click.option("--reason", default="", help="For the audit trail.")
@_CONFIG
def _rotate(key: str, uri: str | None, public: Path | None, reason: str, config: Path) -> None:
    """Put a new key in KEY's place, or in the place of all of ROLE's: made here unless given."""
    _exchange(key, uri, public, reason, config, revoke=False)


@_keys.command("revoke")
@click.argument("key", metavar="KEY|ROLE")
@click.option("--reason", required=True, help="For the audit trail.")
@click.option("--uri", help="Where the new private key is.")
@click.option("--public", type=_PATH, help="The new public key, PEM, where the private one is not at hand.")
@_CONFIG
def _revoke(key: str, uri: str | None, public: Path | None, reason: str, config: Path) -> None:
    """Take KEY out, which may be in other hands: what it signs counts no more; a new one comes in its place.

    Where it was enough to sign a role alone, snapshot and timestamp get new keys with it.
    """
    _exchange(key, uri, public, reason, config, revoke=True)


@_keys.command("renew")
@click.argument("role", default="all")
@_CONFIG
def _renew(role: str, config: Path) -> None:
    """Sign ROLE anew for a year, with the same keys  [default: all that are signed offline]."""
    from cloud.config import load_config
    from cloud.fleet.enrolment import operator
    from cloud.release import key_admin

    _show(key_admin.renew(load_config(config), role, operator()))


@_keys.command("delegate")
@click.argument("fleet")
@click.option("--own-keys", is_flag=True, help="Its releases need a trainer's and a gate's key of its own.")
@_CONFIG
def _delegate(fleet: str, own_keys: bool, config: Path) -> None:
    """Give FLEET a role of its own: releases that its vehicles take and no others."""
    from cloud.config import load_config
    from cloud.fleet.enrolment import operator
    from cloud.release import key_admin

    _show(key_admin.delegate(load_config(config), fleet, operator(), own_keys))


@_keys.command("move")
@click.argument("key")
@click.argument("uri")
@click.option("--unchecked", is_flag=True, help="This machine does not reach it there: believe it.")
@_CONFIG
def _move(key: str, uri: str, unchecked: bool, config: Path) -> None:
    """Say that KEY's private key is at URI now: file2:PATH, hsm:..., or offline: for another machine's.

    It signs a probe there first. The file that it was in is left to you to destroy.
    """
    from cloud.config import load_config
    from cloud.fleet.enrolment import operator
    from cloud.release import key_admin

    key_admin.move(load_config(config), key, uri, operator(), check=not unchecked and uri != "offline:")
    click.echo(f"{key}: at {uri}")


@_keys.command("sign")
@click.argument("file", type=_PATH, required=False)
@click.option(
    "--config", type=_PATH, help="The cloud's cloud.toml; without it, FILE alone is signed, by --uri."
)
@click.option("--uri", help="Where the private key is on this machine.")
@click.option("--key", help="Which one it is, by name or the beginning of its id; a file says it itself.")
@click.option(
    "--root", type=_PATH, help="A root.json that you kept: FILE must begin with what its keys signed."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def _sign(
    file: Path | None, config: Path | None, uri: str | None, key: str | None, root: Path | None, yes: bool
) -> None:
    """Sign the change of keys that is under way by every key at hand; the last signature publishes it.

    With --config, FILE is a copy that was signed elsewhere: its signatures are taken over. Without, FILE is
    signed here by the key at --uri, after a look at what it would change.
    """
    from cloud.config import load_config
    from cloud.release import key_admin
    from cloud.release.ceremony import read_elsewhere, sign_elsewhere

    if config is not None:
        if uri or key or root:
            raise click.UsageError("--uri, --key and --root are for a machine that has FILE alone")
        _show(key_admin.sign(load_config(config), file))
        return
    if file is None or uri is None:
        raise click.UsageError("give --config, or FILE and --uri")
    change = read_elsewhere(file, root)
    if root is None:
        click.echo("no --root was given: that FILE begins with the true keys is its own word", err=True)
    click.echo("\n".join(change.differences()))
    if not yes:
        click.confirm("Sign this?", abort=True)
    change = sign_elsewhere(change, file, uri, key)
    click.echo(
        "\n".join(change.missing() or ["all have signed: take it back, and `cloud keys sign` publishes it"])
    )


@_keys.command("abandon")
@_CONFIG
def _abandon(config: Path) -> None:
    """Give up the change of keys that is under way, and the keys that were made for it."""
    from cloud.config import load_config
    from cloud.fleet.enrolment import operator
    from cloud.release import key_admin

    change = key_admin.abandon(load_config(config), operator())
    click.echo(f"change {change.facts.id} is given up")


def _exchange(
    key: str, uri: str | None, public: Path | None, reason: str, config: Path, revoke: bool
) -> None:
    from cloud.config import load_config
    from cloud.fleet.enrolment import operator
    from cloud.release import key_admin
    from cloud.release.keys import given_key

    loaded = load_config(config)
    given = given_key(loaded.folders.keys, uri, public) if uri or public else None
    _show(key_admin.rotate(loaded, key, operator(), reason, given, revoke))


def _show(result: Result) -> None:
    for line in result.change.differences():
        click.echo(line)
    if result.published:
        click.echo("published")
        for key in result.change.ring.retired:
            path = result.change.ring.file_of(key)
            if key.keyid in result.change.facts.retired and (path is None or path.exists()):
                click.echo(f"destroy the old private key '{key.name}' at {key.uri}")
        return
    click.echo(f"not published yet: {result.file} needs more signatures")
    for line in result.change.missing():
        click.echo(f"  {line}")
