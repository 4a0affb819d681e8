"""`traffic-vision replay`: a drive through the detector."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command("replay")
@click.argument("source")
@click.option("--model", "model", type=click.Path(path_type=Path), required=True, help="The model file.")
@click.option("--jsonl", help="Write one JSON line of detections a frame; - is standard output.")
@click.option("--video", help="Write an annotated video, .mp4.")
@click.option("--times", help="Write one JSON line of stage times a frame.")
@click.option("--limit", type=int, help="Stop after so many frames.")
@click.option("--rate", type=float, default=10.0, show_default=True, help="Pictures a second of a folder.")
@click.option(
    "--provider",
    "providers",
    multiple=True,
    default=("cpu",),
    show_default=True,
    help="Execution provider: cpu, cuda, tensorrt, openvino... Repeat for an order of preference.",
)
@click.option("--threads", type=int, default=2, show_default=True, help="Of one inference on a CPU.")
@click.option("--score-threshold", type=float, help="In place of the model file's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
def command(
    source: str,
    model: Path,
    jsonl: str | None,
    video: str | None,
    times: str | None,
    limit: int | None,
    rate: float,
    providers: tuple[str, ...],
    threads: int,
    score_threshold: float | None,
    as_json: bool,
) -> None:
    """Run a recorded or simulated drive through the detector: every frame, as fast as it goes.

    SOURCE is a video file, a folder of pictures (at --rate a second), or a simulated drive such as
    "sim:7?light=night&seconds=10&rate=10". The same drive, model, provider and threads on the same machine
    give the same lines, to the byte. Ctrl-C finishes the frame in hand and keeps what is done.
    """
    if as_json and jsonl == "-":
        raise click.UsageError("--json and --jsonl - would mix on standard output")

    from edge.perception.detector import DetectorOptions
    from tools.replay.interrupt import Interrupt
    from tools.replay.progress import ProgressLine
    from tools.replay.run import Request, replay

    options = DetectorOptions(providers=providers, threads=threads, score_threshold=score_threshold)
    request = Request(source, model, options, jsonl, video, times, limit, rate)
    with Interrupt() as interrupt, ProgressLine(sys.stderr) as progress:
        summary = replay(request, stop_requested=lambda: interrupt.requested, progress=progress.show)
    click.echo(summary.to_text(), err=True)
    if as_json:
        click.echo(json.dumps(summary.to_json(), indent=2))
    if summary.interrupted:
        sys.exit(130)
    summary.require_published()
