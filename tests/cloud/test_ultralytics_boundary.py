"""Ultralytics changes libraries for the whole process when it is imported; ours stay as they are."""

from __future__ import annotations

import subprocess
import sys

from tests.extras import needs_ultralytics

PROGRAM = """
import cv2, numpy, sys
from pathlib import Path
from PIL import Image

cv2.setNumThreads(2)
before = (Image.open, cv2.imread, cv2.imwrite, cv2.imshow, cv2.getNumThreads(), numpy.get_printoptions())
from cloud.pipeline.ultralytics_boundary import import_ultralytics

import_ultralytics().YOLO("yolov8n.yaml")
after = (Image.open, cv2.imread, cv2.imwrite, cv2.imshow, cv2.getNumThreads(), numpy.get_printoptions())
assert before == after, (before, after)
torn = Path(sys.argv[1])
torn.write_bytes(b"no picture")
try:
    Image.open(torn)
except OSError as error:
    print(f"refused: {error}")
"""


@needs_ultralytics
def test_other_libraries_are_left_as_they_were(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "torn.jpg")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "refused: cannot identify image file" in done.stdout
