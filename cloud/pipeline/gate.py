"""The release gate: what a candidate must show against the champion, and what it showed. Rules alone.

Each rule bounds the end of an interval, not the figure itself, so that a small holdout makes a verdict
inconclusive and never a release. How small a difference the holdout can show at all is told first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from cloud.config import GateConfig
from cloud.datasets import LabeledImage
from cloud.pipeline.bootstrap import paired_bootstrap
from cloud.pipeline.evaluation import NO_VALUE
from cloud.pipeline.evaluation_coco import RankedClass
from cloud.store.states import VerdictKind

OVERALL = "(all)"
POWER = 0.8


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """Both models on one slice of the holdout.

    Attributes:
        images, drives, boxes: there are so many; boxes of the classes that count.
        classes: those with enough boxes; the others are not averaged.
        champion, challenger, difference: mAP50; None where the slice has too little to be judged.
        low, high: one-sided bounds of the difference.
        detectable: a true difference of this size would be shown in `POWER` of such holdouts.
        too_little: what there is too little of; empty where the slice is judged.
    """

    name: str
    images: int
    drives: int
    boxes: int
    classes: tuple[str, ...]
    champion: float | None = None
    challenger: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    too_little: str = ""


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule: what it demands of which slice, and what came of it."""

    rule: str
    slice: str
    bound: float
    verdict: VerdictKind
    why: str

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return {**asdict(self), "verdict": self.verdict.value}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, with all that it is made of."""

    verdict: VerdictKind
    rules: tuple[RuleResult, ...]
    slices: tuple[SliceFigures, ...]
    targets: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return {
            "verdict": self.verdict.value,
            "targets": list(self.targets),
            "slices": [{**asdict(figures), "classes": list(figures.classes)} for figures in self.slices],
            "rules": [result.to_json() for result in self.rules],
        }


def measure(
    images: Sequence[LabeledImage],
    champion: Sequence[RankedClass],
    challenger: Sequence[RankedClass],
    gate: GateConfig,
    seed: int = 0,
) -> tuple[SliceFigures, ...]:
    """Measure both models on the whole holdout and on each of its slices.

    Args:
        images: the holdout.
        champion: its matches on these images, class by class.
        challenger: its matches of the same classes.
        gate: the rules' numbers.
        seed: of the resamples.
    """
    places: dict[str, list[int]] = {OVERALL: list(range(len(images)))}
    for number, image in enumerate(images):
        value = image.attributes.get(gate.slice_by, NO_VALUE)
        if value != NO_VALUE:
            places.setdefault(value, []).append(number)
    drives = [image.drive for image in images]
    figures = []
    for name in [OVERALL, *sorted(set(places) - {OVERALL})]:
        chosen = places[name]
        enough = [
            number
            for number, ranked in enumerate(champion)
            if int(ranked.boxes[chosen].sum()) >= gate.min_boxes
        ]
        figures.append(
            _figures(
                name,
                [champion[number] for number in enough],
                [challenger[number] for number in enough],
                drives,
                chosen,
                gate,
                seed,
            )
        )
    return tuple(figures)


def _figures(
    name: str,
    champion: list[RankedClass],
    challenger: list[RankedClass],
    drives: list[str],
    chosen: list[int],
    gate: GateConfig,
    seed: int,
) -> SliceFigures:
    there = SliceFigures(
        name=name,
        images=len(chosen),
        drives=len({drives[number] for number in chosen}),
        boxes=sum(int(ranked.boxes[chosen].sum()) for ranked in champion),
        classes=tuple(ranked.name for ranked in champion),
    )
    too_little = ""
    if not champion:
        too_little = f"no class has {gate.min_boxes} boxes"
    elif there.drives < gate.min_drives:
        too_little = f"{there.drives} drives, at least {gate.min_drives} are needed"
    if too_little:
        return SliceFigures(
            name, there.images, there.drives, there.boxes, there.classes, too_little=too_little
        )
    scores = paired_bootstrap(champion, challenger, drives, chosen, gate.resamples, seed)
    quantiles = np.quantile(scores.differences, [1 - gate.confidence, gate.confidence])
    normal = NormalDist()
    reach = normal.inv_cdf(gate.confidence) + normal.inv_cdf(POWER)
    return SliceFigures(
        name,
        there.images,
        there.drives,
        there.boxes,
        there.classes,
        champion=scores.champion,
        challenger=scores.challenger,
        difference=scores.challenger - scores.champion,
        low=float(quantiles[0]),
        high=float(quantiles[1]),
        detectable=reach * float(scores.differences.std(ddof=1)),
    )


def judge(figures: Sequence[SliceFigures], targets: Sequence[str], margin: float) -> Judgement:
    """Give the verdict.

    No slice may be worse by the margin or more, and each target must be better. One rule that fails makes the
    whole fail; else one that is inconclusive makes it inconclusive.

    Args:
        figures: of the whole and of each slice. One with too little to be judged is left out, unless it is
            the whole or a target: then its rule is inconclusive.
        targets: names of slices.
        margin: of mAP50, more than 0.
    """
    by_name = {slice_figures.name: slice_figures for slice_figures in figures}
    results = [
        _not_worse(slice_figures, margin)
        for slice_figures in figures
        if slice_figures.name == OVERALL
        or (not slice_figures.too_little and slice_figures.name not in targets)
    ]
    results += [_better(by_name.get(name), name) for name in targets]
    if not targets:
        results.append(
            RuleResult("better", "", 0.0, VerdictKind.INCONCLUSIVE, "no slice is named that must be better")
        )
    return Judgement(
        _worst(result.verdict for result in results), tuple(results), tuple(figures), tuple(targets)
    )


def _not_worse(figures: SliceFigures, margin: float) -> RuleResult:
    low, high = figures.low, figures.high
    if low is None or high is None:
        return RuleResult("not worse", figures.name, -margin, VerdictKind.INCONCLUSIVE, figures.too_little)
    if low > -margin:
        verdict, why = VerdictKind.PASS, f"worse by {max(-low, 0):.4f} at most"
    elif high < -margin:
        verdict, why = VerdictKind.FAIL, f"worse by {-high:.4f} at least"
    else:
        verdict, why = VerdictKind.INCONCLUSIVE, f"{low:+.4f} to {high:+.4f} has {-margin:+.4f} in it"
    return RuleResult("not worse", figures.name, -margin, verdict, why)


def _better(figures: SliceFigures | None, name: str) -> RuleResult:
    if figures is None:
        return RuleResult("better", name, 0.0, VerdictKind.INCONCLUSIVE, "the holdout has no such slice")
    low, high = figures.low, figures.high
    if low is None or high is None:
        return RuleResult("better", name, 0.0, VerdictKind.INCONCLUSIVE, figures.too_little)
    if low > 0:
        verdict, why = VerdictKind.PASS, f"better by {low:.4f} at least"
    elif high < 0:
        verdict, why = VerdictKind.FAIL, f"worse by {-high:.4f} at least"
    else:
        verdict, why = VerdictKind.INCONCLUSIVE, f"{low:+.4f} to {high:+.4f} has 0 in it"
    return RuleResult("better", name, 0.0, verdict, why)


def _worst(verdicts: Iterable[VerdictKind]) -> VerdictKind:
    found = set(verdicts)
    for kind in (VerdictKind.FAIL, VerdictKind.INCONCLUSIVE):
        if kind in found:
            return kind
    return VerdictKind.PASS


def to_text(judgement: Mapping[str, Any]) -> str:
    """Lay a judgement (its JSON) out for a terminal: the power first, then figures, rules, verdict."""
    rows = [
        ["slice", "images", "drives", "boxes", "classes", "detects", "champion", "challenger", "difference"]
    ]
    for figures in judgement["slices"]:
        judged = not figures["too_little"]
        interval = f" ({figures['low']:+.3f} to {figures['high']:+.3f})" if judged else ""
        rows.append(
            [
                figures["name"],
                *(f"{figures[key]:,}" for key in ("images", "drives", "boxes")),
                str(len(figures["classes"])),
                *(
                    f"{figures[key]:.3f}" if judged else "-"
                    for key in ("detectable", "champion", "challenger")
                ),
                f"{figures['difference']:+.3f}{interval}" if judged else figures["too_little"],
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines += [
        f"{rule['slice']}: {rule['rule']} than {rule['bound']:+.3f}: {rule['verdict']} ({rule['why']})"
        for rule in judgement["rules"]
    ]
    return "\n".join([*lines, f"verdict: {judgement['verdict']}"])
