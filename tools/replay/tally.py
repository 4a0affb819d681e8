"""What is counted of one camera's drive while it runs."""

from __future__ import annotations

import time
from collections import Counter

from edge.frames.outcomes import FrameTally
from tools.replay.durations import Durations
from tools.replay.lines import stage_ns, verdict_word
from tools.replay.path import Answered
from tools.replay.summary import DriveSummary

STAGES = ("decode", "wait", "preprocess", "inference", "postprocess", "detect", "write", "frame")


class DriveTally:
    """Counts the frames of one camera as they are answered."""

    def __init__(self, camera: str, source: str) -> None:
        """Nothing counted; the clock runs."""
        self.camera = camera
        self.source = source
        self.classes: Counter[str] = Counter()
        self.stages = {name: Durations() for name in STAGES}
        self.verdicts: Counter[str] = Counter()
        self._drive_ns = 0
        self._began = time.perf_counter()
        self._frame_began_ns = time.perf_counter_ns()

    def passed(self, captured_ns: int, write_ns: int) -> None:
        """Count a frame that was dealt with, answered or not."""
        now_ns = time.perf_counter_ns()
        self.stages["write"].add(write_ns)
        self.stages["frame"].add(now_ns - self._frame_began_ns)
        self._frame_began_ns, self._drive_ns = now_ns, captured_ns

    def answered(self, event: Answered) -> None:
        """Count what was found, and how long that took."""
        published = event.published
        names = published.model.class_names
        self.classes.update(names[int(index)] for index in published.detections.boxes[:, 5])
        stages = {"decode": event.decode_ns, "wait": published.wait_ns, **stage_ns(published.detections)}
        for name, duration_ns in stages.items():
            self.stages[name].add(duration_ns)
        if event.drift is not None:
            self.verdicts[verdict_word(event.drift.verdict)] += 1

    def summary(self, frames: FrameTally) -> DriveSummary:
        """What it came to."""
        return DriveSummary(
            camera=self.camera,
            source=self.source,
            frames=frames,
            detections=dict(self.classes.most_common()),
            stages=self.stages,
            drift=dict(self.verdicts),
            drive_s=self._drive_ns / 1e9,
            wall_s=time.perf_counter() - self._began,
        )
