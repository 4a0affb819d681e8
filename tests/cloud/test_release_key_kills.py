"""A change of keys is killed at each of its file operations: vehicles find whole metadata at each moment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.services


def test_a_kill_at_any_file_operation_leaves_vehicles_whole_metadata(tmp_path: Path) -> None:
    work = [sys.executable, "-m", "tests.cloud.key_kills", str(tmp_path)]
    result = subprocess.run(work, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    points = json.loads(result.stdout.splitlines()[-1])
    assert all(count >= 20 for count in points.values()), points
