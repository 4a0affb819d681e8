"""`traffic-vision demo`: the whole loop, live."""

from __future__ import annotations

import sys
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command("demo")
@click.option(
    "--report",
    type=_PATH,
    default="demo-report",
    show_default=True,
    help="Folder for the report and both models.",
)
@click.option(
    "--work",
    type=_PATH,
    default="demo-work",
    show_default=True,
    help="Folder for everything on the way; emptied at the start.",
)
@click.option(
    "--data", type=_PATH, help="Labelled pictures by day and by night, in place of simulated drives."
)
@click.option(
    "--weights",
    default="yolov8n.pt",
    show_default=True,
    help="Checkpoint that the baseline of --data is made from; the default is Ultralytics' own download.",
)
@click.option("--quick", is_flag=True, hidden=True, help="The simulated one in small, for tests.")
@click.option(
    "--baseline", type=_PATH, hidden=True, help="Day model of --quick, in place of the shipped one."
)
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), hidden=True, help="Of --quick's retrain."
)
def command(
    report: Path,
    work: Path,
    data: Path | None,
    weights: str,
    quick: bool,
    baseline: Path | None,
    learning_rate: float | None,
) -> None:
    """Drive from day into night, and see the detector notice, retrain and swap.

    Real cloud and vehicle processes on this machine: the vehicle notices that the world has left its model's
    training data, ships samples, the cloud retrains, checks, signs and releases, and the running daemon puts
    the new model between two frames. Then a report. Ctrl-C ends it at any moment and leaves no process.

    Exit code 0: the loop closed; 1: it did not, and why; 130: interrupted.
    """
    from tools.demo.run import Request, demonstrate

    demonstrate(Request(work, report, data, weights, quick, baseline, learning_rate), sys.stdout)
