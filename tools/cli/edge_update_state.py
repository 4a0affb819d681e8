"""`traffic-vision edge update status`, `history` and `rollback`."""

from __future__ import annotations

import json
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
_json = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")


@click.command("status")
@_config
@_json
def status(config_path: Path, as_json: bool) -> None:
    """How the vehicle's models stand: what runs, the slots, floors, what failed, until when metadata holds.

    Of the daemon where one answers, else of its state folder; it says of which. Run it as the daemon's user,
    or as root.
    """
    from edge.config import load_config
    from edge.updates.overview import overview_text, read_overview

    overview = read_overview(load_config(config_path))
    click.echo(json.dumps(overview, indent=2) if as_json else overview_text(overview))


@click.command("history")
@_config
@_json
def history(config_path: Path, as_json: bool) -> None:
    """What happened to the models of this vehicle: when by its clock, and by whom; the last 64 entries."""
    from edge.config import load_config
    from edge.updates.overview import history_document, history_text, read_state

    state = read_state(load_config(config_path))
    click.echo(json.dumps(history_document(state), indent=2) if as_json else history_text(state))


@click.command("rollback")
@_config
@click.option("--factory", is_flag=True, help="To the model that came with the installation.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=1000.0,
    show_default=True,
    help="How long to wait for a running daemon's answer, seconds.",
)
def rollback(config_path: Path, factory: bool, timeout_s: float) -> None:
    """Take the active model back: the last good one before it comes, or the factory's.

    Where the daemon runs, it exchanges them between two frames and answers; where it does not, its next start
    does. The release that is taken back is not fetched again; a newer one is. Run it as the daemon's user, or
    as root.

    Exit codes: 0 it is done; 1 it is not, with the reason.
    """
    from edge.config import load_config
    from edge.updates.by_hand import roll_back

    answer = roll_back(load_config(config_path), to_factory=factory, timeout_s=timeout_s)
    click.echo(answer.detail)
    sys.exit(0 if answer.is_installed else 1)
