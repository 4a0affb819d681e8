"""`traffic-vision cloud check`: is a dataset fit to be trained on?"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


def _named(_: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for value in values:
        name, sign, place = value.partition("=")
        if not (name and sign and place) or name in named:
            raise click.BadParameter(f"{value!r} is not NAME=DATASET, each NAME once", param=param)
        named[name] = Path(place)
    return named


@click.command("check")
@click.argument("dataset", type=_PATH)
@click.option("--images", type=_PATH, help="Folder of the pictures, if they are not with the labels.")
@click.option("--known", type=_PATH, metavar="DATASET", help="Earlier data to hold it against.")
@click.option("--apart", type=_PATH, metavar="DATASET", help="Must share no drive and no picture with it.")
@click.option(
    "--labels",
    multiple=True,
    callback=_named,
    metavar="NAME=DATASET",
    help="Other labels of the same pictures, to see how far they agree; repeat for more.",
)
@click.option("--model", type=_PATH, help="Model file that was not trained on these labels: doubts them.")
@click.option("--config", type=_PATH, help="cloud.toml with [purity]  [default: the defaults]")
@click.option(
    "--slice-by", help="Attribute whose values have a norm each  [default: the config's, timeofday]"
)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Of the model.")
@click.option("--html", type=_PATH, help="Write a page with pictures of the offenders.")
@click.option("--findings", type=_PATH, help="Write all findings as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print that JSON instead of a table.")
def command(
    dataset: Path,
    images: Path | None,
    known: Path | None,
    apart: Path | None,
    labels: dict[str, Path],
    model: Path | None,
    config: Path | None,
    slice_by: str | None,
    threads: int,
    html: Path | None,
    findings: Path | None,
    as_json: bool,
) -> None:
    """Check DATASET as the stage purity does: pictures, labels, duplicates, splits, balance, drift.

    DATASET is anything that `data inspect` reads; its split is that of its data.yaml. Exit code 1: a rule
    fails it.
    """
    from cloud.config import PurityConfig, load_config
    from cloud.datasets.files import write_file
    from cloud.pipeline.purity.findings import Verdict
    from cloud.pipeline.purity.on_disk import CheckOptions, check_dataset
    from tools.replay.progress import ProgressLine

    loaded = load_config(config) if config else None
    with ExitStack() as lines:
        # A line for each step, so that each has its own speed.
        line_of = cache(lambda step: lines.enter_context(ProgressLine(sys.stderr, step)))
        options = CheckOptions(
            images=images,
            known=known,
            apart=apart,
            labels=labels,
            model=model,
            config=loaded.purity if loaded else PurityConfig(),
            slice_by=slice_by or (loaded.gate.slice_by if loaded else "timeofday"),
            threads=threads,
            tell=lambda step, done, of: line_of(step).show(done, of),
        )
        checked = check_dataset(dataset, options)
    document = json.dumps(checked.report.to_json(), indent=1)
    if findings:
        write_file(findings, document)
    if html:
        write_file(html, checked.to_html())
    click.echo(document if as_json else checked.to_text())
    if html and not as_json:
        click.echo(f"\npage: {html}")
    if checked.report.verdict is Verdict.FAIL:
        sys.exit(1)
