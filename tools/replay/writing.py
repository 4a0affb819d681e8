"""All that a replay writes of a frame, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.frames.frame import BrokenFrame, Frame
from tools.replay.annotate import annotate, broken
from tools.replay.lines import detections_line, drift_line, error_line, times_line
from tools.replay.mcap_file import McapOutput
from tools.replay.outputs import LinesFile
from tools.replay.path import Answered, Unanswered
from tools.replay.video import VideoOutput


@dataclass(frozen=True, slots=True)
class Writing:
    """The outputs that were asked for. `videos`: by camera."""

    lines: LinesFile | None = None
    times: LinesFile | None = None
    drift: LinesFile | None = None
    mcap: McapOutput | None = None
    videos: dict[str, VideoOutput] = field(default_factory=dict)
    _shown: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)

    def answered(self, event: Answered) -> None:
        """Write a frame that was published.

        Raises:
            OutputError: one of the outputs cannot be written.
            BrokenPipeError: nobody reads any more.
        """
        frame, published = event.frame, event.published
        found, names = published.detections, published.model.class_names
        if self.lines:
            self.lines.write(detections_line(frame, found, names))
        if self.times:
            self.times.write(times_line(frame, found, event.decode_ns))
        if self.drift and event.drift is not None:
            self.drift.write(drift_line(frame, event.drift))
        if self.mcap:
            self.mcap.write(event)
        video = self.videos.get(frame.camera)
        if video:
            count = len(found.boxes)
            model = f"{published.model.name} {published.model.version} {found.model_digest[:8]}"
            objects = "1 object" if count == 1 else f"{count} objects"
            caption = f"{_caption(frame, objects)}  {model}"
            shown = self._shown[frame.camera] = annotate(frame.image, found.boxes, names, caption)
            video.write(shown)

    def unanswered(self, event: Unanswered) -> None:
        """Write a frame that was not.

        Raises:
            OutputError: one of the outputs cannot be written.
            BrokenPipeError: nobody reads any more.
        """
        if self.lines:
            self.lines.write(error_line(event.camera, event.shot, event.outcome, event.reason))
        video = self.videos.get(event.camera)
        if not video:
            return
        picture = event.shot.image if isinstance(event.shot, Frame) else self._shown.get(event.camera)
        if picture is not None:  # a first frame that broke has nothing to stand on
            caption = _caption(event.shot, event.outcome.value.replace("_", " "))
            video.write(broken(picture, caption))


def _caption(frame: Frame | BrokenFrame, result: str) -> str:
    return f"frame {frame.sequence}  {frame.captured_ns / 1e9:.2f} s  {result}"
