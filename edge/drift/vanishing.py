"""Where the edges of the road meet: the vanishing point of what runs along the drive.

Each edge that is neither upright nor level is a line that would pass through the point; the point is where
the lines' weighted squared distances are least, by iteratively reweighted least squares (Holland & Welsch
1977) with Geman & McClure's (1985) weights at a scale that shrinks. One picture is enough, and nothing is
remembered; a curve moves the point for a while, a camera that is knocked moves it for good.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from edge.drift.look import Look

FARTHEST = (-1.0, 2.0)  # shares of the picture; a point farther outside is put there

_STRONG = 1.2  # gradients, in means of the picture's
_STRONGEST = 4.0  # what is stronger weighs no more
_UPRIGHT, _LEVEL = math.tan(math.radians(15)), math.tan(math.radians(80))  # of a gradient's slope
_MOST_EDGES, _FEWEST_EDGES = 600, 60
_SCALES = (0.25, 0.08, 0.03)  # of the distances from line to point, in the picture's width


def vanishing_point(look: Look) -> tuple[float, float]:
    """Return x and y in shares of the picture; NaN where it shows too few slanting edges.

    The look keeps it: two features ask.
    """
    if look.vanishing is None:
        look.vanishing = _find(look)
    return look.vanishing


def _find(look: Look) -> tuple[float, float]:
    height, width = look.half.shape
    # Every other row: neighbouring rows show the same edges.
    across = cv2.Sobel(look.half, cv2.CV_32F, 1, 0)[::2]
    down = cv2.Sobel(look.half, cv2.CV_32F, 0, 1)[::2]
    size_across, size_down = np.abs(across), np.abs(down)
    strength = size_across + size_down
    mean = float(strength.mean())
    slanting = strength > _STRONG * mean
    slanting &= size_down > _UPRIGHT * size_across
    slanting &= size_down < _LEVEL * size_across
    found = np.flatnonzero(slanting)
    if len(found) < _FEWEST_EDGES:
        return math.nan, math.nan
    found = found[:: -(-len(found) // _MOST_EDGES)]
    rows, columns = np.divmod(found, width)
    weight = np.minimum(strength.ravel()[found], np.float32(_STRONGEST * mean)).astype(np.float64)
    normals = np.stack([across.ravel()[found], down.ravel()[found]]).astype(np.float64)
    normals /= np.hypot(*normals)
    normal_x, normal_y = normals
    offset = normal_x * (columns + 0.5) + normal_y * (2 * rows + 0.5)
    terms = np.stack([normal_x * normals, normal_y * normals, offset * normals])
    # A little of the picture's middle keeps the equations solvable where all lines are parallel.
    x, y = width / 2, height / 2
    hold = 1e-3 * float(weight.sum())
    held = np.array([[hold, 0.0], [0.0, hold], [hold * x, hold * y]])
    for scale in _SCALES:
        away = (normal_x * x + normal_y * y - offset) / (scale * width)
        share = weight / np.square(1.0 + np.square(away))
        (xx, xy), (_, yy), (right, below) = (terms @ share + held).tolist()
        determinant = xx * yy - xy * xy
        x, y = (right * yy - below * xy) / determinant, (below * xx - right * xy) / determinant
    least, most = FARTHEST
    return min(max(x / width, least), most), min(max(y / height, least), most)
