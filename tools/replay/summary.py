"""What a replay says of itself at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.errors import TrafficVisionError
from edge.frames.outcomes import FrameTally, Outcome


class NothingPublishedError(TrafficVisionError):
    """A replay in which no frame got through."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of one replay.

    Attributes:
        source: the source's name.
        model: name, version, digest and precision of the model file.
        providers: the execution providers it ran on.
        frames: frames captured and their ways out.
        detections: how many of each class, most frequent first.
        stages_ms: for each stage, the distribution of its times over the frames.
        drive_s: the drive's time at the last frame.
        wall_s: how long the replay took.
        interrupted: the user ended it early.
    """

    source: str
    model: Mapping[str, str]
    providers: tuple[str, ...]
    frames: FrameTally
    detections: Mapping[str, int]
    stages_ms: Mapping[str, Mapping[str, float]]
    drive_s: float
    wall_s: float
    interrupted: bool

    @property
    def frames_per_s(self) -> float:
        """Frames that left, for each second of wall time."""
        return sum(self.frames.left.values()) / self.wall_s if self.wall_s > 0 else 0.0

    def require_published(self) -> None:
        """Check that at least one frame was published.

        Raises:
            NothingPublishedError: none was.
        """
        if not self.frames.left[Outcome.PUBLISHED]:
            raise NothingPublishedError(f"no frame of {self.source} got through: {self._ways_out()}")

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {
            "source": self.source,
            "model": dict(self.model),
            "providers": list(self.providers),
            "frames": self.frames.as_dict(),
            "detections": dict(self.detections),
            "stages_ms": {stage: dict(times) for stage, times in self.stages_ms.items()},
            "drive_s": round(self.drive_s, 6),
            "wall_s": round(self.wall_s, 3),
            "frames_per_s": round(self.frames_per_s, 2),
            "interrupted": self.interrupted,
        }

    def to_text(self) -> str:
        """The summary for people, some lines."""
        model = f"{self.model['name']} {self.model['version']} ({self.model['digest'][:12]})"
        lines = [
            f"{self.source} through {model} on {', '.join(self.providers)}"
            + (": interrupted" if self.interrupted else ""),
            f"  frames      {self.frames.captured} captured: {self._ways_out()}",
            f"  time        {self.drive_s:.1f} s of drive in {self.wall_s:.1f} s, "
            f"{self.frames_per_s:.1f} frames/s",
            f"  detections  {sum(self.detections.values())}{self._classes()}",
        ]
        if self.stages_ms:
            lines.append(f"  {'ms':<12}{'min':>9}{'p50':>9}{'p99':>9}{'max':>9}")
        for stage, times in self.stages_ms.items():
            figures = "".join(f"{times[name]:>9.2f}" for name in ("min", "p50", "p99", "max"))
            lines.append(f"  {stage:<12}{figures}")
        return "\n".join(lines)

    def _ways_out(self) -> str:
        left = self.frames.left
        counted = [outcome for outcome in Outcome if left[outcome] or outcome is Outcome.PUBLISHED]
        return ", ".join(f"{left[outcome]} {outcome.value.replace('_', ' ')}" for outcome in counted)

    def _classes(self) -> str:
        listed = [f"{name} {count}" for name, count in self.detections.items()]
        shown = listed[:10] + ([f"{len(listed) - 10} more classes"] if len(listed) > 10 else [])
        return f": {', '.join(shown)}" if shown else ""
