"""The camera: a pinhole that looks ahead, or beside it where somebody has turned it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

CAMERA_HEIGHT_M = 1.45
NEAR_M = 0.7
_FAR_OUTSIDE = 4000  # pixels; what lies farther out than that is as good as there
_REACH_M = 8.0  # to each side of a thing's own place


@dataclass(frozen=True, slots=True)
class View:
    """The pinhole camera: picture size, focal length and horizon, all in pixels, and its turn.

    Attributes:
        width, height: of the picture.
        focal: length.
        horizon: the row in which the horizon lies.
        turn: radians to the right of straight ahead.
    """

    width: int
    height: int
    focal: float
    horizon: float
    turn: float = 0.0

    @staticmethod
    def of(size: tuple[int, int], pitch_deg: float = 0.0, turn_deg: float = 0.0) -> View:
        """Return the view of a 70 degree dashcam for a picture of `size` (width, height)."""
        width, height = size
        focal = 0.714 * width
        horizon = 0.47 * height + focal * float(np.tan(np.radians(pitch_deg)))
        return View(width, height, focal, horizon, math.radians(turn_deg))

    @property
    def aside(self) -> float:
        """How far to the right of the picture's middle the point straight ahead lies, pixels."""
        return -self.focal * math.tan(self.turn)

    def turned(self, points: FloatArray) -> FloatArray:
        """Return `points` (`[N, 3]`: right, up, ahead of the vehicle) as the camera has them before it."""
        if not self.turn:
            return points
        cosine, sine = np.float32(math.cos(self.turn)), np.float32(math.sin(self.turn))
        right, ahead = points[:, 0], points[:, 2]
        return np.stack([right * cosine - ahead * sine, points[:, 1], ahead * cosine + right * sine], axis=1)

    def project(self, points: FloatArray) -> FloatArray:
        """Return the places in the picture, `float32[N, 2]` pixels, of `points` that `turned` gave."""
        depth = np.maximum(points[:, 2], NEAR_M)
        screen = np.empty((len(depth), 2), np.float32)
        screen[:, 0] = points[:, 0] / depth * self.focal + self.width / 2
        screen[:, 1] = (CAMERA_HEIGHT_M - points[:, 1]) / depth * self.focal + self.horizon
        return np.clip(screen, -_FAR_OUTSIDE, _FAR_OUTSIDE, out=screen)

    def may_show(self, right: float, ahead: float) -> bool:
        """Return whether a thing of less than 8 m to each side of that place can reach into the picture."""
        if self.turn:
            cosine, sine = math.cos(self.turn), math.sin(self.turn)
            right, ahead = right * cosine - ahead * sine, ahead * cosine + right * sine
        return abs(right) < 0.72 * ahead + _REACH_M

    def on_the_road(self, rows: FloatArray, columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return where the rays through `rows` (below the horizon) and `columns` meet the road.

        Returns:
            Metres ahead of the camera, `float32[rows, 1]` (`[rows, columns]` of a turned one), and metres
            right of the vehicle's axis, `float32[rows, columns]`.
        """
        away = CAMERA_HEIGHT_M * self.focal / np.maximum(rows - self.horizon, 0.6)
        aside = (columns - self.width / 2)[None, :] * away[:, None] / self.focal
        if not self.turn:
            return away[:, None].astype(np.float32), aside.astype(np.float32)
        cosine, sine = math.cos(self.turn), math.sin(self.turn)
        ahead = away[:, None] * cosine - aside * sine
        return ahead.astype(np.float32), (aside * cosine + away[:, None] * sine).astype(np.float32)
