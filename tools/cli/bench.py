"""`traffic-vision bench`: measurements."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools.cli import (
    bench_drift,
    bench_edge,
    bench_fleet,
    bench_gate,
    bench_orchestration,
    bench_purity,
    bench_retrain,
    bench_swap,
)

if TYPE_CHECKING:
    from tools.bench.report import Report

_PATH = click.Path(path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")


@click.group("bench")
def command() -> None:
    """Measure, beside the floor and the peers, in interleaved rounds of one run."""


command.add_command(bench_edge.command)
command.add_command(bench_drift.command)
command.add_command(bench_swap.swap)
command.add_command(bench_swap.update)
command.add_command(bench_fleet.command)
command.add_command(bench_gate.command)
command.add_command(bench_orchestration.command)
command.add_command(bench_purity.command)
command.add_command(bench_retrain.command)


@command.command("detector")
@click.option("--model", type=_PATH, help="Model file or .pt; the shipped baseline unless given.")
@click.option("--raw", type=_PATH, help="Raw ONNX export of the same weights, for the peers.")
@click.option("--pictures", help="Folder, video or sim:...; simulated drives unless given.")
@click.option("--size", type=int, help="Side of a .pt's square input; 640 unless given.")
@click.option("--rounds", type=int, default=60, show_default=True, help="How often each is timed.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Of one inference.")
@_JSON
def detector(
    model: Path | None,
    raw: Path | None,
    pictures: str | None,
    size: int | None,
    rounds: int,
    threads: int,
    as_json: bool,
) -> None:
    """From a 1280x720 frame to boxes, beside a bare session.run of the same graph.

    With a raw export, or a .pt to make one from, the peers run too: Ultralytics, OpenCV's dnn, OpenVINO.
    """
    from tools.bench.detector import bench_detector
    from tools.replay.progress import ProgressLine

    with ProgressLine(sys.stderr, "round") as progress:
        report = bench_detector(model, raw, pictures, size, rounds, threads, progress.show)
    _print(report, as_json)


@command.command("render")
@click.option("--rounds", type=int, default=100, show_default=True, help="Pictures of each light.")
@_JSON
def render(rounds: int, as_json: bool) -> None:
    """One picture of a simulated drive, 640x360, on one thread."""
    from tools.bench.render import bench_render
    from tools.replay.progress import ProgressLine

    with ProgressLine(sys.stderr, "round") as progress:
        report = bench_render(rounds, progress.show)
    _print(report, as_json)


@command.command("features")
@click.option("--model", type=_PATH, help="Finds what is in the pictures; the shipped baseline unless given.")
@click.option("--rounds", type=int, default=500, show_default=True, help="How often a frame is timed.")
@click.option("--drives", type=int, default=16, show_default=True, help="Simulated drives of each effect.")
@click.option("--moments", type=int, default=16, show_default=True, help="Pictures of each drive.")
@_JSON
def features(model: Path | None, rounds: int, drives: int, moments: int, as_json: bool) -> None:
    """What each drift feature costs on one thread, and how far night, rain, fog or a fault moves it."""
    from tools.bench.features import bench_features
    from tools.replay.progress import ProgressLine

    with ProgressLine(sys.stderr, "picture") as progress:
        report = bench_features(model, rounds, drives, moments, progress.show)
    _print(report, as_json)


@command.command("cli")
@click.option("--rounds", type=int, default=15, show_default=True, help="How often each is started.")
@_JSON
def startup(rounds: int, as_json: bool) -> None:
    """Start-up of the command line, in fresh processes."""
    from tools.bench.startup import bench_startup
    from tools.replay.progress import ProgressLine

    with ProgressLine(sys.stderr, "round") as progress:
        report = bench_startup(rounds, progress.show)
    _print(report, as_json)


def _print(report: Report, as_json: bool) -> None:
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
