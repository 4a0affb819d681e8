"""The letterbox: a frame resized into the model's input with its aspect ratio kept, the rest padded grey."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

PAD = 114  # grey level that YOLO models are trained with


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a frame of one size goes in an input of another.

    For a square input the picture is, to the pixel, the one that Ultralytics' validation gives the model with
    `rect=False` (its loader rounds the shorter side up, its LetterBox then centres), so that both measure the
    same; for other inputs the same rule holds with the side that limits.

    Attributes:
        frame_hw: height and width of the frame, pixels.
        input_hw: height and width of the model's input, pixels.
        resized_hw: height and width of the resized frame inside the input, pixels.
        top: padding above, pixels; what is left over goes below.
        left: padding on the left, pixels; what is left over goes on the right.
    """

    frame_hw: tuple[int, int]
    input_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    top: int
    left: int

    @classmethod
    def between(cls, frame_hw: tuple[int, int], input_hw: tuple[int, int]) -> Letterbox:
        """Work out the letterbox from a frame's to an input's height and width, pixels.

        Raises:
            ValueError: a side is not positive.
        """
        if min(*frame_hw, *input_hw) < 1:
            raise ValueError(f"no letterbox between {frame_hw} and {input_hw}")
        ratio = min(input_hw[0] / frame_hw[0], input_hw[1] / frame_hw[1])
        height = min(math.ceil(frame_hw[0] * ratio), input_hw[0])
        width = min(math.ceil(frame_hw[1] * ratio), input_hw[1])
        # Of an odd rest the greater half goes below and right, as in Ultralytics' LetterBox.
        top = round((input_hw[0] - height) / 2 - 0.1)
        left = round((input_hw[1] - width) / 2 - 0.1)
        return cls(frame_hw, input_hw, (height, width), top, left)

    def apply(self, image: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resize the frame into `out`, all of which is written.

        Args:
            image: `uint8[H, W, 3]` of `frame_hw`.
            out: `uint8[H, W, 3]` of `input_hw`, contiguous.

        Returns:
            `out`.
        """
        height, width = self.resized_hw
        bottom, right = self.top + height, self.left + width
        out[: self.top] = PAD
        out[bottom:] = PAD
        out[self.top : bottom, : self.left] = PAD
        out[self.top : bottom, right:] = PAD
        inside = out[self.top : bottom, self.left : right]
        if self.resized_hw == self.frame_hw:
            inside[:] = image
        else:
            cv2.resize(image, (width, height), dst=inside, interpolation=cv2.INTER_LINEAR)
        return out

    def boxes_to_frame(self, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Take boxes from input pixels to frame pixels and clip them to the frame.

        Args:
            xyxy: `float32[N, 4]` x1, y1, x2, y2 in pixels of the input.

        Returns:
            `float32[N, 4]` in pixels of the frame.
        """
        (frame_h, frame_w), (height, width) = self.frame_hw, self.resized_hw
        offset = np.array([self.left, self.top] * 2, np.float32)
        scale = np.array([frame_w / width, frame_h / height] * 2, np.float32)
        limit = np.array([frame_w, frame_h] * 2, np.float32)
        moved: npt.NDArray[np.float32] = (xyxy - offset) * scale
        return np.clip(moved, 0, limit, out=moved)
