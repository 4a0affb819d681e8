"""`traffic-vision cloud`: the retrain companion."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tools.cli import cloud_pipeline, cloud_rollout

_PATH = click.Path(path_type=Path)
_CONFIG = click.option("--config", type=_PATH, required=True, help="The cloud's cloud.toml.")


@click.group("cloud")
def command() -> None:
    """Set up and run the cloud: identities, ingest, retrains, status."""


@command.command("init")
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option("--listen", metavar="HOST:PORT", help="Where the server listens  [default: 127.0.0.1:50071]")
@click.option("--address", metavar="HOST:PORT", help="Where vehicles find it, if not there.")
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="The server's certificate is for it too; repeat."
)
def init(folder: Path, listen: str | None, address: str | None, names: tuple[str, ...]) -> None:
    """Make a cloud's folder: configuration, keys, certificates, database.

    What is there already is kept, so it can be run again at any time.
    """
    from cloud.fleet.enrolment import CONFIG_FILE, CloudChoices, init_cloud

    config = init_cloud(folder, CloudChoices(listen, address, names))
    click.echo(f"{folder / CONFIG_FILE}: the server will listen at {config.serve.listen}")


@command.command("enrol")
@click.argument("vehicle")
@click.option("--cloud", "folder", type=_PATH, required=True, metavar="DIR", help="The cloud's folder.")
@click.option("--camera", "cameras", multiple=True, metavar="NAME=URL", help="A camera or recording; repeat.")
@click.option("--model", type=_PATH, help="The model file that the vehicle starts with.")
def enrol(vehicle: str, folder: Path, cameras: tuple[str, ...], model: Path | None) -> None:
    """Give VEHICLE its identity and configuration.

    The folder that is printed goes onto the vehicle; `client.key` in it is a secret.
    """
    from cloud.config import load_config
    from cloud.fleet.enrolment import CONFIG_FILE, VehicleChoices
    from cloud.fleet.enrolment import enrol as enrol_vehicle

    named = dict(camera.partition("=")[::2] for camera in cameras)
    if not all(named) or not all(named.values()):
        raise click.BadParameter("expected NAME=URL", param_hint="--camera")
    config = load_config(folder / CONFIG_FILE)
    click.echo(enrol_vehicle(config, vehicle, VehicleChoices(named, model)))


@command.command("revoke")
@click.argument("vehicle")
@click.option("--reason", required=True, help="For the audit trail.")
@_CONFIG
def revoke(vehicle: str, reason: str, config: Path) -> None:
    """Take VEHICLE's identity away: from now on it gets nothing."""
    from cloud.config import load_config
    from cloud.fleet.enrolment import revoke as revoke_vehicle

    revoke_vehicle(load_config(config), vehicle, reason)
    click.echo(f"{vehicle}: revoked")


@command.command("serve")
@_CONFIG
def serve(config: Path) -> None:
    """Serve the fleet until interrupted.

    Prints one line, `serving HOST:PORT`, once vehicles can connect; the log goes to standard error.
    """
    import logging

    from cloud.config import load_config
    from cloud.fleet.server import serve as serve_fleet

    loaded = load_config(config)
    logging.basicConfig(
        level=loaded.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    serve_fleet(loaded, lambda address: click.echo(f"serving {address}"))


@command.command("status")
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def status(config: Path, as_json: bool) -> None:
    """Show vehicles, drift, samples, runs, releases and rollouts."""
    from cloud.config import load_config
    from cloud.status import read_status
    from cloud.store import open_database

    loaded = load_config(config)
    store = open_database(loaded.store.database)
    try:
        report = read_status(loaded, store)
    finally:
        store.close()
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())


cloud_pipeline.register(command)
command.add_command(cloud_rollout.command)
