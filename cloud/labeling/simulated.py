"""The simulated labelling service: what people would say of a replayed source, without the people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cloud.datasets.dataset import Box
from cloud.labeling.service import Answer, Labels, UnlabeledSample
from cloud.labeling.truth import Labeler, NoTruthError, Truth, scheme_of


class SimulatedService:
    """Answers at once, with the ground truth of the source that a vehicle replayed; a `LabelSource`."""

    name = "simulated"

    def __init__(self, labelers: Mapping[str, Labeler], other: Labeler | None = None) -> None:
        """Take where truths come from.

        Args:
            labelers: by the scheme of the source's URL.
            other: for sources without a scheme: files and folders.
        """
        self._labelers = labelers
        self._other = other

    def label(self, samples: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        """Answer for every sample."""
        for sample in samples:
            try:
                yield Answer(sample.id, self._labels(sample))
            except NoTruthError as error:
                yield Answer(sample.id, None, str(error))

    def _labels(self, sample: UnlabeledSample) -> Labels:
        scheme = scheme_of(sample.source_id)
        labeler = self._labelers.get(scheme) if scheme else self._other
        if labeler is None:
            kind = f"a source {scheme}:..." if scheme else "a file or folder: labels.datasets names none"
            raise NoTruthError(f"no truth is known for {kind}")
        truth = labeler(sample.source_id, sample.picture, sample.drive_ns)
        return Labels(_scaled(truth, sample.width, sample.height), truth.attributes, truth.drive)


def _scaled(truth: Truth, width: int, height: int) -> tuple[Box, ...]:
    """The boxes in pixels of the sample: a vehicle may have made the picture smaller."""
    if truth.width is None or truth.height is None or (truth.width, truth.height) == (width, height):
        return truth.boxes
    across, down = width / truth.width, height / truth.height
    if abs(across - down) > 0.01 * down:
        raise NoTruthError("the picture has another shape than the source's")
    return tuple(
        replace(box, x1=box.x1 * across, y1=box.y1 * down, x2=box.x2 * across, y2=box.y2 * down)
        for box in truth.boxes
    )
