"""Golden frames: does a loaded model still find what its file says it must?

The question is asked where the model will run: another provider, driver or precision may round differently,
but must find the same objects. What scores near the threshold, and of two boxes near the overlap at which one
is suppressed either, may come or go with the rounding; everything else must be found, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.perception.detector import Detector, InferenceError
from edge.perception.model_file import ModelFile
from edge.perception.overlap import overlaps


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a detection may lie from the one expected.

    Attributes:
        iou: least intersection over union.
        score: greatest difference of the score.
    """

    iou: float
    score: float


# Wide enough for another backend's arithmetic at that precision, far too narrow for another model.
TOLERANCES = {
    "fp32": Tolerance(iou=0.90, score=0.05),
    "fp16": Tolerance(iou=0.85, score=0.08),
    "bf16": Tolerance(iou=0.80, score=0.10),
    "int8": Tolerance(iou=0.75, score=0.15),
}
_OVERLAP_MARGIN = 0.1  # of IoU: how close to the suppression's threshold the choice of the box is open


@dataclass(frozen=True, slots=True)
class GoldenFrameReport:
    """What came of one golden frame.

    Attributes:
        expected: detections that the file expects.
        found: detections there were.
        missing: expected detections that were not found, in words.
        extra: detections that nothing expected, in words.
        least_iou: of the matched pairs; 1 without any.
        greatest_score_difference: of the matched pairs; 0 without any.
        error: why the frame could not be inferred, empty when it was.
    """

    expected: int
    found: int
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    least_iou: float = 1.0
    greatest_score_difference: float = 0.0
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything expected was found, and nothing else."""
        return not (self.missing or self.extra or self.error)


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """What came of a model file's golden frames.

    Attributes:
        model_digest: SHA-256 of the model file.
        tolerance: that was applied.
        frames: one report a frame.
        confident: how many expected detections score clear of the threshold, on all frames together.
    """

    model_digest: str
    tolerance: Tolerance
    frames: tuple[GoldenFrameReport, ...]
    confident: int

    @property
    def passed(self) -> bool:
        """Whether there was something to verify by, and all of it held."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Why it failed, one line; empty when it passed."""
        if not self.frames:
            return "the file has no golden frames, so nothing was verified"
        if not self.confident:
            return f"none of the {len(self.frames)} golden frames expects a detection clear of the threshold"
        failed = [(index, frame) for index, frame in enumerate(self.frames) if not frame.passed]
        if not failed:
            return ""
        index, frame = failed[0]
        differences = [f"not found: {text}" for text in frame.missing]
        differences += [f"unexpected: {text}" for text in frame.extra]
        first = frame.error or "; ".join(differences)
        return f"{len(failed)} of {len(self.frames)} golden frames failed; frame {index}: {first}"

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "passed": self.passed,
            "reason": self.reason,
            "model_sha256": self.model_digest,
            "tolerance": {"iou": self.tolerance.iou, "score": self.tolerance.score},
            "confident_expected": self.confident,
            "frames": [
                {
                    "passed": frame.passed,
                    "expected": frame.expected,
                    "found": frame.found,
                    "missing": list(frame.missing),
                    "extra": list(frame.extra),
                    "least_iou": round(frame.least_iou, 4),
                    "greatest_score_difference": round(frame.greatest_score_difference, 4),
                    "error": frame.error,
                }
                for frame in self.frames
            ],
        }

    def to_text(self) -> str:
        """The report as a table for people."""
        lines = ["frame  expected  found  least IoU  score difference  result"]
        for index, frame in enumerate(self.frames):
            result = "ok" if frame.passed else "FAILED"
            lines.append(
                f"{index:5d}  {frame.expected:8d}  {frame.found:5d}  {frame.least_iou:9.3f}"
                f"  {frame.greatest_score_difference:16.3f}  {result}"
            )
        lines.append(
            f"tolerated: IoU from {self.tolerance.iou:g}, score difference up to {self.tolerance.score:g}"
        )
        return "\n".join(lines)


