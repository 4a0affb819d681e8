"""What a loaded model adds to a process's memory: `python -m cloud.pipeline.model_memory PLAN`.

Prints one JSON line. In a process of its own, whose most memory ever held (VmHWM) is the model's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

RUNS = 5


def main() -> None:
    """Load the model as the plan says, run it some times, print `{"bytes": N}`."""
    from edge.perception.detector import Detector, DetectorOptions
    from edge.perception.model_file import read_model_file

    plan = json.loads(sys.argv[1])
    picture = np.random.default_rng(0).integers(0, 256, (*plan["picture_hw"], 3), np.uint8)
    before = _status_bytes("VmRSS")
    options = DetectorOptions(providers=tuple(plan["providers"]), threads=plan["threads"])
    detector = Detector(read_model_file(Path(plan["model"])), options)
    for _ in range(RUNS):
        detector.detect(picture)
    print(json.dumps({"bytes": max(0, _status_bytes("VmHWM") - before)}))


def _status_bytes(name: str) -> int:
    # Not getrusage: its maximum is inherited from the process that started this one.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"the kernel tells no {name}")


if __name__ == "__main__":
    main()
