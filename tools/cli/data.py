"""`traffic-vision data`: labelled drives."""

from __future__ import annotations

import json
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)
_IMAGES = click.option(
    "--images", type=_PATH, help="Folder of the pictures, if they are not with the labels."
)
_OUTPUT = click.option("-o", "--output", type=_PATH, required=True, help="A new or empty folder.")


@click.group("data")
def command() -> None:
    """Bring in, look at, split and simulate labelled drives."""


@command.command("import")
@click.argument("source", type=_PATH)
@_IMAGES
@_OUTPUT
@click.option("--link", is_flag=True, help="Hard-link the pictures instead of copying them.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def import_(source: Path, images: Path | None, output: Path, link: bool, as_json: bool) -> None:
    """Bring a labelled dataset into the one shape that everything here uses.

    SOURCE is a BDD100K or Scalabel label file, a folder of them, or a YOLO folder (its data.yaml, or one with
    classes.txt). OUTPUT gets images/, det_20.json, and labels/ with data.yaml for Ultralytics.
    """
    from cloud.datasets.preparing import import_dataset
    from cloud.datasets.progress import progress_bar

    report = import_dataset(source, output, images, link, progress_bar("import"))
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())


@command.command("inspect")
@click.argument("path", type=_PATH)
@_IMAGES
@click.option("--html", type=_PATH, help="Write a page with counts and sample pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def inspect(path: Path, images: Path | None, html: Path | None, as_json: bool) -> None:
    """Count images, drives and boxes by slice and class, and what was refused."""
    from cloud.datasets import dataset_sha256, read_dataset
    from cloud.datasets.summary import summarize, to_text

    dataset = read_dataset(path, images)
    summary = summarize(dataset)
    if html:
        from cloud.datasets.page import write_page

        write_page(html, dataset, path.resolve().name)
    if as_json:
        click.echo(json.dumps({"sha256": dataset_sha256(dataset), **summary.to_json()}, indent=2))
    else:
        click.echo(to_text(summary))
        if html:
            click.echo(f"\npage: {html}")


@command.command("split")
@click.argument("path", type=_PATH)
@_IMAGES
@_OUTPUT
@click.option(
    "--fractions",
    default="train=0.8,val=0.1,test=0.1",
    show_default=True,
    help="Each split's part of all drives, in order; they add up to 1.",
)
@click.option("--salt", default="", help="Another text gives another split of the same drives.")
@click.option("--copy", is_flag=True, help="Copy the pictures instead of hard-linking them.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def split(
    path: Path, images: Path | None, output: Path, fractions: str, salt: str, copy: bool, as_json: bool
) -> None:
    """Split a dataset by drive: a whole drive is on one side, and stays there when data is added.

    OUTPUT is a dataset with a list for each split (train.txt, val.txt ...), named in its data.yaml.
    """
    from cloud.datasets.preparing import split_dataset
    from cloud.datasets.progress import progress_bar
    from cloud.datasets.splitting import parse_fractions

    report = split_dataset(
        path, output, parse_fractions(fractions), salt, images, not copy, progress_bar("split")
    )
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())


def _size(_: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    width, _cross, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"{value!r} is not WxH in pixels, such as 640x360", param=param)
    return int(width), int(height)


@command.command("simulate")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the first drive; the next has the next."
)
@click.option("--drives", type=click.IntRange(1), default=1, show_default=True, help="How many.")
@click.option(
    "--frames", type=click.IntRange(1), default=100, show_default=True, help="Pictures of each drive."
)
@click.option("--rate", type=float, default=1.0, show_default=True, help="Pictures a second of drive, Hz.")
@click.option("--light", default="noon", show_default=True, help="noon, dusk, night ...")
@click.option("--size", callback=_size, default="640x360", metavar="WxH", show_default=True, help="Pixels.")
@click.option("--weather", default="clear", show_default=True, help="clear, rain, fog.")
@click.option("--lens", default="clean", show_default=True, help="clean, smear.")
@click.option("--turn", type=float, default=0.0, help="The camera is turned to the right, degrees.")
@click.option("--exposure", type=float, default=0.0, help="The exposure is off, stops.")
@click.option("--val-drives", type=click.IntRange(0), default=0, help="The last ones form the split val.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["frames", "mp4"]),
    default="frames",
    show_default=True,
    help="Pictures, or a video a drive; labels go with both.",
)
@_OUTPUT
def simulate(
    seed: int,
    drives: int,
    frames: int,
    rate: float,
    light: str,
    size: tuple[int, int],
    weather: str,
    lens: str,
    turn: float,
    exposure: float,
    val_drives: int,
    kind: str,
    output: Path,
) -> None:
    """Write simulated drives with exact labels, as BDD100K and Ultralytics have them.

    The same seed, time and light always give the same picture. A light may fall during the drive: noon-night.
    """
    from cloud.datasets.progress import progress_bar
    from tools.drives.conditions import Conditions
    from tools.drives.export import SimulationPlan, write_films, write_frames

    conditions = Conditions(weather=weather, lens=lens, turn=turn, exposure=exposure)
    plan = SimulationPlan(seed, drives, frames, rate, light, size, val_drives, conditions)
    write = write_films if kind == "mp4" else write_frames
    images, boxes = write(plan, output, progress_bar("simulate", "drive"))
    click.echo(f"{output}: {images:,} frames, {boxes:,} boxes")
