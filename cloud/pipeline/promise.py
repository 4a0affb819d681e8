"""What a release promises of its probation on vehicles: out of the configuration, and of what validation saw.

How many detections a frame has on the road is no constant of a model: the promise is what it found on the
holdout, by the very threshold of its file, widened by a factor either way, for each slice of it (which
the drift monitor calls a context). Where nothing is known of a context, the widest of all slices holds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cloud.config import ReleaseConfig
from cloud.datasets import LabeledImage
from cloud.pipeline.evaluation import NO_VALUE
from protos.release_promise import ANY_CONTEXT, MAX_CONTEXTS, MAX_NAME, Promise, Range, ShadowFacts

MIN_IMAGES = 20  # of a slice; fewer say nothing of it


def detections_by_slice(
    images: Sequence[LabeledImage],
    predictions: Sequence[npt.NDArray[np.float32]],
    score_threshold: float,
    slice_by: str,
    min_images: int = MIN_IMAGES,
) -> dict[str, float]:
    """Count what a model finds.

    Args:
        images: the holdout.
        predictions: `float32[N, 6]` x1, y1, x2, y2, score, class, of each image.
        score_threshold: detections score above it on the vehicle.
        slice_by: the attribute whose values are told apart.
        min_images: of a slice that is told.

    Returns:
        Mean detections an image, by slice, and of all under `ANY_CONTEXT`; empty where there are too few.
    """
    counts: dict[str, list[int]] = defaultdict(list)
    for image, rows in zip(images, predictions, strict=True):
        found = int(np.count_nonzero(rows[:, 4] > score_threshold))
        counts[ANY_CONTEXT].append(found)
        value = image.attributes.get(slice_by, NO_VALUE)
        if value != NO_VALUE:
            counts[value].append(found)
    return {name: float(np.mean(found)) for name, found in counts.items() if len(found) >= min_images}


def promise_of(release: ReleaseConfig, detections: Mapping[str, float]) -> Promise:
    """Make the promise.

    Args:
        release: what is to be promised.
        detections: of `detections_by_slice`; without any, the model before on the same vehicle is the
            yardstick.
    """
    by_context: tuple[tuple[str, Range], ...] = ()
    against_before = None
    factor = release.detections_factor
    if factor is not None:
        named = {name: _widened(1000 * mean, factor) for name, mean in detections.items() if _is_name(name)}
        if named:
            widest = Range(
                min(found.least for found in named.values()), max(found.most for found in named.values())
            )
            named[ANY_CONTEXT] = widest
            by_context = tuple(sorted(named.items())[:MAX_CONTEXTS])
        else:
            against_before = _widened(100, factor)
    return Promise(
        drive_s=release.probation_s,
        frames=release.probation_frames,
        latency_percent=release.latency_percent,
        errors_permille=release.errors_permille,
        detections_per_1000_frames=by_context,
        detections_percent=against_before,
        no_drift_alarm=release.no_drift_alarm,
    )


def shadow_of(release: ReleaseConfig) -> ShadowFacts | None:
    """What a release asks for before the swap; None: nothing."""
    if release.shadow_s == 0:
        return None
    return ShadowFacts(
        release.shadow_s,
        release.shadow_every_frames,
        release.shadow_cpu_percent,
        release.shadow_least_agreement_percent,
    )


def _widened(value: float, factor: float) -> Range:
    return Range(math.floor(value / factor), math.ceil(value * factor))


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable()
