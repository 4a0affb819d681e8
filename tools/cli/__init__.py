"""The command line. Thin: it parses arguments and calls; the work is in the packages.

Exit codes: 0 done; 1 refused or failed, with one line that says why; 2 wrong usage; 75 not yet, a stage of
the cloud's waits for someone else; 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys

import click

from edge.errors import TrafficVisionError

# The module is imported only when its command runs, so that --help stays fast.
COMMANDS = {
    "bench": "Measure, beside the floor and the peers.",
    "cloud": "Set up and run the cloud: identities, ingest, retrains, status.",
    "data": "Bring in, look at, split and simulate labelled drives.",
    "demo": "Show the whole loop: a drive into the night, and a new model between two frames.",
    "drift": "Make a drift reference, and judge a drive by one.",
    "edge": "Run the daemon on the vehicle.",
    "model": "Make, inspect, verify and evaluate model files.",
    "replay": "Run a recorded or simulated drive through the detector.",
    "watch": "See a running daemon's detections, drift and status.",
}

# What the cloud extra brings; a vehicle does without.
_CLOUD_EXTRA = {
    "PIL",
    "alembic",
    "dvc",
    "httpx",
    "jinja2",
    "mlflow",
    "pycocotools",
    "scipy",
    "sqlalchemy",
    "tomlkit",
    "torch",
    "torchvision",
    "tqdm",
    "ultralytics",
    "yaml",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"tools.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="traffic-vision")
def root() -> None:
    """Traffic Vision: a detector that notices when the world leaves its training data."""


def main() -> None:
    """Run the command line; a refusal becomes one line on standard error and exit code 1."""
    try:
        sys.exit(root.main(prog_name="traffic-vision", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("traffic-vision: interrupted", err=True)
        sys.exit(130)
    except TrafficVisionError as error:
        click.echo(f"traffic-vision: error: {error}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name not in _CLOUD_EXTRA:
            raise
        reason = f"this needs the cloud extra, and there is no {error.name} here"
        click.echo(f"traffic-vision: error: {reason}; `make setup` installs it", err=True)
        sys.exit(1)
