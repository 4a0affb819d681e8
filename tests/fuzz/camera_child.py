"""Opens each source that it is told of, and says what came: run by `tests.fuzz.test_fuzz_camera` as a child.

A decoder that fails in the process kills it, which is why it is not the test's own.
"""

from __future__ import annotations

import os
import resource
import sys

import numpy as np

from edge.frames.frame import BrokenFrame, Frame
from edge.frames.sources import SourceError, open_source

MEMORY = 6 << 30  # of addresses: a picture that claims to be enormous must not take the machine down


def look(url: str) -> str:
    frames = broken = 0
    last = (-1, -1, -1)
    try:
        with open_source(url) as source:
            for shot in source:
                now = (shot.epoch, shot.sequence, shot.captured_ns)
                if shot.epoch < last[0] or shot.sequence != last[1] + 1 or shot.captured_ns < last[2]:
                    return f"defect: after {last} came {now}"
                last = now
                if isinstance(shot, BrokenFrame):
                    broken += 1
                    continue
                assert isinstance(shot, Frame)
                if shot.image.dtype != np.uint8 or shot.image.ndim != 3 or shot.image.shape[2] != 3:
                    return f"defect: a picture of {shot.image.dtype}{shot.image.shape}"
                frames += 1
                if frames + broken > 400:
                    return "endless"
    except SourceError as error:
        return "defect: a refusal of two lines" if "\n" in str(error) else "refused"
    except Exception as error:  # noqa: BLE001 - told to the test
        return f"defect: {type(error).__name__}: {error}"
    return f"ok {frames} {broken}"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"
    for line in sys.stdin:
        print(" ".join(look(line.rstrip("\n")).split()), flush=True)
