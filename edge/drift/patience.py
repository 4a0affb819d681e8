"""How long the fleet's reference has been in alarm on a camera, over restarts."""

from __future__ import annotations

import json
import math
from pathlib import Path

from edge.files import atomic_write

FILE_NAME = "patience.json"


def load(folder: Path) -> float:
    """Seconds of driving; 0 where there is no file, or none that can be read."""
    try:
        alarmed_s = float(json.loads((folder / FILE_NAME).read_bytes())["alarmed_s"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return 0.0
    return alarmed_s if math.isfinite(alarmed_s) and alarmed_s >= 0 else 0.0


def save(folder: Path, alarmed_s: float) -> int:
    """Write the file, whole or not at all; gives its size, bytes.

    Raises:
        OSError: it cannot be written.
    """
    data = json.dumps({"alarmed_s": alarmed_s}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / FILE_NAME, data)
    return len(data)
