"""Non-maximum suppression, class by class."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

MAX_CANDIDATES = 30_000  # as Ultralytics: the lowest-scored beyond it are not looked at
_FIRST_BATCH = 1024


def suppress(
    xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    iou_threshold: float,
    max_detections: int,
) -> npt.NDArray[np.int64]:
    """Greedy suppression: by falling score, each box drops those of its class that overlap it by more.

    Args:
        xyxy: `float32[N, 4]` boxes with positive area.
        scores: `float32[N]`, positive.
        classes: `int64[N]`.
        iou_threshold: intersection over union above which the lower-scored box goes.
        max_detections: at most so many are kept.

    Returns:
        `int64[M]`: indices of the kept boxes, by falling score; of equal scores the lower index first.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    # OpenCV keeps classes apart by offsets that presume positive coordinates.
    corners = xyxy[order].astype(np.float64)
    corners[:, :2] -= xyxy.min(axis=0, initial=0)[:2]
    corners[:, 2:] -= xyxy.min(axis=0, initial=0)[:2]
    corners[:, 2:] -= corners[:, :2]
    ranked = scores[order]
    ranked_classes = classes[order].astype(np.int32)
    # What is kept of the best-scored m boxes are the first kept of all, so that few detections cost little.
    size = _FIRST_BATCH
    while True:
        kept = np.asarray(
            cv2.dnn.NMSBoxesBatched(
                corners[:size],  # type: ignore[arg-type]  # OpenCV's stubs know lists only
                ranked[:size],  # type: ignore[arg-type]
                ranked_classes[:size],  # type: ignore[arg-type]
                score_threshold=0.0,
                nms_threshold=iou_threshold,
            ),
            np.int64,
        ).reshape(-1)
        if len(kept) >= max_detections or size >= len(order):
            return order[kept[:max_detections]]
        size *= 2
