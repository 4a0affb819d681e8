"""`traffic-vision bench drift`: the drift monitor, measured."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tools.bench.drift.setting import PARTS

_MORE, _ONE = click.FloatRange(0, min_open=True), click.IntRange(1)


@click.command("drift")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(PARTS),
    help="Of the measurement; repeat for more. All unless given.",
)
@click.option("--hours", type=_MORE, default=2000.0, show_default=True, help="Driven without a change.")
@click.option(
    "--replicates", type=_ONE, default=8, show_default=True, help="References of each family of streams."
)
@click.option("--tuning", is_flag=True, help="The streams that constants may be tuned on; not for figures.")
@click.option("--quick", is_flag=True, help="A little of each, to see that it works; not for figures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(as_json: bool, parts: tuple[str, ...], **options: Any) -> None:
    """Is the promise of the drift monitor kept?

    promise: false alarms in 2,000 h of streams without a change, autocorrelated in ten ways.
    """
    from tools.bench.drift.bench import bench_drift
    from tools.bench.drift.setting import DriftSettings
    from tools.replay.progress import ProgressLine

    settings = DriftSettings(parts=parts or PARTS, **options)
    with ProgressLine(sys.stderr, "step") as line:
        report = bench_drift(settings, lambda part, done, of: line.show(done, of))
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
