"""`traffic-vision bench swap` and `bench update`: changes of the model, measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)
_WEIGHTS = click.option(
    "--weights", type=_PATH, help="A .pt, or a model file with its one size; the shipped one unless given."
)
_SIZE = click.option(
    "--size", default="320x320", show_default=True, help="HEIGHTxWIDTH of a checkpoint's input."
)
_THREADS = click.option(
    "--threads", type=click.IntRange(1), default=2, show_default=True, help="Of one inference."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
_MORE = click.FloatRange(0, min_open=True)


@click.command("swap")
@click.option("--swaps", type=click.IntRange(1), default=1000, show_default=True, help="Of the model.")
@click.option(
    "--peer-swaps",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Of each peer's; 0: no peers.",
)
@click.option("--rate", "rate_hz", type=_MORE, default=30.0, show_default=True, help="Frames/s.")
@click.option("--block", type=click.IntRange(1), default=20, show_default=True, help="Swaps in one block.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0),
    default=0.5,
    show_default=True,
    help="Seconds from the start of a swap to that of the next, at least.",
)
@click.option(
    "--mlserver",
    type=_PATH,
    metavar="DIR",
    help="MLServer's own environment, for the peer; made from the package index where there is none.",
)
@_WEIGHTS
@_SIZE
@_THREADS
@_JSON
def swap(as_json: bool, size: str, **options: Any) -> None:
    """1,000 changes of the daemon's model under paced frames: frames lost, gaps, memory; peers beside it.

    Each is a whole one: slot, signatures, check in a child process, load, exchange. Blocks with changes and
    without take turns in the same process. An hour.
    """
    from tools.bench.edge.subject import parse_size
    from tools.bench.swap.swap import SwapSettings, bench_swap
    from tools.replay.progress import ProgressLine

    settings = SwapSettings(size=parse_size(size), **options)
    with ProgressLine(sys.stderr, "swap") as progress:
        report = bench_swap(settings, progress.show)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())


@click.command("update")
@click.option(
    "--releases", type=click.IntRange(1), default=20, show_default=True, help="One after the other."
)
@click.option("--checks", type=click.IntRange(1), default=100, show_default=True, help="Looks for news.")
@_WEIGHTS
@_SIZE
@_THREADS
@_JSON
def update(as_json: bool, size: str, **options: Any) -> None:
    """From a release to the first frame on the new model, step by step, and the cost of a look for news."""
    from tools.bench.edge.subject import parse_size
    from tools.bench.swap.update import UpdateSettings, bench_update
    from tools.replay.progress import ProgressLine

    settings = UpdateSettings(size=parse_size(size), **options)
    with ProgressLine(sys.stderr, "step") as progress:
        report = bench_update(settings, progress.show)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
