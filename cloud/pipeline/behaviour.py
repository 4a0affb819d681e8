"""Whether small changes of a picture, which mean nothing, change what a model finds on it.

A few pixels to the side, mirrored, a little noise, a little compression: what is found before and after is
brought to the same place and compared as the vehicle compares two models in the shadow. These are the
metamorphic relations of Y. Tian et al., DeepTest, ICSE 2018, with bounds in place of equality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cloud.config import BehaviourConfig, GateConfig
from cloud.datasets import LabeledImage, spread_out
from cloud.pipeline.evaluation import load_picture
from cloud.pipeline.gate import RuleResult
from cloud.store.states import VerdictKind
from edge.perception.agreement import Agreement, compare
from edge.perception.detector import Detector

SHIFT, FLIP, NOISE, COMPRESSION = "shift", "flip", "noise", "compression"
KINDS = (SHIFT, FLIP, NOISE, COMPRESSION)
RULE = "small changes"

Picture = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BehaviourFigures:
    """How far what is found stays the same under one kind of change.

    Attributes:
        kind: of KINDS.
        pictures: so many were changed.
        found: detections on them as they are.
        f1: of all pictures together; None: nothing was found on any, before or after.
        low, high: one-sided bounds, by a bootstrap over drives: pictures of one drive are alike.
        least: what is asked.
    """

    kind: str
    pictures: int
    found: int
    f1: float | None
    low: float | None
    high: float | None
    least: float

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return asdict(self)


def changed(picture: Picture, kind: str, config: BehaviourConfig, seed: int) -> Picture:
    """The picture with a small change; the one given stays as it is.

    Args:
        picture: `uint8[H, W, 3]` BGR.
        kind: of KINDS.
        config: how much.
        seed: of the noise.
    """
    height, width = picture.shape[:2]
    if kind == SHIFT:
        dx, dy = config.shift_px, config.shift_px // 2
        wide = cv2.copyMakeBorder(picture, dy, 0, dx, 0, cv2.BORDER_REPLICATE)
        return np.asarray(np.ascontiguousarray(wide[:height, :width]), np.uint8)
    if kind == FLIP:
        return np.ascontiguousarray(picture[:, ::-1])
    if kind == NOISE:
        noise = np.random.default_rng(seed).standard_normal(picture.shape, np.float32)
        noisy = picture.astype(np.float32) + np.float32(config.noise_sigma) * noise
        return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, config.compression_quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def brought_back(boxes: Boxes, kind: str, config: BehaviourConfig, width: int) -> Boxes:
    """Detections of a changed picture where they would be on the one it was made of.

    Args:
        boxes: `float32[N, 6]` x1, y1, x2, y2, score, class.
        kind: of KINDS.
        config: how much it was changed.
        width: of the picture, pixels.
    """
    moved: Boxes = boxes.copy()
    if kind == SHIFT:
        moved[:, [0, 2]] -= config.shift_px
        moved[:, [1, 3]] -= config.shift_px // 2
    elif kind == FLIP:
        moved[:, [0, 2]] = width - boxes[:, [2, 0]]
    return moved


def measure_behaviour(
    detector: Detector,
    images: Sequence[LabeledImage],
    gate: GateConfig,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[BehaviourFigures, ...]:
    """Change some pictures and compare what is found.

    Args:
        detector: the candidate as the vehicle runs it.
        images: the holdout.
        gate: kinds, bounds, confidence.
        seed: of noise and resamples.
        tell: is told how many pictures are done.

    Raises:
        PictureError: a picture cannot be used.
        InferenceError: the model cannot be run.
    """
    config = gate.behaviour
    chosen = spread_out(images, config.pictures, gate.slice_by)
    pairs: dict[str, list[Agreement]] = {kind: [] for kind in KINDS}
    names = detector.class_names
    for number, image in enumerate(chosen):
        tell(number, len(chosen))
        picture = load_picture(image)
        before = detector.detect(picture).boxes
        for kind in KINDS:
            after = detector.detect(changed(picture, kind, config, seed + number)).boxes
            after = brought_back(after, kind, config, picture.shape[1])
            pairs[kind].append(sum(compare(before, after, names, names).values(), Agreement()))
    drives = [image.drive for image in chosen]
    return tuple(_figures(kind, pairs[kind], drives, gate, seed) for kind in KINDS)


def _figures(
    kind: str, pairs: Sequence[Agreement], drives: Sequence[str], gate: GateConfig, seed: int
) -> BehaviourFigures:
    least = getattr(gate.behaviour, f"least_{kind}")
    found = sum(pair.active for pair in pairs)
    if not any(pair.active + pair.candidate for pair in pairs):
        return BehaviourFigures(kind, len(pairs), found, None, None, None, least)
    names, drive_of = np.unique(np.asarray(drives), return_inverse=True)
    matched = np.bincount(drive_of, [2.0 * pair.matched for pair in pairs])
    total = np.bincount(drive_of, [float(pair.active + pair.candidate) for pair in pairs])
    draws = np.random.default_rng(seed).integers(0, len(names), (gate.resamples, len(names)))
    totals = total[draws].sum(axis=1)
    scores = matched[draws].sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(scores, [1 - gate.confidence, gate.confidence])
    return BehaviourFigures(
        kind, len(pairs), found, float(matched.sum() / total.sum()), float(low), float(high), least
    )


def behaviour_rules(figures: Sequence[BehaviourFigures]) -> list[RuleResult]:
    """Hold each kind's interval against what is asked."""
    return [_decide(each) for each in figures if each.pictures]


def _decide(figures: BehaviourFigures) -> RuleResult:
    if figures.low is None or figures.high is None:
        verdict, why = VerdictKind.INCONCLUSIVE, f"nothing is found on {figures.pictures} pictures"
    elif figures.low >= figures.least:
        verdict, why = VerdictKind.PASS, f"F1 {figures.f1:.3f}, at least {figures.low:.3f}"
    elif figures.high < figures.least:
        verdict, why = VerdictKind.FAIL, f"F1 {figures.f1:.3f}, at most {figures.high:.3f}"
    else:
        verdict, why = (
            VerdictKind.INCONCLUSIVE,
            f"F1 {figures.low:.3f} to {figures.high:.3f} has {figures.least:g} in it",
        )
    return RuleResult(RULE, figures.kind, figures.least, verdict, why, "F1")
