"""The page that `data inspect --html` writes: one file, no script, nothing fetched."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image, ImageOps

from cloud.datasets.classes import CANONICAL
from cloud.datasets.dataset import Dataset, LabeledImage
from cloud.datasets.files import write_file
from cloud.datasets.pictures import PictureError, picture_size
from cloud.datasets.spreading import spread_out
from cloud.datasets.summary import Counts, Summary, summarize

SAMPLE_WIDTH = 640  # pixels
SAMPLES_PER_GROUP = 9
MAX_GROUPS = 6
# Told apart on asphalt and at night; canonical classes keep their colour from page to page.
COLOURS = (
    "#ff5d5d", "#ffa53d", "#3db8ff", "#7c8cff", "#2bd4a7", "#c77dff",
    "#ff7ad1", "#ffd84d", "#8ee04e", "#d9c79e", "#9ad7e8", "#b8a1ff",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture on the page: encoded as a data URI, with what lies over it."""

    image: LabeledImage
    uri: str
    width: int
    height: int


def write_page(path: Path, dataset: Dataset, title: str) -> None:
    """Write a page with counts by slice and class, refusals, and sample pictures with their boxes.

    Args:
        path: the HTML file.
        dataset: what is shown; the same dataset always gives the same samples.
        title: the dataset's name.
    """
    summary = summarize(dataset)
    group_by = "timeofday" if "timeofday" in summary.slices else next(iter(summary.slices), None)
    environment = Environment(
        loader=PackageLoader("cloud.datasets", "."),
        autoescape=select_autoescape(["jinja", "html"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grouped"] = lambda number: f"{number:,}"
    colours = _colours(tuple(summary.total.classes))
    page = environment.get_template("page.html.jinja").render(
        title=title,
        summary=summary,
        colours=colours,
        matrices=_matrices(summary),
        group_by=group_by,
        groups=_groups(dataset, group_by),
    )
    write_file(path, page)


def _colours(classes: Sequence[str]) -> dict[str, str]:
    order = [*CANONICAL, *sorted(set(classes) - set(CANONICAL))]
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(order)}


def _matrices(summary: Summary) -> dict[str, dict[str, Counts]]:
    # A slice with one value says nothing that the totals do not.
    return {key: values for key, values in summary.slices.items() if len(values) > 1} or summary.slices


def _groups(dataset: Dataset, group_by: str | None) -> list[tuple[str, list[Sample]]]:
    groups: dict[str, list[LabeledImage]] = {}
    for image in dataset.images:
        value = image.attributes.get(group_by, "(none)") if group_by else ""
        groups.setdefault(value, []).append(image)
    largest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_GROUPS]
    return [(value, samples) for value, images in largest if (samples := _samples(images))]


def _samples(images: Sequence[LabeledImage]) -> list[Sample]:
    """Choose pictures that are there, one of each drive first."""
    samples: list[Sample] = []
    for image in spread_out(images, len(images)):
        if len(samples) == SAMPLES_PER_GROUP:
            break
        if image.path and (sample := _sample(image, image.path)):
            samples.append(sample)
    return samples


def _sample(image: LabeledImage, path: Path) -> Sample | None:
    try:
        width, height = picture_size(path, decode=True)
    except PictureError:
        return None
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
        picture.thumbnail((SAMPLE_WIDTH, SAMPLE_WIDTH))
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=80, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
    return Sample(image, uri, width, height)
