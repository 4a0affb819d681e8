"""How unsure a detector was of a frame, from the scores of what it found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def uncertainty(boxes: npt.NDArray[np.float32]) -> float:
    """The sum over a frame's detections of the margin score "1-vs-2", 0 for a frame that is all clear.

    Brust, Käding and Denzler 2019, "Active Learning for Deep Object Detection" (VISAPP,
    doi:10.5220/0007248601810190): `(1 - (p1 - p2))^2` with the two most likely classes of a detection, and
    of their aggregates the sum, which they found best. Our detectors answer each class by a sigmoid of its
    own, so the second class of a box with score p is "not that", 1 - p, and the margin |2p - 1|. For two
    classes this ranks as least confidence and entropy do (Settles 2010, "Active Learning Literature
    Survey", section 3.1).

    Args:
        boxes: `float32[N, 6]`, x1, y1, x2, y2, score, class. A score that is no number counts as clear.
    """
    scores = np.clip(np.nan_to_num(boxes[:, 4].astype(np.float64), nan=0.0), 0.0, 1.0)
    return float(np.sum((1.0 - np.abs(2.0 * scores - 1.0)) ** 2))
