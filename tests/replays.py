"""Small drives that the tests' rectangle finder finds something in, and the command to run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2

from tests.models_factory import picture, rectangles_model

COMMAND = [sys.executable, "-c", "from tools.cli import main; main()"]
FRAME_HW = (96, 160)
BLUE_BOX = (100, 40, 140, 80, "blue")


def write_model(folder: Path, **fields: Any) -> Path:
    path = folder / "rectangles.onnx"
    path.write_bytes(rectangles_model(**fields))
    return path


def write_drive(folder: Path, frames: int = 6, hw: tuple[int, int] = FRAME_HW) -> Path:
    """Pictures in which a red rectangle moves to the right, ten pixels a frame, and a blue one stands."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(frames):
        image = picture(hw, red_box(index), BLUE_BOX)
        cv2.imwrite(str(folder / f"frame{index}.png"), image)
    return folder


def red_box(index: int) -> tuple[int, int, int, int, str]:
    return (10 + 10 * index, 10, 40 + 10 * index, 34, "red")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
