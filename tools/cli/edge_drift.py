"""`traffic-vision edge drift`: what a vehicle's cameras are known by."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("drift")
def drift() -> None:
    """The drift monitors of a vehicle's cameras."""


@drift.command("recommission")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    required=True,
    help="The vehicle's configuration, edge.toml.",
)
@click.option("--camera", required=True, metavar="NAME", help="As in the configuration.")
def recommission(config_path: Path, camera: str) -> None:
    """Forget what a camera is known by, and commission it anew: it was exchanged, moved or cleaned.

    A running daemon does so within a minute, and judges by the model's reference until then; where none runs,
    the next start does. Run it as the daemon's user, or as root.
    """
    from edge.config import load_config
    from edge.drift.recommission import wish_anew

    wish_anew(load_config(config_path), camera)
    click.echo(f"camera {camera}: it is commissioned anew within a minute, or as the daemon starts")
