"""Ground truth of replayed sources: by a plug-in for a URL's scheme, or from a labelled dataset.

A plug-in is an entry point in the group `traffic_vision.labelers`, named after the scheme: a callable
`(source_id: str, picture: str, drive_ns: int) -> Truth` that raises `NoTruthError` where it knows none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath

from cloud.datasets import Box, LabeledImage, read_dataset
from edge.errors import TrafficVisionError

PLUGIN_GROUP = "traffic_vision.labelers"

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):")


class NoTruthError(Exception):
    """There is no truth for this picture; the message is a reason to count by."""


class LabelerError(TrafficVisionError):
    """A labelling plug-in cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is in one picture of a source, for certain.

    Attributes:
        width, height: of the picture that the boxes are for, pixels; None where nothing tells them.
        boxes, attributes, drive: as in `cloud.labeling.Labels`.
    """

    width: int | None
    height: int | None
    boxes: tuple[Box, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)
    drive: str = ""


Labeler = Callable[[str, str, int], Truth]


def load_labelers() -> dict[str, Labeler]:
    """Load the plug-ins that are installed, by scheme.

    Raises:
        LabelerError: one cannot be loaded.
    """
    labelers: dict[str, Labeler] = {}
    for point in entry_points(group=PLUGIN_GROUP):
        try:
            labelers[point.name] = point.load()
        except (ImportError, AttributeError) as error:
            raise LabelerError(
                f"the labelling plug-in {point.value!r} for {point.name + ':'!r} cannot be loaded: {error}"
            ) from error
    return labelers


def scheme_of(source_id: str) -> str | None:
    """Give the scheme of a source's URL, None for a file or folder."""
    found = _SCHEME.match(source_id)
    return found.group(1).lower() if found else None


class DatasetTruth:
    """Truth by the picture's name, from labelled datasets: for replayed folders of them."""

    def __init__(self, datasets: Sequence[Path]) -> None:
        """Read the labels.

        Args:
            datasets: anything that `cloud.datasets.read_dataset` reads.

        Raises:
            DatasetError: one cannot be read.
        """
        self._by_name: dict[str, list[LabeledImage]] = {}
        for path in datasets:
            for image in read_dataset(path).images:
                for name in {image.name, PurePosixPath(image.name).name}:
                    self._by_name.setdefault(name, []).append(image)

    def __call__(self, source_id: str, picture: str, drive_ns: int) -> Truth:
        """Look a picture up; a `Labeler`.

        Raises:
            NoTruthError: no dataset has it, or several have different ones of this name.
        """
        found = self._by_name.get(picture) or self._by_name.get(PurePosixPath(picture).name) or []
        if not picture or not found:
            raise NoTruthError("no labelled dataset has this picture")
        first = found[0]
        if any(other.boxes != first.boxes for other in found[1:]):
            raise NoTruthError("several labelled datasets have a picture of this name")
        return Truth(first.width, first.height, first.boxes, first.attributes, first.drive)
