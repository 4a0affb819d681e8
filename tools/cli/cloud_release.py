"""`traffic-vision cloud release`: carrying releases, registered on the group of `tools.cli.cloud`."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)
_CONFIG = click.option("--config", type=_PATH, required=True, help="The cloud's cloud.toml.")


def register(group: click.Group) -> None:
    """Add `release` to the group `cloud`."""
    group.add_command(_release)


@click.group("release")
def _release() -> None:
    """Carry releases to vehicles."""


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
