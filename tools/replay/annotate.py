"""Detections drawn onto a picture, for people."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 21.0  # of a capital letter at scale 1, pixels
_GOLDEN_RATIO = 0.618033988749895


@dataclass(frozen=True, slots=True)
class Style:
    """Sizes that suit a picture, pixels: `line` is a box's width, `text` a letter's height."""

    line: int
    text: int

    @classmethod
    def for_picture(cls, height: int, width: int) -> Style:
        """Sizes that grow with the picture and stay legible on a small one."""
        side = (height * width) ** 0.5
        return cls(line=max(1, round(side / 300)), text=max(8, round(side / 72)))


@lru_cache
def class_colour(index: int) -> Colour:
    """A colour (BGR) for each class: hues a golden ratio apart, so that neighbours are far apart."""
    hue = (0.33 + index * _GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75 if index % 2 else 0.9, 1.0)
    return round(blue * 255), round(green * 255), round(red * 255)


def annotate(image: Image, boxes: npt.NDArray[np.float32], names: Sequence[str], caption: str) -> Image:
    """A copy of the picture with its boxes, labelled with class and score, and a caption.

    Where labels would cover each other, the box with the lower score goes without.

    Args:
        image: `uint8[H, W, 3]`, BGR.
        boxes: `float32[N, 6]` x1, y1, x2, y2 (pixels of the picture), score, class.
        names: the name of each class.
        caption: one line for the lower left corner.
    """
    drawn = image.copy()
    height, width = image.shape[:2]
    style = Style.for_picture(height, width)
    # The best-scored last, so that they lie on top.
    ordered = boxes[np.argsort(boxes[:, 4], kind="stable")]
    for x1, y1, x2, y2, _, index in ordered:
        corner, opposite = (round(float(x1)), round(float(y1))), (round(float(x2)), round(float(y2)))
        cv2.rectangle(drawn, corner, opposite, class_colour(int(index)), style.line, cv2.LINE_AA)
    taken: list[Rectangle] = []
    for *box, score, index in ordered[::-1]:
        text = f"{names[int(index)]} {score:.2f}"
        place = _free_place(box, _label_size(text, style), (height, width), taken)
        if place is not None:
            taken.append(place)
            _label(drawn, text, place, class_colour(int(index)), style)
    return write_caption(drawn, caption)


def write_caption(image: Image, caption: str) -> Image:
    """Write one line on a darkened strip in the lower left corner, in place; smaller if it is too long."""
    height, width = image.shape[:2]
    style = Style.for_picture(height, width)
    wanted, _ = _label_size(caption, style)
    if wanted > width:
        style = Style(style.line, max(5, int(style.text * width / wanted)))
    label_width, label_height = _label_size(caption, style)
    strip = image[height - label_height :, :label_width]
    strip[:] = strip // 3
    _text(image, caption, 0, height - label_height, (255, 255, 255), style)
    return image


def broken(previous: Image, caption: str) -> Image:
    """What stands for a frame without a picture: the one before it, dark, with a caption."""
    return write_caption(previous // 3, caption)


def _free_place(
    box: Sequence[float], size: tuple[int, int], frame_hw: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle | None:
    """Where a label fits: above its box, below, or inside at the top; None where a better-scored one is."""
    (width, height), (frame_height, frame_width) = size, frame_hw
    left = min(max(round(box[0]), 0), max(frame_width - width, 0))
    for top in (round(box[1]) - height, round(box[3]), round(box[1])):
        place = (left, top, left + width, top + height)
        inside = top >= 0 and top + height <= frame_height
        if inside and not any(_overlap(place, other) for other in taken):
            return place
    return None


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _label(image: Image, text: str, place: Rectangle, colour: Colour, style: Style) -> None:
    left, top, right, bottom = place
    cv2.rectangle(image, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)
    blue, green, red = colour
    # Luma by ITU-R BT.601.
    dark_text = 0.114 * blue + 0.587 * green + 0.299 * red > 120
    _text(image, text, left, top, (0, 0, 0) if dark_text else (255, 255, 255), style)


def _text(image: Image, text: str, left: int, top: int, colour: Colour, style: Style) -> None:
    pad = _pad(style)
    origin = (left + pad, top + pad + style.text)
    scale, thickness = _font(style)
    cv2.putText(image, text, origin, _FONT, scale, colour, thickness, cv2.LINE_AA)


def _label_size(text: str, style: Style) -> tuple[int, int]:
    scale, thickness = _font(style)
    (width, _), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    return width + 2 * _pad(style), style.text + min(baseline, style.text // 3) + 2 * _pad(style)


def _font(style: Style) -> tuple[float, int]:
    return style.text / _FONT_HEIGHT, max(1, round(style.text / 11))


def _pad(style: Style) -> int:
    return max(2, style.text // 4)
