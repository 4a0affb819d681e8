"""`traffic-vision bench gate`: the release gate, simulated."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)
_ONE = click.IntRange(1)
_PART = click.FloatRange(0, 1, min_open=True)


@click.command("gate")
@click.option("--data", type=_PATH, required=True, help="Labelled pictures by day and by night.")
@click.option(
    "--model", type=_PATH, help="The champion: a model file or a .pt; the shipped one unless given."
)
@click.option(
    "--challenger",
    type=_PATH,
    help="Makes the second look that candidates are made of; mirrored pictures unless given.",
)
@click.option("--size", default="384x640", show_default=True, help="HEIGHTxWIDTH that a .pt is exported at.")
@click.option(
    "--slice", "slice_by", default="timeofday", show_default=True, help="Attribute of the pictures."
)
@click.option("--kept", default="daytime", show_default=True, help="Its value that must not get worse.")
@click.option("--target", default="night", show_default=True, help="Its value that must get better.")
@click.option("--loss", type=_PART, default=0.02, show_default=True, help="Of the worse candidate, mAP50.")
@click.option("--gain", type=_PART, default=0.04, show_default=True, help="Of the better candidate, mAP50.")
@click.option(
    "--drives",
    type=click.IntRange(2),
    multiple=True,
    help="Of a holdout; repeat. Half of what the data have, all, and what the power report calls enough.",
)
@click.option("--trials", type=_ONE, default=200, show_default=True, help="Holdouts of each size.")
@click.option("--min-boxes", type=_ONE, default=100, show_default=True, help="Of a class that is averaged.")
@click.option(
    "--resamples", type=click.IntRange(100), default=500, show_default=True, help="Of the bootstrap."
)
@click.option("--threads", type=_ONE, default=2, show_default=True, help="Of one inference.")
@click.option("--workers", type=_ONE, default=2, show_default=True, help="Processes that judge.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another draws others.")
@click.option(
    "--cache", type=_PATH, metavar="DIR", help="Keeps what models found: a second run looks no more."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(size: str, as_json: bool, **options: Any) -> None:
    """How often does the release gate let through what it must not, and what it should?

    Holdouts are drawn from real detections on the labelled pictures. The candidates' true differences to the
    champion are set: worse where it must not be, equal, and better where it should be.
    """
    from tools.bench.edge.subject import parse_size
    from tools.bench.gate.bench import GateSettings, bench_gate
    from tools.replay.progress import ProgressLine

    settings = GateSettings(input_hw=parse_size(size), **options)
    with ProgressLine(sys.stderr, "step") as line:
        report = bench_gate(settings, lambda what, done, of: line.show(done, of))
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
