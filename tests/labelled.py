"""Small labelled pictures, and the files of the shapes in which people have them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

WIDTH, HEIGHT = 160, 96


def jpeg(width: int = WIDTH, height: int = HEIGHT, shade: int = 90, **save: Any) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (width, height), (shade % 256, 80, 70)).save(encoded, "JPEG", **save)
    return encoded.getvalue()


def scene(seed: int, light: float = 1.0, blur: float = 0.0, size: tuple[int, int] = (320, 180)) -> bytes:
    """A JPEG of blocks and grain that no other seed has; `light` multiplies its levels, blur is in pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 200, (9, 16, 3))
    levels = np.kron(coarse, np.ones((20, 20, 1))) + rng.normal(0, 6, (180, 320, 3))
    picture = Image.fromarray(np.clip(levels * light, 0, 255).astype(np.uint8)).resize(size)
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


def write(path: Path, content: bytes | str | Mapping[str, Any] | Sequence[Any]) -> Path:
    """Write bytes, text, or anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def label(
    category: str = "car", x1: float = 10, y1: float = 20, x2: float = 50, y2: float = 60
) -> dict[str, Any]:
    return {"category": category, "box2d": {"x1": x1, "y1": y1, "x2": x2, "y2": y2}}


def frame(name: str = "a.jpg", *labels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "attributes": {"timeofday": "night"}, "labels": list(labels), **more}


def reasons(dataset: Any) -> list[str]:
    return sorted(refusal.reason for refusal in dataset.refusals)
