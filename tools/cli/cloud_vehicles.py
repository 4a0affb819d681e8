"""`traffic-vision cloud vehicles`: who is enrolled, and the end of an identity."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tools.cli.cloud_opening import CONFIG, opened_store


def register(group: click.Group) -> None:
    """Add the group `vehicles` to the group `cloud`."""
    group.add_command(_vehicles)


@click.group("vehicles")
def _vehicles() -> None:
    """List the vehicles, vouch for one, and take one's identity away."""


@_vehicles.command("list")
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def _list(config: Path, as_json: bool) -> None:
    """Show each vehicle's certificate, connection, daemon and model."""
    from cloud.fleet.vehicles import list_vehicles, to_text

    with opened_store(config) as (_, store):
        vehicles = list_vehicles(store)
    click.echo(
        json.dumps([vehicle.to_json() for vehicle in vehicles], indent=2) if as_json else to_text(vehicles)
    )


@_vehicles.command("revoke")
@click.argument("vehicle")
@click.option("--reason", required=True, help="For the audit trail.")
@CONFIG
def _revoke(vehicle: str, reason: str, config: Path) -> None:
    """Take VEHICLE's identity away for good: from now on it gets nothing, and its name is not given again."""
    from cloud.config import load_config
    from cloud.fleet.vehicles import revoke

    revoke(load_config(config), vehicle, reason)
    click.echo(f"{vehicle}: revoked")


@_vehicles.command("accept")
@click.argument("vehicles", nargs=-1, metavar="[VEHICLE]...")
@click.option("--all", "accept_all", is_flag=True, help="Every vehicle: the cloud's database was restored.")
@click.option("--reason", required=True, help="For the audit trail.")
@CONFIG
def _accept(vehicles: tuple[str, ...], accept_all: bool, reason: str, config: Path) -> None:
    """Vouch for each VEHICLE: its state was lost or restored, and nobody has a copy of its identity.

    A report that the identity is used twice counts no more, and whoever comes under it next is taken for the
    vehicle. Where there may be a copy, enrol the vehicle anew instead.
    """
    from cloud.config import load_config
    from cloud.fleet.vehicles import accept

    if bool(vehicles) == accept_all:
        raise click.UsageError("name the vehicles, or say --all")
    for vehicle in accept(load_config(config), vehicles, reason):
        click.echo(f"{vehicle}: accepted")
