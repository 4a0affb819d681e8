"""Pictures with traffic close by, for the golden frames of a model that comes without any of its own."""

from __future__ import annotations

import cv2

from tools.drives.render import render

_MOMENTS = ((4, 20.0), (5, 31.0), (3, 31.0), (8, 44.0))


def golden_pictures() -> list[bytes]:
    """Return simulated daylight street scenes as JPEG, 1280x720."""
    pictures = []
    for seed, t in _MOMENTS:
        image = render(seed, t, size=(1280, 720)).image
        pictures.append(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 85))[1].tobytes())
    return pictures
