"""From what was read and measured to findings, a function a kind: rules, but for the twins' small copies."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cloud.config import PurityConfig
from cloud.datasets.dataset import LabeledImage, Refusal
from cloud.pipeline.purity.agreement import Agreement
from cloud.pipeline.purity.duplicates import Print, TwinRules, find_twins
from cloud.pipeline.purity.findings import Finding, Kind
from cloud.pipeline.purity.measuring import FEATURE_NAMES, Measures, measure, read_file
from cloud.pipeline.purity.norms import slice_norms
from cloud.pipeline.purity.pictures import FORMATS, ImpureError, LabelRules, label_faults
from cloud.pipeline.purity.review import Doubt, Review
from cloud.pipeline.purity.shift import Rows, shifts
from cloud.pipeline.purity.splits import drives_on_both_sides

SAME_PICTURE = "near-duplicate of another picture"
_PLACE = re.compile(r"(?P<name>.+), box (?P<box>\d+)$")
_PICTURE_REASONS = re.compile(r"image (is|cannot|name is found)")


def kind_of_refusal(reason: str) -> Kind:
    """Tell of what kind something is that could not be read."""
    if reason == "class id is not in the class list":
        return Kind.CLASS
    if reason.startswith("box "):
        return Kind.BOX
    return Kind.PICTURE if _PICTURE_REASONS.match(reason) else Kind.SCHEMA


def reading_findings(refusals: Sequence[Refusal], clipped: Sequence[Refusal]) -> list[Finding]:
    """What was left out, and what was cut, when the batch was read. Their boxes are in no labels any more."""
    findings = []
    for some, how in ((refusals, "left out"), (clipped, "cut to it")):
        for one in some:
            text = one.where.encode("utf-8", "backslashreplace").decode()
            place = _PLACE.match(text)
            name, which = (place["name"], f", box {place['box']}") if place else (text, "")
            what = f"{one.reason}{which}: {how}"
            findings.append(Finding(kind_of_refusal(one.reason), (name,), what, one.reason))
    return findings


def label_findings(images: Sequence[LabeledImage], rules: LabelRules) -> list[Finding]:
    """Boxes that cannot be, or of no known class."""
    findings = []
    for image in images:
        # Where nobody knows the picture's size, its labels are held to the rest of the rules.
        width, height = image.width or 10**9, image.height or 10**9
        for fault in label_faults(image.boxes, width, height, rules):
            assert fault.box is not None
            box = image.boxes[fault.box]
            what = f"{fault}: {box.category} {box.x1:.0f}, {box.y1:.0f}, {box.x2:.0f}, {box.y2:.0f}"
            findings.append(Finding(fault.kind, (image.name,), what, str(fault), fault.box))
    return findings


def norm_findings(
    pictures: Sequence[tuple[str, str, Measures]],
    everything: Sequence[tuple[str, Measures]],
    deviations: float,
    least: int,
) -> tuple[list[Finding], dict[str, Any], int]:
    """Pictures that are blurred, too dark or too bright for their slice.

    Args:
        pictures: name, slice and measures of each that is judged.
        everything: slice and measures that norms are learned from.
        deviations: how far is too far.
        least: pictures that a norm is learned from at least.

    Returns:
        The findings, the norms, and how many pictures have one.
    """
    slices = [value for value, _ in everything]
    sharp = slice_norms(slices, [one.sharpness for _, one in everything], least)
    light = slice_norms(slices, [one.light for _, one in everything], least)
    findings: list[Finding] = []
    judged = 0
    for name, value, one in pictures:
        if value not in sharp:
            continue
        judged += 1
        off = sharp[value].deviations(one.sharpness)
        if off < -deviations:
            what = f"sharpness {-off:.1f} standard deviations below the median of {value}"
            findings.append(Finding(Kind.BLUR, (name,), what, f"blurred for {value}", score=-off))
        off = light[value].deviations(one.light)
        if abs(off) > deviations:
            side, how = ("above", "too bright") if off > 0 else ("below", "too dark")
            what = f"light {abs(off):.1f} standard deviations {side} the median of {value}"
            findings.append(Finding(Kind.EXPOSURE, (name,), what, f"{how} for {value}", score=abs(off)))
    norms = {
        value: {
            "pictures": norm.pictures,
            "sharpness": [round(norm.median, 4), round(norm.sigma, 4)],
            "light_stops": [round(light[value].median, 4), round(light[value].sigma, 4)],
        }
        for value, norm in sharp.items()
    }
    return findings, norms, judged


def twin_findings(
    images: Sequence[LabeledImage],
    measures: Sequence[Measures],
    sides: Mapping[str, tuple[str, ...]],
    known: Sequence[LabeledImage],
    known_hashes: Sequence[int],
    config: PurityConfig,
) -> list[Finding]:
    """Pictures that are there twice: in the batch, on two sides of its split, or among the known ones."""
    prints: dict[int, Print | None] = {}

    def known_print(place: int) -> Print | None:
        if place not in prints:
            prints[place] = _print_of(known[place])
        return prints[place]

    twins = find_twins(
        [(one.dhash, one.small) for one in measures],
        ["+".join(sides.get(image.name, ())) for image in images],
        known_hashes,
        known_print,
        TwinRules(config.compare_bits, config.duplicate_bits, config.duplicate_likeness),
    )
    findings = []
    for twin in twins:
        place = twin.earlier - len(known)
        other = known[twin.earlier] if place < 0 else images[place]
        mine = images[twin.later]
        kind, where = Kind.DUPLICATE_KNOWN, "of known data"
        if place >= 0:
            here, there = sides.get(mine.name, ()), sides.get(other.name, ())
            across = bool(here and there) and set(here) != set(there)
            kind = Kind.DUPLICATE_ACROSS if across else Kind.DUPLICATE
            where = f"on side {', '.join(there)}, itself on {', '.join(here)}" if across else "of the batch"
        how = f"{twin.bits} of 64 bits differ, likeness {twin.likeness:.3f}"
        what = f"shows what {other.name} {where} does: {how}"
        findings.append(Finding(kind, (mine.name, other.name), what, SAME_PICTURE, score=twin.likeness))
    return findings


def _print_of(image: LabeledImage) -> Print | None:
    try:
        return measure(read_file(image), None, None, FORMATS).small
    except (OSError, ImpureError):
        return None


def drive_findings(images: Sequence[LabeledImage], sides: Mapping[str, tuple[str, ...]]) -> list[Finding]:
    """Drives that are on more than one side of the split."""
    pairs = [(image.drive, side) for image in images for side in sides.get(image.name, ())]
    by_drive: defaultdict[str, list[LabeledImage]] = defaultdict(list)
    for image in images:
        if sides.get(image.name):
            by_drive[image.drive].append(image)
    findings = []
    for drive, names in sorted(drives_on_both_sides(pairs).items()):
        torn = by_drive[drive]
        counts = Counter(side for image in torn for side in sides[image.name])
        # Of the side with the fewer pictures first: it is what would have to go.
        torn.sort(key=lambda image: (min(counts[side] for side in sides[image.name]), image.name))
        shown = ", ".join(f"{side} ({counts[side]})" for side in sorted(names))
        findings.append(
            Finding(
                Kind.DRIVE,
                tuple(image.name for image in torn),
                f"drive {drive} is on {shown}",
                "drive is on more than one side",
                score=float(len(torn)),
            )
        )
    return findings


def images_by_side(
    images: Sequence[LabeledImage], sides: Mapping[str, tuple[str, ...]]
) -> dict[str, list[LabeledImage]]:
    """Give the pictures of each side."""
    found: defaultdict[str, list[LabeledImage]] = defaultdict(list)
    for image in images:
        for side in sides.get(image.name, ()):
            found[side].append(image)
    return dict(found)


def feature_rows(
    images: Sequence[LabeledImage],
    measures: Mapping[str, Measures],
    slice_of: Callable[[LabeledImage], str],
) -> Rows:
    """Lay out the features of pictures."""
    rows = [measures[image.name].features for image in images]
    features = np.stack(rows) if rows else np.zeros((0, len(FEATURE_NAMES)), np.float32)
    return Rows([slice_of(image) for image in images], [image.drive for image in images], features)


def drift_findings(
    new: Rows, known: Rows, distance: float, p_value: float
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Features of the picture that are elsewhere than in known data of the same slice."""
    compared = shifts(new, known, FEATURE_NAMES)
    findings = [
        Finding(
            Kind.DRIFT,
            (),
            f"{one.slice}: {one.feature} {one.median:.3g} where {one.known_median:.3g} is known; KS distance "
            f"{one.distance:.2f} between {one.drives} and {one.known_drives} drives, p {one.p_value:.2g}",
            "feature has drifted",
            score=one.distance,
        )
        for one in compared
        if one.distance > distance and one.p_value < p_value
    ]
    figures = [
        {
            "slice": one.slice,
            "feature": one.feature,
            "ks_distance": round(one.distance, 4),
            "p_value": float(f"{one.p_value:.3g}"),
            "median": float(f"{one.median:.4g}"),
            "known_median": float(f"{one.known_median:.4g}"),
            "drives": [one.drives, one.known_drives],
        }
        for one in compared
    ]
    return findings, figures


def doubt_findings(images: Sequence[LabeledImage], found: Review) -> list[Finding]:
    """Labels that a person should look at again, the likeliest of each doubt with the highest score."""
    return [
        Finding(
            Kind.DOUBT,
            (images[one.image].name,),
            one.to_text(),
            one.doubt.value,
            one.box,
            one.corners if one.doubt is Doubt.OVERLOOKED else None,
            one.chance - 1e-9 * rank,
        )
        for rank, one in enumerate(found.doubtful)
    ]


def disagreement_findings(found: Agreement) -> list[Finding]:
    """Objects on which two sources differ; the largest first."""
    findings = []
    for one in found.disagreements:
        box = one.second or one.first
        assert box is not None
        size = max(0.0, box.x2 - box.x1) * max(0.0, box.y2 - box.y1)
        findings.append(
            Finding(
                Kind.DISAGREEMENT,
                (one.picture,),
                one.to_text(found.first, found.second),
                f"{found.first} and {found.second} differ",
                corners=(box.x1, box.y1, box.x2, box.y2),
                score=size,
            )
        )
    return findings
