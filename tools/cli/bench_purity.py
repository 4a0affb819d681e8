"""`traffic-vision bench purity`: the purity check, measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command("purity")
@click.option(
    "--data", type=_PATH, required=True, help="Labelled pictures that are right, as far as is known."
)
@click.option(
    "--model", type=_PATH, help="Model file that was not trained on them; the shipped baseline unless given."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is planted where.")
@click.option(
    "--batches", type=click.IntRange(1), default=1, show_default=True, help="With this seed and the next."
)
@click.option(
    "--shuffled",
    type=click.FloatRange(0, 0.5),
    default=0.05,
    show_default=True,
    help="Share of the boxes whose places are exchanged.",
)
@click.option(
    "--duplicates", type=click.IntRange(0), default=30, show_default=True, help="Pictures that come twice."
)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Of the model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    data: Path,
    model: Path | None,
    seed: int,
    batches: int,
    shuffled: float,
    duplicates: int,
    threads: int,
    as_json: bool,
) -> None:
    """What does the purity check find of a planted bad batch, and what does it find falsely?

    Planted are boxes in each other's places, a class with another name, pictures that come twice (re-encoded,
    smaller, brighter, cropped; half of them on the other side of the split), and a drive on both sides.
    """
    from tools.bench.purity.planting import Plan
    from tools.bench.purity.run import bench_purity
    from tools.replay.progress import ProgressLine

    with ProgressLine(sys.stderr, "picture") as line:
        report = bench_purity(
            data,
            model,
            Plan(seed, shuffled, duplicates),
            batches,
            threads,
            lambda done, of: line.show(done, of),
        )
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())
