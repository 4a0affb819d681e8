"""The page of a check: one file, no script, nothing fetched; pictures of the offenders with their boxes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from cloud.datasets.dataset import LabeledImage
from cloud.pipeline.purity.findings import Finding, Kind, PurityReport, Tally, Verdict
from cloud.pipeline.purity.pictures import ImpureError, open_picture

FIGURES_PER_KIND = 12
FIGURES_PER_DOUBT = 24
LINES_PER_KIND = 200
PICTURE_WIDTH = 480  # pixels, of a picture on the page
_AROUND = 2.5  # of a box's longer side: so much of its surroundings on each side
_LEAST_VIEW = 160.0  # pixels
_QUALITY = 75

TITLES: Mapping[Kind, str] = {
    Kind.PICTURE: "Pictures that cannot be used",
    Kind.SCHEMA: "Labels that cannot be read",
    Kind.CLASS: "Boxes of an unknown class",
    Kind.BOX: "Boxes out of bounds, malformed or twice",
    Kind.SIZE: "Boxes of no sane size",
    Kind.BLUR: "Blurred for their slice",
    Kind.EXPOSURE: "Too dark or too bright for their slice",
    Kind.DUPLICATE: "The same picture again",
    Kind.DUPLICATE_ACROSS: "The same picture on two sides of the split",
    Kind.DUPLICATE_KNOWN: "Pictures that known data have",
    Kind.DRIVE: "Drives on more than one side of the split",
    Kind.HOLDOUT: "Drives that models are judged by",
    Kind.CLASS_BALANCE: "Classes out of balance",
    Kind.SLICE_BALANCE: "Thin slices",
    Kind.DRIFT: "Drift from known data",
    Kind.DOUBT: "Labels to look at again",
    Kind.DISAGREEMENT: "Label sources that disagree",
}


@dataclass(frozen=True, slots=True)
class Overlay:
    """One box over a picture."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture on the page: encoded as a data URI, the part of it that is shown, what lies over it."""

    name: str
    uri: str
    view: tuple[float, float, float, float]
    overlays: tuple[Overlay, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One finding with its pictures."""

    what: str
    pictures: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of one kind, or of one reason of it."""

    title: str
    figures: tuple[Figure, ...]
    lines: tuple[Finding, ...]
    more: int


def render_page(
    report: PurityReport,
    title: str,
    images: Mapping[str, LabeledImage],
    read: Callable[[LabeledImage], bytes],
) -> str:
    """Lay a report out as HTML; all that is not ours in it is escaped.

    Args:
        report: of the check.
        title: the batch's name.
        images: by name, those that findings are about.
        read: gives a picture's file.
    """
    environment = Environment(
        loader=PackageLoader("cloud.pipeline.purity", "."),
        autoescape=select_autoescape(["jinja", "html"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grouped"] = lambda number: f"{number:,}"
    environment.filters["percent"] = lambda share: f"{share:.1%}" if share >= 0.001 or not share else "< 0.1%"
    sections = [
        (tally, TITLES[tally.kind], _groups(report.of_kind(tally.kind), tally.kind, images, read))
        for tally in report.tallies
        if tally.found
    ]
    return environment.get_template("page.html.jinja").render(
        title=title,
        verdict=report.verdict.value,
        lead=_lead(report),
        tallies=[(tally, TITLES[tally.kind]) for tally in report.tallies],
        sections=sections,
        facts=_facts(report.facts),
        refused=len(report.refused()),
    )


def _lead(report: PurityReport) -> str:
    def named(verdict: Verdict) -> list[Tally]:
        return [tally for tally in report.tallies if tally.verdict is verdict]

    failed, warned = named(Verdict.FAIL), named(Verdict.WARN)
    if failed:
        return "Not fit to be trained on: " + ", ".join(TITLES[one.kind].lower() for one in failed) + "."
    if warned:
        return "Fit to be trained on, with a look at: " + ", ".join(
            TITLES[one.kind].lower() for one in warned
        )
    return "Fit to be trained on: nothing was found beyond what its rules allow."


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "slices": {}, "sides": {}, "norms": {}, "balance": {}, "drift": [], "review": None, "agreement": []
    }  # fmt: skip
    return {"pictures": 0, "drives": 0, "boxes": 0, "slice_by": "slice", **wanted, **facts}


def _groups(
    findings: Sequence[Finding],
    kind: Kind,
    images: Mapping[str, LabeledImage],
    read: Callable[[LabeledImage], bytes],
) -> list[Group]:
    if kind is not Kind.DOUBT:
        return [_group("", findings, FIGURES_PER_KIND, images, read)]
    reasons = list(dict.fromkeys(finding.reason for finding in findings))
    return [
        _group(
            reason.capitalize(),
            [finding for finding in findings if finding.reason == reason],
            FIGURES_PER_DOUBT,
            images,
            read,
        )
        for reason in reasons
    ]


def _group(
    title: str,
    findings: Sequence[Finding],
    count: int,
    images: Mapping[str, LabeledImage],
    read: Callable[[LabeledImage], bytes],
) -> Group:
    figures: list[Figure] = []
    for finding in findings:
        if len(figures) == count:
            break
        names = [name for name in finding.where[:2] if name in images]
        shown = [one for name in names if (one := _shown(images[name], finding, read)) is not None]
        if shown:
            figures.append(Figure(finding.what, tuple(shown)))
    lines = tuple(findings[:LINES_PER_KIND])
    return Group(title, tuple(figures), lines, len(findings) - len(lines))


def _shown(image: LabeledImage, finding: Finding, read: Callable[[LabeledImage], bytes]) -> Shown | None:
    try:
        picture = open_picture(read(image), None, None)
    except (ImpureError, OSError):
        return None
    accused = _accused(image, finding)
    view = _view(accused, picture.width, picture.height)
    left, top, wide, high = view
    part = picture.crop((left, top, left + wide, top + high))
    part.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    part.save(encoded, "JPEG", quality=_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
    return Shown(image.name, uri, view, _overlays(image, finding, accused))


def _accused(image: LabeledImage, finding: Finding) -> tuple[float, float, float, float] | None:
    if finding.where[0] != image.name:
        return None
    if finding.box is not None and finding.box < len(image.boxes):
        box = image.boxes[finding.box]
        return box.x1, box.y1, box.x2, box.y2
    return finding.corners


def _view(
    accused: tuple[float, float, float, float] | None, width: int, height: int
) -> tuple[float, float, float, float]:
    """The part of a picture around a box, in the picture's own shape; the whole without one."""
    if accused is None:
        return 0.0, 0.0, float(width), float(height)
    x1, y1, x2, y2 = accused
    # Not a number: the box cannot be, and is looked for in vain.
    if not all(abs(value) < 1e6 for value in accused):
        return 0.0, 0.0, float(width), float(height)
    wide = max(_LEAST_VIEW, (1 + 2 * _AROUND) * max(abs(x2 - x1), abs(y2 - y1) * width / height))
    wide = min(wide, float(width))
    high = min(wide * height / width, float(height))
    left = min(max((x1 + x2 - wide) / 2, 0.0), width - wide)
    top = min(max((y1 + y2 - high) / 2, 0.0), height - high)
    # Of a line of a picture the part in its shape would have no height.
    return float(round(left)), float(round(top)), float(max(1, round(wide))), float(max(1, round(high)))


def _overlays(
    image: LabeledImage, finding: Finding, accused: tuple[float, float, float, float] | None
) -> tuple[Overlay, ...]:
    overlays = []
    for number, box in enumerate(image.boxes):
        mine = finding.where[0] == image.name and number == finding.box
        overlays.append(
            _overlay((box.x1, box.y1, box.x2, box.y2), "accused" if mine else "label", box.category)
        )
    if finding.corners is not None and finding.where[0] == image.name:
        overlays.append(_overlay(finding.corners, "missing", finding.what))
    return tuple(one for one in overlays if one is not None)


def _overlay(corners: tuple[float, float, float, float], kind: str, title: str) -> Overlay | None:
    x1, y1, x2, y2 = corners
    if not all(abs(value) < 1e6 for value in corners):
        return None
    return Overlay(min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1), kind, title)
