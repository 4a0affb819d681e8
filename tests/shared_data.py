"""Where data that is not part of the repository lies, for the tests that want it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_data(relative: str) -> Path:
    """A path below ../shared/data (or TRAFFIC_VISION_DATA); skips the test when it is not there."""
    path = Path(os.environ.get("TRAFFIC_VISION_DATA") or ROOT.parent / "shared" / "data") / relative
    if not path.exists():
        pytest.skip(f"needs ../shared/data/{relative}")
    return path
