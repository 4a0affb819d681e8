"""`traffic-vision watch`: a running daemon in a terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.command("watch")
@click.option("--address", help="unix:/a/path or HOST:PORT; else the configuration's, else 127.0.0.1:50061.")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Take the address from an edge.toml."
)
@click.option("--ca", type=_FILE, help="Authority of the daemon's certificate (PEM): connect by TLS.")
@click.option("--cert", type=_FILE, help="This client's own certificate (PEM), with --key.")
@click.option("--key", type=_FILE, help="Its private key (PEM).")
@click.option("--camera", "cameras", multiple=True, help="Watch this camera alone. Repeat for several.")
@click.option(
    "--min-score", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Of a detection."
)
@click.option(
    "--rate", type=click.FloatRange(0), default=0.0, help="Frames a second; 0, the default: every one."
)
@click.option("--limit", type=click.IntRange(1), help="End after so many frames.")
def command(
    address: str | None,
    config_path: Path | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    cameras: tuple[str, ...],
    min_score: float,
    rate: float,
    limit: int | None,
) -> None:
    """See a running daemon's detections, drift and status, live.

    On a terminal the screen is drawn anew all the time. Elsewhere each frame is one line, and so is each
    change of drift's verdict, of the model and of the connection. It waits for a daemon that is not there,
    and connects again to one that comes back. Ctrl-C ends it.
    """
    from edge.config import DEFAULT_ADDRESS, load_config
    from tools.watch.run import Request, address_of, watch

    if address is None:
        address = DEFAULT_ADDRESS if config_path is None else address_of(load_config(config_path).serve, ca)
    watch(Request(address, cameras, min_score, rate, limit, ca, cert, key), sys.stdout)
