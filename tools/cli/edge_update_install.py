"""`traffic-vision edge update install`: a model from a stick."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("install")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    required=True,
    help="The vehicle's configuration, edge.toml.",
)
@click.option(
    "--unsigned",
    is_flag=True,
    help="FILE is a model file that nobody signed; needs `unsigned = true` in [updates].",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=1000.0,
    show_default=True,
    help="How long to wait for a running daemon's answer, seconds.",
)
def install(file: Path, config_path: Path, unsigned: bool, timeout_s: float) -> None:
    """Install the newest release of a signed bundle, without a network.

    The same signatures, counters and floors hold as by the network, and so do self-test, exchange between
    two frames, and probation. Where the daemon runs, it installs and answers; where it does not, the release
    waits in a slot for its next start. Run it as the daemon's user, or as root.

    Exit codes: 0 it runs, or is ready for the next start; 1 it is refused, with the reason.
    """
    from edge.config import load_config
    from edge.updates.by_hand import install as installing

    answer = installing(load_config(config_path), file, unsigned=unsigned, timeout_s=timeout_s)
    click.echo(answer.detail)
    sys.exit(0 if answer.is_installed else 1)
