"""`traffic-vision edge`: the daemon on the vehicle."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tools.cli import edge_enrol
from tools.cli.edge_drift import drift
from tools.cli.edge_update import update

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

    SIGHUP makes it read the file again, take over what can change while it runs, and name what waits for a
    restart. Under systemd it says when it is ready, and that it is well.

    It logs to standard error, one line an event. Exit codes: 0 stopped when asked to; 1 it could not start,
    with one line that says why; 70 a defect, with its traceback in the log.
    """
    # gRPC's core writes lines of its own to standard error, with whatever bytes a client sent in them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # And OpenCV some for each damaged picture, which is told of in ours.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "FATAL")
    from edge.config import load_config
    from edge.daemon import Daemon
    from edge.logs import set_up_logging
    from edge.machine.notify import notifier, watchdog_period_s
    from edge.vehicle import VehicleParts

    config = load_config(config_path)
    set_up_logging(config.log.level, config.log.format)
    daemon = Daemon(
        config,
        VehicleParts(),
        lambda: load_config(config_path),
        manager=notifier(),
        watchdog_s=watchdog_period_s(),
    )
    sys.exit(daemon.run())


@command.command("check")
@_config
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def check(config_path: Path, as_json: bool) -> None:
    """The doctor: look at everything that the daemon needs, start nothing, and say what to do.

    Every check runs, whatever the others find. Exit codes: 0 all is well, or there are warnings; 1 a failure.
    """
    from edge.doctor import examine
    from edge.doctor.report import as_document, as_text, has_failed

    findings = examine(config_path)
    click.echo(as_document(findings) if as_json else as_text(findings))
    sys.exit(1 if has_failed(findings) else 0)


@command.command("health")
@_config
def health(config_path: Path) -> None:
    """Ask the running daemon whether it serves, for the health checks of containers: exit code 0, it does."""
    from edge.config import load_config
    from edge.serve.probe import require_serving

    click.echo(f"serving at {require_serving(load_config(config_path).serve)}")


_root = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/"),
    help="Write into this folder, an image's, instead of this system.",
)
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@command.command("install")
@_root
@_dry_run
@click.option(
    "--board",
    "boards",
    multiple=True,
    type=click.Choice(["nvidia", "jetson", "dri"]),
    help="Allow this board's devices, instead of those that are found. May be given more than once.",
)
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    help="The interpreter that the service runs on, in an image. Default: this one.",
)
def install(root: Path, dry_run: bool, boards: tuple[str, ...], python: Path | None) -> None:
    """Put the daemon in place as a service of systemd: unit, user, folders, an example configuration.

    May be run again, after an upgrade for example. The service is enabled, not started.
    """
    from edge.machine import install as installing

    root = root.resolve()
    interpreter = python or Path(sys.executable)
    is_live = root == Path("/")
    if is_live and not dry_run:
        installing.require_systemd()
        installing.require_root()
        installing.require_reachable(interpreter, installing.interpreter_places())
    steps = installing.plan_install(root, interpreter, boards or installing.found_boards(root))
    for line in (step.describe() for step in steps) if dry_run else installing.apply(steps):
        click.echo(line)
    if not dry_run:
        click.echo(
            "next: put cameras and model into /etc/traffic-vision/edge.toml, look whether all is well with\n"
            f"  {interpreter} -m tools.cli edge check --config /etc/traffic-vision/edge.toml\n"
            f"and start it: systemctl restart {installing.UNIT}"
        )


@command.command("uninstall")
@_root
@_dry_run
@click.option("--purge", is_flag=True, help="Remove configuration, state (models, samples) and user too.")
def uninstall(root: Path, dry_run: bool, purge: bool) -> None:
    """Stop the service and take it away; configuration and state stay unless told otherwise."""
    from edge.machine import install as installing

    root = root.resolve()
    if root == Path("/") and not dry_run:
        installing.require_root()
    steps = installing.plan_uninstall(root, purge=purge)
    for line in (step.describe() for step in steps) if dry_run else installing.apply(steps):
        click.echo(line)


edge_enrol.register(command)
command.add_command(update)
command.add_command(drift)
