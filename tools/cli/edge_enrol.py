"""`traffic-vision edge enrol`: from a ticket to a vehicle's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import click

_PATH = click.Path(path_type=Path)


def register(group: click.Group) -> None:
    """Add the command to the group `edge`."""
    group.add_command(_enrol)


@click.command("enrol")
@click.argument("ticket", type=click.File("r"))
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option("--camera", "cameras", multiple=True, metavar="NAME=URL", help="A camera or recording; repeat.")
@click.option("--model", type=_PATH, help="The model file that the vehicle starts with.")
def _enrol(ticket: TextIO, folder: Path, cameras: tuple[str, ...], model: Path | None) -> None:
    """Make this vehicle's key and get its certificate with TICKET, a file, or - for standard input.

    DIR then holds edge.toml, the authority that the cloud must have, the root that updates are checked
    against, and in its state folder the key, which never leaves this machine. What edge.toml says already is
    never changed. With the same ticket it may be run again until it has worked.
    """
    from edge.fleet.enrolment import CONFIG_FILE, VehicleChoices, enrol

    named = dict(camera.partition("=")[::2] for camera in cameras)
    if not all(named) or not all(named.values()):
        raise click.BadParameter("expected NAME=URL", param_hint="--camera")
    # A line is enough: who pastes it need not end the input too.
    enrolled = enrol(ticket.readline(), folder, VehicleChoices(named, model))
    click.echo(folder / CONFIG_FILE)
    click.echo(f"{enrolled.vehicle}: enrolled, with a certificate until {enrolled.ends:%Y-%m-%d}", err=True)
    if enrolled.missing:
        click.echo(f"{CONFIG_FILE} is as it was, and needs:\n{enrolled.missing}", err=True)
    if enrolled.floors:
        click.echo(
            f"{CONFIG_FILE} is as it was; against old releases and wrong clocks, its [updates] should say:\n"
            f"{enrolled.floors}",
            err=True,
        )
    if enrolled.open_to_others is not None:
        click.echo(
            f"others may look into the folder with the key: chmod 700 {enrolled.open_to_others}", err=True
        )
