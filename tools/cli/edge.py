"""`traffic-vision edge`: the daemon on the vehicle."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

_config = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    required=True,
    help="The vehicle's configuration, edge.toml.",
)


@click.group("edge")
def command() -> None:
    """The daemon on the vehicle: from cameras to detections, and what follows from them."""


@command.command("run")
@_config
def run(config_path: Path) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    SIGHUP makes it read the file again, and take over speed_limit of cameras and the log's level.

    It logs to standard error, one line an event. Exit codes: 0 stopped when asked to; 1 it could not start,
    with one line that says why; 70 a defect, with its traceback in the log.
    """
    # gRPC's core writes lines of its own to standard error, with whatever bytes a client sent in them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from edge.config import load_config
    from edge.daemon import Daemon
    from edge.logs import set_up_logging
    from edge.vehicle import VehicleParts

    config = load_config(config_path)
    set_up_logging(config.log.level, config.log.format)
    sys.exit(Daemon(config, VehicleParts(), lambda: load_config(config_path)).run())


@command.command("check")
@_config
def check(config_path: Path) -> None:
    """Say what the daemon would do: opens the sources, checks the model, starts nothing."""
    from edge.config import load_config
    from edge.preflight import preflight

    for name, text in preflight(load_config(config_path)):
        click.echo(f"{name + ':':<16}{text}")
