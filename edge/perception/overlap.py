"""How much boxes overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def overlaps(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Intersection over union of all pairs.

    Args:
        left: `float32[N, 4 or more]`, x1, y1, x2, y2 first.
        right: `float32[M, 4 or more]`, the same.

    Returns:
        `float32[N, M]`, 0 to 1; 0 where both have no area.
    """
    corner = np.maximum(left[:, None, :2], right[None, :, :2])
    sides = np.clip(np.minimum(left[:, None, 2:4], right[None, :, 2:4]) - corner, 0, None)
    inside = sides.prod(axis=2)
    areas = [(boxes[:, 2:4] - boxes[:, :2]).prod(axis=1) for boxes in (left, right)]
    union = areas[0][:, None] + areas[1][None, :] - inside
    shares: npt.NDArray[np.float32] = np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
    return shares
