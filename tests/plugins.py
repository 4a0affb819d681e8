"""A source plug-in made on the spot: installed for one process by its PYTHONPATH, as pip would for all."""

from __future__ import annotations

import os
from pathlib import Path

# A camera by the name of what it does: `trouble:hangs`, `trouble:is-away`, `trouble:breaks-inference`, ...
TROUBLE = """
import threading
import time
import numpy as np
from edge.errors import TrafficVisionError
from edge.frames.frame import Frame
from edge.perception.detector import Detector, SessionError

class Camera:
    is_live, rate_hz, frame_count = True, 20.0, None

    def __init__(self, url):
        self.name = url
        self.does = url.partition(":")[2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        pass

    def __iter__(self):
        if self.does == "is-away":
            raise TrafficVisionError("no route to the camera")
        for number in range(10**9):
            if self.does == "hangs" and number == 3:
                threading.Event().wait()
            if self.does == "hangs-inference" and number == 20:
                Detector.detect = lambda *_: threading.Event().wait()
            if self.does == "breaks-new-models" and number == 0:
                break_new_models()
            yield Frame(self.name, number, 0, time.monotonic_ns(), np.zeros((64, 64, 3), np.uint8))
            time.sleep(0.05)  # the camera's own pace: 20 pictures a second

def break_new_models():
    healthy = Detector.detect
    def detect(self, image):
        if self.model.metadata.version == "new":
            raise SessionError("the device is gone")
        return healthy(self, image)
    Detector.detect = detect

open_source = Camera
"""


def install_source(folder: Path, scheme: str, code: str) -> dict[str, str]:
    """Put the module `plugin_SCHEME` with its `open_source(url)` there; gives the environment for it."""
    facts = folder / f"plugin_{scheme}-1.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{scheme}\nVersion: 1\n")
    point = f"[traffic_vision.sources]\n{scheme} = plugin_{scheme}:open_source\n"
    (facts / "entry_points.txt").write_text(point)
    (folder / f"plugin_{scheme}.py").write_text(code)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
