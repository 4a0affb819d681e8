"""`traffic-vision bench retrain`: what a retrain is worth on labelled pictures."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)
_ONE = click.IntRange(1)


@click.command("retrain")
@click.option("--data", type=_PATH, required=True, help="Labelled pictures of both slices.")
@click.option("--weights", type=_PATH, required=True, help="Checkpoint that the champions begin from.")
@click.option("--work", type=_PATH, metavar="DIR", help="Keeps what was trained: a run goes on from there.")
@click.option("--seeds", type=_ONE, default=3, show_default=True, help="Splits, each with its own trainings.")
@click.option("--imgsz", type=_ONE, default=320, show_default=True, help="Side of the picture, pixels.")
@click.option("--first-epochs", type=_ONE, default=8, show_default=True, help="Of a champion's training.")
@click.option("--epochs", type=_ONE, default=6, show_default=True, help="Of each retrain.")
@click.option(
    "--slice", "slice_by", default="timeofday", show_default=True, help="Attribute of the pictures."
)
@click.option("--kept", default="daytime", show_default=True, help="Its value that the champion knows.")
@click.option("--target", default="night", show_default=True, help="Its value that is new.")
@click.option(
    "--holdout",
    type=click.FloatRange(0.05, 0.9),
    default=0.5,
    show_default=True,
    help="Share of the drives that is judged on.",
)
@click.option("--min-boxes", type=_ONE, default=20, show_default=True, help="Of a class that is averaged.")
@click.option(
    "--resamples", type=click.IntRange(100), default=1000, show_default=True, help="Of the bootstrap."
)
@click.option("--threads", type=_ONE, default=2, show_default=True, help="Of training and inference.")
@click.option(
    "--loop/--no-loop", default=True, show_default=True, help="Time a whole retrain of a cloud, too."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(work: Path | None, as_json: bool, **options: Any) -> None:
    """What is a retrain worth: the slice that is new and the one that is known, before and after.

    Beside the pipeline's way the plain one: all pictures, Ultralytics' own optimizer. Each seed splits the
    drives anew; half an hour for 500 pictures on two cores. Then the first split's retrain in a cloud of its
    own, from samples to a release or its refusal: how much of that is neither training nor evaluation.
    """
    from tools.bench.retrain.bench import RetrainSettings, bench_retrain
    from tools.replay.progress import ProgressLine

    with tempfile.TemporaryDirectory() as folder, ProgressLine(sys.stderr, "step") as line:
        settings = RetrainSettings(work=work or Path(folder), **options)
        report = bench_retrain(settings, lambda what, done, of: line.show(done, of))
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
