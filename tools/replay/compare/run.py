"""The comparison itself: the second model looks at what the first one answered."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from edge.frames.frame import Frame, Image
from edge.perception.detector import Detector, DetectorOptions, InferenceError
from edge.perception.model_file import ModelFile, read_model_file
from tools.replay.compare.counting import Figures, frame_figures
from tools.replay.compare.matching import DISAGREE, Kind, Match, ModelView, Seen, match
from tools.replay.compare.timeline import Timeline
from tools.replay.compare.worst import Candidate, Worst
from tools.replay.errors import ReplayError
from tools.replay.lines import as_line, head_of
from tools.replay.outputs import LinesFile
from tools.replay.path import Answered
from tools.replay.request import Compare
from tools.replay.summary import model_facts

_WIDTH = 960  # of a picture on the page, pixels
_QUALITY = 82


class Comparing:
    """Compares frame by frame."""

    def __init__(
        self, asked: Compare, a: ModelFile, options: DetectorOptions, lines: LinesFile | None
    ) -> None:
        """Load the second model.

        Args:
            asked: what was asked for.
            a: the first model.
            options: how the second one runs, as the first.
            lines: where one line a frame goes.

        Raises:
            TrafficVisionError: it cannot be used, or is the first one.
            ModuleNotFoundError: the cloud extra is missing, whose table of class names this goes by.
        """
        from cloud.datasets.classes import canonical

        b = read_model_file(asked.model)
        if a.digest == b.digest:
            raise ReplayError(f"--compare {str(asked.model)!r} is the model that runs already")
        self.models = (a, b)
        self._detector = Detector(b, options)
        self._views = [
            ModelView(tuple(canonical(name) for name in model.metadata.class_names)) for model in self.models
        ]
        self._known = [frozenset(view.names) for view in self._views]
        self._lines = lines
        self._keeps_pictures = asked.html is not None
        self.figures = Figures()
        self.timelines: dict[str, Timeline] = {}
        self.worst = Worst(asked.pictures)

    def look(self, event: Answered) -> None:
        """Have the second model look at a frame, and compare.

        Raises:
            OutputError: the lines cannot be written.
        """
        frame = event.frame
        head = head_of(frame.camera, frame)
        try:
            found = self._detector.detect(frame.image)
        except InferenceError as error:
            self.figures.failed += 1
            if self._lines:
                self._lines.write(as_line({**head, "error": str(error)}))
            return
        a = self._views[0].seen(event.published.detections.boxes)
        matches = match(a, self._views[1].seen(found.boxes), *self._known)
        weight = sum(one.weight for one in matches)
        self.figures.add(matches)
        self.timelines.setdefault(frame.camera, Timeline()).add(frame.captured_ns / 1e9, weight)
        if self._keeps_pictures:
            self.worst.offer(
                frame.camera, frame.captured_ns / 1e9, weight, lambda: _candidate(frame, weight, matches)
            )
        if self._lines:
            differences = [_difference(one) for one in matches if one.kind in DISAGREE]
            line = {**head, "weight": round(weight, 5), **frame_figures(matches), "differences": differences}
            self._lines.write(as_line(line))

    @property
    def known_to_one(self) -> tuple[list[str], list[str]]:
        """Classes that only the first model knows, and only the second one."""
        a, b = self._known
        return sorted(a - b), sorted(b - a)

    def to_json(self) -> dict[str, Any]:
        """What it came to, as JSON values."""
        only_a, only_b = self.known_to_one
        return {
            "a": model_facts(self.models[0]),
            "b": model_facts(self.models[1]),
            "classes_only_a_knows": only_a,
            "classes_only_b_knows": only_b,
            **self.figures.to_json(),
        }

    def to_text(self) -> str:
        """What it came to, for people."""
        total, metadata = self.figures.total, self.models[1].metadata
        counts = [f"{total.kinds[kind]} {kind.value.replace('_', ' ')}" for kind in Kind if total.kinds[kind]]
        share = "nothing found" if total.agreement is None else f"{total.agreement:.1%} agreed"
        lines = [
            f"  compare     with {metadata.name} {metadata.version} ({self.models[1].digest[:12]}): {share};"
            f" {self.figures.frames_disagreeing} of {self.figures.frames} frames differ",
            f"              {', '.join(counts)}",
        ]
        if total.mean_iou is not None:
            lines.append(
                f"              agreed pairs: mean IoU {total.mean_iou:.3f},"
                f" B's score {total.mean_score_difference:+.3f} on average"
            )
        if self.figures.failed:
            lines.append(f"              {self.figures.failed} frames that B gave no answer on")
        return "\n".join(lines)


def _difference(one: Match) -> dict[str, Any]:
    return {"kind": one.kind.value, "iou": round(one.iou, 5), "a": _seen(one.a), "b": _seen(one.b)}


def _seen(seen: Seen | None) -> dict[str, Any] | None:
    if seen is None:
        return None
    box = [round(side, 2) for side in seen.box]
    return {"class": seen.name, "score": round(seen.score, 5), "box": box}


def _candidate(frame: Frame, weight: float, matches: list[Match]) -> Candidate:
    height, width = frame.image.shape[:2]
    return Candidate(
        camera=frame.camera,
        sequence=frame.sequence,
        name=frame.name,
        time_s=frame.captured_ns / 1e9,
        weight=weight,
        matches=tuple(matches),
        jpeg=_jpeg(frame.image),
        height=height,
        width=width,
    )


def _jpeg(image: Image) -> bytes:
    height, width = image.shape[:2]
    if width > _WIDTH:
        size = (_WIDTH, max(1, round(height * _WIDTH / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data)
