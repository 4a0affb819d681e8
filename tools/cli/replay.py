"""`traffic-vision replay`: recorded drives through the daemon's own path."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)


def _unix_ns(context: click.Context, parameter: click.Parameter, moment: datetime | None) -> int:
    if moment is None:
        return 0
    since = moment.replace(tzinfo=moment.tzinfo or timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000


@click.command("replay")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--model", type=_PATH, metavar="FILE", required=True, help="The model file.")
@click.option(
    "--camera-name",
    "camera_names",
    metavar="NAME",
    multiple=True,
    help="Of a SOURCE; else as its file.",
)
@click.option("--jsonl", metavar="FILE", help="Detections, a JSON line a frame.")
@click.option("--times", metavar="FILE", help="Their stage times, which differ from run to run.")
@click.option("--video", metavar="FILE", help="Annotated, .mp4; of several SOURCEs one each.")
@click.option("--mcap", metavar="FILE", help="All of it as .mcap, for Foxglove and Rerun.")
@click.option(
    "--mcap-start",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z"]),
    callback=_unix_ns,
    metavar="TIME",
    help="There, when drives began; 1970-01-01T00:00:00Z.",
)
@click.option("--speed", metavar="SPEED", default="max", help="max (unless given), recorded, or its factor.")
@click.option("--swap-to", type=_PATH, metavar="FILE", help="Another model, put in as the daemon does,")
@click.option("--swap-at", metavar="[CAMERA:]FRAME", help="from this frame on.")
@click.option("--drift", is_flag=True, help="Watch drift, by the model's reference or learning.")
@click.option("--reference", type=_PATH, metavar="FILE", help="Watch drift by this reference.")
@click.option("--drift-jsonl", metavar="FILE", help="Drift states, a JSON line each.")
@click.option("--compare", type=_PATH, metavar="FILE", help="Show where this model disagrees with MODEL.")
@click.option("--compare-jsonl", metavar="FILE", help="The differences, a JSON line a frame.")
@click.option("--compare-html", metavar="FILE", help="A page with the pictures that differ most,")
@click.option("--compare-pictures", type=int, metavar="N", default=12, help="so many; 12 unless given.")
@click.option("--limit", type=int, metavar="N", help="Stop after so many frames of each SOURCE.")
@click.option("--rate", type=float, metavar="HZ", default=10.0, help="Of a folder; 10 unless given.")
@click.option(
    "--provider",
    "providers",
    multiple=True,
    default=("cpu",),
    metavar="NAME",
    help="cpu (unless given), cuda...; repeat by preference.",
)
@click.option("--threads", type=int, metavar="N", default=2, help="Of an inference on a CPU; 2 unless given.")
@click.option("--score-threshold", type=float, metavar="SHARE", help="In place of the model files' own.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON, on standard output.")
def command(sources: tuple[str, ...], model: Path, **options: Any) -> None:
    """Run recorded drives through the daemon's own path: every frame, none dropped, one line each.

    A SOURCE is a video file, a folder of pictures (at --rate a second), or a simulated drive such as
    "sim:7?light=night&seconds=10&rate=10". Each is a camera of its own; they run one after the other. The
    same command on the same machine, provider and threads gives the same lines, to the byte, --times aside.
    For lines, - as FILE is standard output. Ctrl-C finishes the frame in hand and keeps what is done.
    """
    if options["as_json"] and "-" in (options["jsonl"], options["drift_jsonl"], options["compare_jsonl"]):
        raise click.UsageError("--json and lines on standard output would mix")

    from edge.perception.detector import DetectorOptions
    from tools.replay.interrupt import Interrupt
    from tools.replay.progress import ProgressLine
    from tools.replay.request import Compare, Drift, Request, speed_of, swap_of
    from tools.replay.run import replay

    if options["compare"] is None and (options["compare_jsonl"] or options["compare_html"]):
        raise click.UsageError("--compare-jsonl and --compare-html need --compare")
    request = Request(
        sources=sources,
        model=model,
        camera_names=options["camera_names"],
        options=DetectorOptions(
            providers=options["providers"],
            threads=options["threads"],
            score_threshold=options["score_threshold"],
        ),
        **{name: options[name] for name in ("jsonl", "video", "times", "drift_jsonl", "mcap", "limit")},
        mcap_start_ns=options["mcap_start"],
        still_rate_hz=options["rate"],
        speed=speed_of(options["speed"]),
        swap=swap_of(options["swap_to"], options["swap_at"]),
        drift=Drift(options["reference"]) if options["drift"] or options["reference"] else None,
        compare=Compare(
            options["compare"],
            options["compare_jsonl"],
            options["compare_html"],
            options["compare_pictures"],
        )
        if options["compare"]
        else None,
    )
    with Interrupt() as interrupt, ProgressLine(sys.stderr) as progress:
        summary = replay(request, stop_requested=lambda: interrupt.requested, progress=progress.show)
    click.echo(summary.to_text(), err=True)
    if options["as_json"]:
        click.echo(json.dumps(summary.to_json(), indent=2))
    if summary.interrupted:
        sys.exit(130)
    summary.require_published()
