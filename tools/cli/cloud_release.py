"""`traffic-vision cloud release`: carrying releases, registered on the group of `tools.cli.cloud`."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)
_CONFIG = click.option("--config", type=_PATH, required=True, help="The cloud's cloud.toml.")


def register(group: click.Group) -> None:
    """Add `release` to the group `cloud`."""
    group.add_command(_release)


@click.group("release", invoke_without_command=True)
@click.option("--force", is_flag=True, help="Release what the gate did not let through.")
@click.option("--reason", help="Why, for the audit trail.")
@click.option(
    "--model", help="Which: a file, the start of its SHA-256, its version  [default: the last retrain's]"
)
@click.option("--config", type=_PATH, help="The cloud's cloud.toml.")
@click.pass_context
def _release(
    context: click.Context, force: bool, reason: str | None, model: str | None, config: Path | None
) -> None:
    """Carry releases to vehicles; or, with --force, release against the gate's verdict.

    A forced release needs a reason and the keys of a release, the gate's among them. The audit trail has
    who forced it, why, and against which rules. Prints one JSON line.
    """
    if context.invoked_subcommand is not None:
        if force or reason is not None or model is not None or config is not None:
            raise click.UsageError("--force, --reason, --model and --config before a command go with none")
        return
    if not force and reason is None and model is None and config is None:
        click.echo(context.get_help())
        return
    if not force:
        raise click.UsageError("what passed the gate is released by the stage deploy; the rest takes --force")
    if reason is None or config is None:
        raise click.UsageError("--force needs --reason and --config")
    import contextlib
    import json
    import sys

    from cloud.config import load_config
    from cloud.fleet.enrolment import operator
    from cloud.pipeline.forcing import force_release
    from cloud.pipeline.opening import opened

    with contextlib.redirect_stdout(sys.stderr), opened(load_config(config)) as pipeline:
        line = force_release(pipeline, reason, operator(), model)
    click.echo(json.dumps(line))


@_release.command("bundle")
@click.argument("out", type=_PATH)
@click.option("--release", "counter", type=click.IntRange(min=1), help="Which one  [default: the newest]")
@click.option("--fleet", help="Whose  [default: of vehicles without one]")
@click.option(
    "--first-root",
    type=click.IntRange(min=1),
    default=1,
    help="The oldest root that goes in  [default: 1]",
)
@_CONFIG
def _bundle(out: Path, counter: int | None, fleet: str | None, first_root: int, config: Path) -> None:
    """Write the file OUT for a stick: a release, and all by which a vehicle without a network verifies it.

    Vehicles take it until the moment that is printed, when the first of its offline roles ends (root,
    targets, or the releases'), however old its timestamp is. One that has seen newer metadata, a newer
    release, or that keys in it were revoked, refuses it. No private key is needed.
    """
    from cloud.config import load_config
    from cloud.fleet.enrolment import operator
    from cloud.fleet.fleets import check_fleet
    from cloud.release.bundling import write_bundle
    from cloud.store import open_database
    from cloud.store.database import audit

    loaded = load_config(config)
    if fleet is not None:
        check_fleet(loaded, fleet)
    content = write_bundle(loaded.folders.repository, out, counter, fleet, first_root)
    counters = [facts.release_counter for facts in content.releases]
    store = open_database(loaded.store.database)
    try:
        with store.writing() as session:
            audit(
                session,
                operator(),
                "bundled",
                ", ".join(map(str, counters)),
                fleet=fleet,
                until=content.until,
            )
    finally:
        store.close()
    for facts in content.releases:
        hardware = ", ".join(facts.hardware_ids)
        click.echo(
            f"release {facts.release_counter} ({facts.model_name} {facts.model_version}) for {hardware}"
        )
    roots = f"roots {content.roots[0]} to {content.roots[1]}"
    click.echo(f"{out}: {content.size_bytes} bytes, {roots}, until {content.until}")


@_release.command("prepare")
@click.argument("file", type=_PATH)
@click.option("--fleet", help="Whose release  [default: of release.fleet in cloud.toml]")
@_CONFIG
def _prepare(file: Path, fleet: str | None, config: Path) -> None:
    """Write FILE for the machines that reach the trainer's and the gate's key, where these are offline.

    It holds the release that waits for their signatures, and no secret.
    """
    from cloud.config import load_config
    from cloud.release.release_file import prepare

    loaded = load_config(config)
    whose = loaded.release.fleet if fleet is None else fleet
    waiting = prepare(loaded.folders.repository, loaded.folders.keys, file, whose)
    click.echo(waiting.to_text())
    click.echo("\n".join(waiting.change.missing()))


@_release.command("sign")
@click.argument("file", type=_PATH)
@click.option("--uri", required=True, help="Where the private key is on this machine.")
@click.option("--key", help="Which one it is, by name or the beginning of its id; a file says it itself.")
@click.option(
    "--root", type=_PATH, help="A root.json that you kept: FILE must begin with what its keys signed."
)
@click.option("--model", type=_PATH, help="The model file that you judged: FILE must release this one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def _sign(file: Path, uri: str, key: str | None, root: Path | None, model: Path | None, yes: bool) -> None:
    """Sign the release in FILE by the key at --uri, after a look at what it is.

    Trainer and gate each sign, in any order, the same file or copies of it. A file that would change anything
    but add one release is refused.
    """
    from cloud.release.release_file import read, sign

    waiting = read(file, root, model)
    if root is None:
        click.echo("no --root was given: that FILE begins with the true keys is its own word", err=True)
    click.echo(waiting.to_text())
    if not yes:
        click.confirm("Sign this?", abort=True)
    sign(waiting, file, uri, key)
    left = waiting.change.missing()
    click.echo("\n".join(left or ["all have signed: take it back, and `cloud release publish` publishes it"]))


@_release.command("publish")
@click.argument("file", type=_PATH)
@_CONFIG
def _publish(file: Path, config: Path) -> None:
    """Take over the signatures of FILE; with the last one the release is published, and its retrain ends.

    Nothing else in FILE is believed. Prints one JSON line.
    """
    import contextlib
    import json
    import sys

    from cloud.config import load_config
    from cloud.fleet.enrolment import operator
    from cloud.pipeline.opening import opened
    from cloud.pipeline.publishing import publish_signed

    with contextlib.redirect_stdout(sys.stderr), opened(load_config(config)) as pipeline:
        line = publish_signed(pipeline, file, operator())
    click.echo(json.dumps(line))
