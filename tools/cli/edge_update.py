"""`traffic-vision edge update`: the models of a vehicle, by hand."""

from __future__ import annotations

import click

from tools.cli.edge_update_install import install
from tools.cli.edge_update_state import history, rollback, status


@click.group("update")
def update() -> None:
    """The vehicle's models: what runs, what ran, and what comes by hand."""


for command in (install, status, history, rollback):
    update.add_command(command)
