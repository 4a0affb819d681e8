"""What a replay says of itself at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.errors import TrafficVisionError
from edge.frames.outcomes import FrameTally, Outcome
from edge.perception.model_file import ModelFile
from tools.replay.durations import Durations


class NothingPublishedError(TrafficVisionError):
    """A replay in which no frame of a source got through."""


class SwapMissedError(TrafficVisionError):
    """A swap whose frame never came."""


@dataclass(frozen=True, slots=True, eq=False)
class DriveSummary:
    """The result of one camera's drive.

    Attributes:
        camera, source: their names.
        frames: frames captured and their ways out.
        detections: how many of each class, most frequent first.
        stages: for each stage, its times over the frames.
        drift: how many states of each verdict.
        drive_s: the drive's time at the last frame.
        wall_s: how long its replay took.
    """

    camera: str
    source: str
    frames: FrameTally
    detections: Mapping[str, int]
    stages: Mapping[str, Durations]
    drift: Mapping[str, int]
    drive_s: float
    wall_s: float

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "camera": self.camera,
            "source": self.source,
            "frames": self.frames.as_dict(),
            "detections": dict(self.detections),
            "stages_ms": _as_ms(self.stages),
            "drift": dict(self.drift),
            "drive_s": round(self.drive_s, 6),
            "wall_s": round(self.wall_s, 3),
            "frames_per_s": round(_rate(self.frames, self.wall_s), 2),
        }


@dataclass(frozen=True, slots=True)
class SwapSummary:
    """A swap: what was asked for, and from which frame on the new model answered (None: it never did)."""

    model: Mapping[str, str]
    camera: str
    asked_frame: int
    first_frame: int | None

    def to_json(self) -> dict[str, Any]:
        """The swap as JSON values."""
        return {
            "model": dict(self.model),
            "camera": self.camera,
            "asked_frame": self.asked_frame,
            "first_frame": self.first_frame,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """The result of one replay.

    Attributes:
        model: name, version, digest and precision of the model file.
        providers: the execution providers it ran on.
        drives: of each source that was begun, in order.
        sources: how many there were.
        wall_s: how long the replay took.
        interrupted: the user ended it early.
        swap: of one that was asked for.
        compare: what the comparison with another model came to, as JSON values.
        compare_text: the same for people.
    """

    model: Mapping[str, str]
    providers: tuple[str, ...]
    drives: tuple[DriveSummary, ...]
    sources: int
    wall_s: float
    interrupted: bool
    swap: SwapSummary | None = None
    compare: Mapping[str, Any] | None = None
    compare_text: str = ""

    @property
    def frames(self) -> FrameTally:
        """Of all drives together."""
        tallies = [drive.frames for drive in self.drives]
        left = {outcome: sum(tally.left[outcome] for tally in tallies) for outcome in Outcome}
        return FrameTally(sum(tally.captured for tally in tallies), left)

    def require_published(self) -> None:
        """Check that each source had a frame published, and that the swap, if one was asked for, came.

        Raises:
            NothingPublishedError: one had none.
            SwapMissedError: its frame never came.
        """
        for drive in self.drives:
            if not drive.frames.left[Outcome.PUBLISHED]:
                ways = _ways_out(drive.frames)
                raise NothingPublishedError(f"no frame of {drive.source} got through: {ways}")
        if self.swap and self.swap.first_frame is None:
            swap = self.swap
            raise SwapMissedError(
                f"no frame from {swap.asked_frame} of camera {swap.camera!r} on: the swap never came"
            )

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {
            "model": dict(self.model),
            "providers": list(self.providers),
            "frames": self.frames.as_dict(),
            "detections": dict(self._detections().most_common()),
            "stages_ms": _as_ms(self._stages()),
            "drive_s": round(sum(drive.drive_s for drive in self.drives), 6),
            "wall_s": round(self.wall_s, 3),
            "frames_per_s": round(_rate(self.frames, self.wall_s), 2),
            "interrupted": self.interrupted,
            "sources": [drive.to_json() for drive in self.drives],
            "swap": self.swap.to_json() if self.swap else None,
            "compare": self.compare,
        }

    def to_text(self) -> str:
        """The summary for people, some lines."""
        lines = [
            f"{self._what()} through {_title(self.model)} on {', '.join(self.providers)}"
            + (": interrupted" if self.interrupted else "")
        ]
        if self.swap:
            swap = self.swap
            where = f"camera {swap.camera}, frame "
            came = (
                f"{swap.first_frame} on"
                if swap.first_frame is not None
                else f"{swap.asked_frame}: never came"
            )
            lines.append(f"  swap        {_title(swap.model)} answers from {where}{came}")
        if len(self.drives) > 1:
            lines += self._each_drive()
        drive_s = sum(drive.drive_s for drive in self.drives)
        found = self._detections()
        lines += [
            f"  frames      {self.frames.captured} captured: {_ways_out(self.frames)}",
            f"  time        {drive_s:.1f} s of drive in {self.wall_s:.1f} s, "
            f"{_rate(self.frames, self.wall_s):.1f} frames/s",
            f"  detections  {found.total()}{_classes(found)}",
        ]
        if any(drive.drift for drive in self.drives):
            lines += [f"  drift       {self._verdicts()}"]
        if self.compare_text:
            lines.append(self.compare_text)
        return "\n".join([*lines, *self._stage_table()])

    def _what(self) -> str:
        if self.sources == 1 and self.drives:
            return self.drives[0].source
        return (
            f"{len(self.drives)} of {self.sources} sources" if self.interrupted else f"{self.sources} sources"
        )

    def _each_drive(self) -> list[str]:
        width = max(len(drive.camera) for drive in self.drives)
        return [
            f"  {drive.camera:<{width}}  {drive.frames.captured} captured: {_ways_out(drive.frames)};"
            f" {drive.drive_s:.1f} s of drive, {_rate(drive.frames, drive.wall_s):.1f} frames/s"
            for drive in self.drives
        ]

    def _detections(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for drive in self.drives:
            found.update(drive.detections)
        return found

    def _verdicts(self) -> str:
        said = []
        for drive in self.drives:
            counts = ", ".join(f"{count} {verdict}" for verdict, count in drive.drift.items())
            said.append(f"{drive.camera}: {counts or 'no state'}" if len(self.drives) > 1 else counts)
        return "; ".join(said)

    def _stages(self) -> dict[str, Durations]:
        stages: dict[str, Durations] = {}
        for drive in self.drives:
            for name, durations in drive.stages.items():
                stages.setdefault(name, Durations()).include(durations)
        return stages

    def _stage_table(self) -> Sequence[str]:
        table = [
            f"  {stage:<12}" + "".join(f"{times[name]:>9.2f}" for name in ("min", "p50", "p99", "max"))
            for stage, times in _as_ms(self._stages()).items()
        ]
        return [f"  {'ms':<12}{'min':>9}{'p50':>9}{'p99':>9}{'max':>9}", *table] if table else []


def model_facts(model: ModelFile) -> dict[str, str]:
    """What a summary says of a model file."""
    metadata = model.metadata
    return {
        "name": metadata.name,
        "version": metadata.version,
        "precision": metadata.precision,
        "digest": model.digest,
    }


def _title(model: Mapping[str, str]) -> str:
    return f"{model['name']} {model['version']} ({model['digest'][:12]})"


def _rate(frames: FrameTally, wall_s: float) -> float:
    """Frames that left, for each second of wall time."""
    return sum(frames.left.values()) / wall_s if wall_s > 0 else 0.0


def _as_ms(stages: Mapping[str, Durations]) -> dict[str, dict[str, float]]:
    return {name: durations.as_ms() for name, durations in stages.items() if durations.count}


def _ways_out(frames: FrameTally) -> str:
    left = frames.left
    counted = [outcome for outcome in Outcome if left[outcome] or outcome is Outcome.PUBLISHED]
    return ", ".join(f"{left[outcome]} {outcome.value.replace('_', ' ')}" for outcome in counted)


def _classes(found: Counter[str]) -> str:
    listed = [f"{name} {count}" for name, count in found.most_common()]
    shown = listed[:10] + ([f"{len(listed) - 10} more classes"] if len(listed) > 10 else [])
    return f": {', '.join(shown)}" if shown else ""
