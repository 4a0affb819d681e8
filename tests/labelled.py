"""Small labelled pictures, and the files of the shapes in which people have them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH, HEIGHT = 160, 96


def jpeg(width: int = WIDTH, height: int = HEIGHT, shade: int = 90, **save: Any) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (width, height), (shade % 256, 80, 70)).save(encoded, "JPEG", **save)
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
