"""`traffic-vision cloud`: the retrain companion."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tools.cli import (
    cloud_audit,
    cloud_check,
    cloud_data,
    cloud_keys,
    cloud_orchestration,
    cloud_pipeline,
    cloud_release,
    cloud_rollout,
    cloud_trigger,
    cloud_vehicles,
)
from tools.cli.cloud_opening import CONFIG, opened_store

_PATH = click.Path(path_type=Path)


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
@click.option(
    "--root-key",
    "root_keys",
    multiple=True,
    type=_PATH,
    metavar="FILE",
    help="Where one of root's private keys shall be, a stick's file; repeat  [default: three, in DIR]",
)
@click.option(
    "--root-threshold", type=click.IntRange(1), help="So many of them sign a new root  [default: 2]"
)
def init(
    folder: Path,
    listen: str | None,
    address: str | None,
    names: tuple[str, ...],
    root_keys: tuple[Path, ...],
    root_threshold: int | None,
) -> None:
    """Make a cloud's folder: configuration, keys, certificates, database.

    What is there already is kept, so it can be run again at any time. Root's keys are made in the files of
    --root-key, or used where there is one, and are at hand this once: take them away afterwards.
    """
    from cloud.fleet.enrolment import CONFIG_FILE, CloudChoices, init_cloud

    config = init_cloud(folder, CloudChoices(listen, address, names, root_keys, root_threshold))
    click.echo(f"{folder / CONFIG_FILE}: the server will listen at {config.serve.listen}")


@command.command("enrol")
@click.argument("vehicle")
@click.option("--cloud", "folder", type=_PATH, required=True, metavar="DIR", help="The cloud's folder.")
@click.option(
    "--valid-hours",
    type=click.FloatRange(0, 720, min_open=True),
    default=24.0,
    show_default=True,
    help="How long the ticket is good.",
)
@click.option("--fleet", help="It takes this fleet's releases, made by `cloud keys delegate`, and no others.")
@click.option("-o", "--output", type=_PATH, help="Write the ticket here, instead of to standard output.")
def enrol(vehicle: str, folder: Path, valid_hours: float, fleet: str | None, output: Path | None) -> None:
    """Register VEHICLE, and give a ticket by which it gets its certificate, once.

    The ticket is one line, and a secret until it is used by `traffic-vision edge enrol` on the vehicle. An
    earlier one of the same vehicle is good for nothing from now on, and once this one is used, neither is
    an earlier certificate.
    """
    from datetime import timedelta

    from cloud.config import load_config
    from cloud.fleet.enrolment import CONFIG_FILE
    from cloud.fleet.enrolment import enrol as enrol_vehicle
    from cloud.fleet.private_files import write_private_file

    config = load_config(folder / CONFIG_FILE)
    ticket = enrol_vehicle(config, vehicle, timedelta(hours=valid_hours), fleet)
    if output is None:
        click.echo(ticket.text)
    else:
        write_private_file(output, f"{ticket.text}\n".encode())
    click.echo(
        f"{vehicle}: until {ticket.expires:%Y-%m-%d %H:%M} UTC, on the vehicle: "
        f"traffic-vision edge enrol {output or '-'} DIR\n"
        f"it asks {ticket.enrol_address}, whose authority must be SHA-256 {ticket.authority_sha256}",
        err=True,
    )


@command.command("serve")
@CONFIG
def serve(config: Path) -> None:
    """Serve the fleet until interrupted.

    Prints one line, `serving HOST:PORT enrolment HOST:PORT`, once vehicles can connect; the log goes to
    standard error.
    """
    import logging

    from cloud.config import load_config
    from cloud.fleet.server import serve as serve_fleet

    loaded = load_config(config)
    logging.basicConfig(
        level=loaded.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    serve_fleet(loaded, lambda *where: click.echo("serving {} enrolment {}".format(*where)))


@command.command("status")
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def status(config: Path, as_json: bool) -> None:
    """Show vehicles, drift, samples, runs, releases and rollouts."""
    from cloud.status import read_status

    with opened_store(config) as (loaded, store):
        report = read_status(loaded, store)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())


cloud_pipeline.register(command)
cloud_trigger.register(command)
cloud_data.register(command)
cloud_orchestration.register(command)
cloud_vehicles.register(command)
cloud_keys.register(command)
cloud_audit.register(command)
cloud_release.register(command)
command.add_command(cloud_rollout.command)
command.add_command(cloud_check.command)
