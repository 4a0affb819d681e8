"""`traffic-vision bench edge`: the daemon as it runs on a vehicle, measured from outside."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tools.bench.report import Report

_PATH = click.Path(path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
_WEIGHTS = click.option(
    "--weights", type=_PATH, help="A .pt, or a model file with its one size; the shipped one unless given."
)
_VIDEO = click.option("--video", type=_PATH, help="In place of the 1280x720 video that is made here.")
_SIZE = click.option(
    "--size",
    "sizes",
    multiple=True,
    help="HEIGHTxWIDTH of the input; may be repeated.  [default: 384x640 640x640]",
)
_THREADS = click.option(
    "--threads", type=click.IntRange(1), default=2, show_default=True, help="Of one inference."
)
_MINUTES = click.FloatRange(0, min_open=True)


def _rounds(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--rounds",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        help="Turns of each contender.",
    )


def _seconds(default: float, what: str) -> Callable[[Any], Any]:
    return click.option("--seconds", type=_MINUTES, default=default, show_default=True, help=what)


@click.group("edge", invoke_without_command=True)
@_JSON
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """The daemon: real processes, real clients. Without a command: all but the soak, in some minutes.

    While the daemon's contenders have their turns, the daemon is held. Each run tells the machine's load and
    stolen time; where the 95 % interval of a ratio holds its target, the run says that it decides nothing.
    """
    if context.invoked_subcommand is None:
        for chosen in (throughput, peers, freshness, cpu, start):
            click.echo(f"bench edge {chosen.name}", err=True)
            context.invoke(chosen, as_json=as_json)
            click.echo()


@command.command("throughput")
@_WEIGHTS
@_VIDEO
@_SIZE
@_rounds(10)
@_seconds(2.0, "Of a turn, about.")
@_THREADS
@_JSON
def throughput(as_json: bool, **options: Any) -> None:
    """Frames a second with everything running, beside a loop that decodes and calls session.run."""
    from tools.bench.edge.throughput import bench_throughput

    settings = _settings(**options)
    _run("round", as_json, lambda progress: bench_throughput(settings, progress))


@command.command("peers")
@_WEIGHTS
@_VIDEO
@_SIZE
@_rounds(8)
@_seconds(1.5, "Of a turn, about.")
@_THREADS
@_JSON
def peers(as_json: bool, **options: Any) -> None:
    """The same video to boxes: the daemon, ultralytics' predict loop, OpenCV's dnn, OpenVINO in float32."""
    from tools.bench.edge.peers import bench_peers

    settings = _settings(**options)
    _run("round", as_json, lambda progress: bench_peers(settings, progress))


@command.command("freshness")
@_WEIGHTS
@_VIDEO
@_SIZE
@click.option(
    "--rate", "rates", type=_MINUTES, multiple=True, help="Frames/s; may be repeated.  [default: 5 10 15 30]"
)
@_seconds(15.0, "Of each rate at each size.")
@click.option("--minutes", type=_MINUTES, help="In place of --seconds; 20 to see whether ages grow.")
@_THREADS
@_JSON
def freshness(
    weights: Path | None,
    video: Path | None,
    sizes: tuple[str, ...],
    rates: tuple[float, ...],
    seconds: float,
    minutes: float | None,
    threads: int,
    as_json: bool,
) -> None:
    """Age of a detection at a client, by the frame's number burnt into the picture."""
    from tools.bench.edge.freshness import RATES_HZ, FreshnessSettings, bench_freshness
    from tools.bench.edge.subject import SIZES, parse_size

    settings = FreshnessSettings(
        seconds=seconds if minutes is None else 60 * minutes,
        threads=threads,
        weights=weights,
        video=video,
        sizes=tuple(parse_size(size) for size in sizes) or SIZES,
        rates_hz=rates or RATES_HZ,
    )
    _run("run", as_json, lambda progress: bench_freshness(settings, progress))


@command.command("cpu")
@_WEIGHTS
@_rounds(6)
@_seconds(5.0, "Of a turn.")
@_THREADS
@_JSON
def cpu(as_json: bool, **options: Any) -> None:
    """Processor time a frame at 384x640 and 5 frames/s, beside a loop that waits as long."""
    from tools.bench.edge.cpu import bench_cpu

    settings = _settings(**options)
    _run("round", as_json, lambda progress: bench_cpu(settings, progress))


@command.command("start")
@_WEIGHTS
@_rounds(5)
@_THREADS
@_JSON
def start(weights: Path | None, rounds: int, threads: int, as_json: bool) -> None:
    """From the start of the process to the first detection at a client, and its steps."""
    from tools.bench.edge.start import bench_start

    _run("round", as_json, lambda progress: bench_start(rounds, threads, weights, progress))


@command.command("soak")
@_WEIGHTS
@click.option("--camera", help="URL of a camera, such as rtsp://...; one that breaks by itself unless given.")
@click.option("--minutes", type=_MINUTES, default=30.0, show_default=True, help="Of the run.")
@click.option(
    "--swaps", type=click.IntRange(0), default=200, show_default=True, help="Of the model, spread over it."
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of one inference.")
@_JSON
def soak(as_json: bool, **options: Any) -> None:
    """Memory, threads and descriptors over reconnects, clients that come and go, and swaps."""
    from tools.bench.edge.soak import SoakSettings, bench_soak

    settings = SoakSettings(**options)
    _run("second", as_json, lambda progress: bench_soak(settings, progress))


def _settings(sizes: tuple[str, ...] = (), **options: Any) -> Any:
    from tools.bench.edge.subject import SIZES, parse_size
    from tools.bench.edge.throughput import Settings

    return Settings(sizes=tuple(parse_size(size) for size in sizes) or SIZES, **options)


def _run(step: str, as_json: bool, bench: Callable[[Callable[[int, int], None]], Report]) -> None:
    from tools.replay.progress import ProgressLine

    with ProgressLine(sys.stderr, step) as progress:
        report = bench(progress.show)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
