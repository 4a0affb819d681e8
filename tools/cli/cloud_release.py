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
@click.option(
    "--days", type=click.IntRange(1, 90), help="How long vehicles shall take it  [default: see above]"
)
def _bundle(
    out: Path, counter: int | None, fleet: str | None, first_root: int, config: Path, days: int | None
) -> None:
    """Write the file OUT for a stick: a release, and all by which a vehicle without a network verifies it.

    Vehicles take it until the moment that is printed: the published timestamp's end, a day from now at the
    most. With --days the online keys sign a timestamp that is in OUT alone and lasts so long.
    """
    from cloud.config import load_config
    from cloud.fleet.enrolment import operator
    from cloud.fleet.fleets import check_fleet
    from cloud.release.bundling import LongWay, write_bundle
    from cloud.release.keys import load_keys
    from cloud.store import open_database
    from cloud.store.database import audit

    loaded = load_config(config)
    if fleet is not None:
        check_fleet(loaded, fleet)
    keys = load_keys(loaded.folders.keys)
    way = LongWay(days, keys.signer("snapshot"), keys.signer("timestamp")) if days else None
    content = write_bundle(loaded.folders.repository, out, counter, fleet, first_root, way)
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
