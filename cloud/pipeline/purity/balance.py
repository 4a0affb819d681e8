"""Classes and slices that are more, or fewer, than the known data let expect. Rules alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud.datasets.dataset import LabeledImage
from cloud.pipeline.purity.findings import Finding, Kind


@dataclass(frozen=True, slots=True)
class BalanceRules:
    """When a class or a slice is out of balance; see `[purity]` of the configuration."""

    ratio: float
    min_expected_boxes: int
    min_slice_share: float


def expected_boxes(
    images: Sequence[LabeledImage], known: Sequence[LabeledImage], slice_by: str
) -> dict[str, float]:
    """How many boxes of each class pictures would have if each were as known pictures of its slice are.

    Pictures of slices that are not known count as the mean of all known ones.
    """
    per_picture = _boxes_per_picture(known, slice_by)
    everywhere = _boxes_per_picture(known, None)[""] if known else {}
    expected: defaultdict[str, float] = defaultdict(float)
    for value, count in Counter(image.attributes.get(slice_by, "") for image in images).items():
        for name, boxes in per_picture.get(value, everywhere).items():
            expected[name] += count * boxes
    return dict(expected)


def class_findings(
    images: Sequence[LabeledImage],
    known: Sequence[LabeledImage],
    slice_by: str,
    rules: BalanceRules,
    whose: str = "",
) -> tuple[list[Finding], dict[str, dict[str, float]]]:
    """Find classes that are out of balance.

    Args:
        images: the new pictures.
        known: what they are compared with.
        slice_by: attribute within whose values they are compared.
        rules: when it is told.
        whose: named in what is told, such as "val against train".

    Returns:
        The findings, and boxes and expected boxes of each class.
    """
    counts = Counter(box.category for image in images for box in image.boxes)
    expected = expected_boxes(images, known, slice_by)
    figures = {
        name: {"boxes": float(counts[name]), "expected": round(expected.get(name, 0.0), 1)}
        for name in sorted({*counts, *expected})
    }
    findings = []
    for name, figure in figures.items():
        boxes, likely = figure["boxes"], figure["expected"]
        if max(boxes, likely) < rules.min_expected_boxes:
            continue
        # One more on each side: a class that nobody expected has a finite ratio, too.
        ratio = (boxes + 1) / (likely + 1)
        if 1 / rules.ratio <= ratio <= rules.ratio:
            continue
        how = "none" if not boxes else f"{boxes:,.0f}"
        prefix = f"{whose}: " if whose else ""
        findings.append(
            Finding(
                Kind.CLASS_BALANCE,
                (),
                f"{prefix}{name}: {how} where {likely:,.0f} boxes were to be expected",
                "class is out of balance",
                score=max(ratio, 1 / ratio),
            )
        )
    return findings, figures


def slice_findings(images: Sequence[LabeledImage], slice_by: str, rules: BalanceRules) -> list[Finding]:
    """Find slices with hardly any pictures: nothing can be learned, or told, of them."""
    counts = Counter(image.attributes.get(slice_by, "(none)") for image in images)
    return [
        Finding(
            Kind.SLICE_BALANCE,
            (),
            f"{slice_by} {value}: {count} of {len(images)} pictures",
            "slice is thin",
            score=1 - count / len(images),
        )
        for value, count in sorted(counts.items())
        if count < rules.min_slice_share * len(images)
    ]


def _boxes_per_picture(
    images: Sequence[LabeledImage], slice_by: str | None
) -> dict[str, Mapping[str, float]]:
    boxes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    pictures: Counter[str] = Counter()
    for image in images:
        value = image.attributes.get(slice_by, "") if slice_by else ""
        pictures[value] += 1
        boxes[value].update(box.category for box in image.boxes)
    return {
        value: {name: number / count for name, number in boxes[value].items()}
        for value, count in pictures.items()
    }
