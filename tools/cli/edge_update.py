"""`traffic-vision edge update`: the models of a vehicle, by hand."""

from __future__ import annotations

import click

from tools.cli.edge_update_install import install


@click.group("update")
def update() -> None:
    """The vehicle's models: what runs, what ran, and what comes by hand."""


update.add_command(install)