def verify(model: ModelFile, detector: Detector) -> GoldenReport:
    """Run the model's golden frames through a detector that has it loaded.

    Args:
        model: the model file.
        detector: with that model, at the model's own thresholds.

    Raises:
        ValueError: the detector has another model, or thresholds that are not the model's own.
    """
    metadata = model.metadata
    own = (metadata.score_threshold, metadata.iou_threshold, metadata.max_detections)
    asked = (detector.score_threshold, detector.iou_threshold, detector.max_detections)
    if detector.model.digest != model.digest or own != asked or detector.options.multi_label:
        raise ValueError("golden frames are verified by their own model at its own thresholds")
    tolerance = TOLERANCES[metadata.precision]
    clear = metadata.score_threshold + tolerance.score
    open_overlap = metadata.iou_threshold - _OVERLAP_MARGIN if metadata.layout == "raw" else 1.0
    frames = []
    confident = 0
    for golden in metadata.golden:
        confident += int(np.count_nonzero(golden.detections[:, 4] >= clear))
        try:
            found = detector.detect(golden.image()).boxes
        except InferenceError as error:
            frames.append(GoldenFrameReport(len(golden.detections), 0, error=str(error)))
            continue
        frames.append(compare(golden.detections, found, tolerance, clear, open_overlap, metadata.class_names))
    return GoldenReport(model.digest, tolerance, tuple(frames), confident)


def compare(
    expected: npt.NDArray[np.float32],
    found: npt.NDArray[np.float32],
    tolerance: Tolerance,
    clear: float,
    open_overlap: float,
    class_names: tuple[str, ...],
) -> GoldenFrameReport:
    """Match found detections to expected ones, one to one and within a class, the most confident first.

    Args:
        expected: `float32[N, 6]` x1, y1, x2, y2, score, class; by falling score.
        found: `float32[M, 6]`, the same.
        tolerance: what counts as the same detection.
        clear: a score from which on a detection cannot come or go with the rounding.
        open_overlap: a detection without partner may be left over if it overlaps a matched one of its class,
            on the other side, by more: the suppression chose differently there. 1 for never.
        class_names: for the words.
    """
    shares = _overlaps(expected, found)
    score_differences = np.abs(expected[:, None, 4] - found[None, :, 4])
    same = (shares >= tolerance.iou) & (score_differences <= tolerance.score)
    partner = np.full(len(expected), -1)
    taken = np.zeros(len(found), bool)
    for row in range(len(expected)):
        choices = np.flatnonzero(same[row] & ~taken)
        if choices.size:
            # The best overlap; of equal ones, the nearest score.
            best = choices[np.lexsort((score_differences[row, choices], -shares[row, choices]))[0]]
            partner[row] = best
            taken[best] = True
    matched = np.flatnonzero(partner >= 0)
    pairs = shares[matched, partner[matched]]
    differences = score_differences[matched, partner[matched]]
    # Beside a box that both sides have: the suppression may have kept it there and dropped it here.
    excused_expected = (shares[:, taken] > open_overlap).any(axis=1)
    excused_found = (shares[partner >= 0] > open_overlap).any(axis=0)
    missing = (partner < 0) & (expected[:, 4] >= clear) & ~excused_expected
    extra = ~taken & (found[:, 4] >= clear) & ~excused_found
    return GoldenFrameReport(
        expected=len(expected),
        found=len(found),
        missing=tuple(_words(row, class_names) for row in expected[missing]),
        extra=tuple(_words(row, class_names) for row in found[extra]),
        least_iou=float(pairs.min(initial=1.0)),
        greatest_score_difference=float(differences.max(initial=0.0)),
    )


def _overlaps(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Intersection over union of all pairs of the same class, 0 for other pairs: `float32[N, M]`."""
    shares = overlaps(left, right)
    shares[left[:, None, 5] != right[None, :, 5]] = 0
    return shares


def _words(row: npt.NDArray[np.float32], class_names: tuple[str, ...]) -> str:
    corners = ", ".join(f"{value:.0f}" for value in row[:4])
    return f"{class_names[int(row[5])]} {row[4]:.2f} at ({corners})"
