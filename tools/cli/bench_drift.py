"""`traffic-vision bench drift`: the drift monitor, measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from tools.bench.drift.setting import PARTS

_PATH = click.Path(path_type=Path)
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
@click.option(
    "--trials", type=_ONE, default=200, show_default=True, help="Of each change, whose delay is measured."
)
@click.option("--peer-hours", type=_MORE, default=2.0, show_default=True, help="Of each stream for peers.")
@click.option(
    "--peers",
    type=_PATH,
    metavar="DIR",
    help="Environments of the peers; made from the package index where there are none.",
)
@click.option(
    "--simulated-hours", type=_MORE, default=20.0, show_default=True, help="Of further simulated day drives."
)
@click.option("--drives", type=_PATH, metavar="DIR", help="Day and night videos ('night' in their names).")
@click.option("--model", type=_PATH, help="Model file for the drives; the shipped baseline unless given.")
@click.option(
    "--cache", type=_PATH, metavar="DIR", help="Keeps the drives' features: a run goes on where one ended."
)
@click.option("--workers", type=_ONE, default=2, show_default=True, help="Processes that share the drives.")
@click.option("--tuning", is_flag=True, help="The streams that constants may be tuned on; not for figures.")
@click.option("--quick", is_flag=True, help="A little of each, to see that it works; not for figures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(as_json: bool, parts: tuple[str, ...], **options: Any) -> None:
    """Is the drift monitor's promise kept, how soon is a change found, at what cost, and who does better?

    \b
    promise      false alarms in 2,000 h of streams without a change, autocorrelated in ten ways
    delay        from a change to its alarm, and whether that names what changed
    peers        scipy, river, alibi-detect, frouros on the same streams in turns; they need --peers DIR
    alternation  day and night in turns, 200 h, both known; and the first night with the day alone known
    cost         processor time a frame, of the features too, and memory
    simulated    20 h of further day drives, and which changes are found, how soon, as what: an hour
    real         day clips that go over into the night; they need --drives DIR
    """
    from tools.bench.drift.bench import bench_drift
    from tools.bench.drift.setting import DriftSettings
    from tools.replay.progress import ProgressLine

    settings = DriftSettings(parts=parts or PARTS, **options)
    with ProgressLine(sys.stderr, "step") as line:
        report = bench_drift(settings, lambda part, done, of: line.show(done, of))
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
