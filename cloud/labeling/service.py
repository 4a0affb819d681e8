"""The one interface of all labelling services: a simulated one, people with a tool, a larger model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cloud.datasets.dataset import Box


@dataclass(frozen=True, slots=True)
class UnlabeledSample:
    """What a service is given of a sample.

    Attributes:
        id: its row in the store; a service that forgets nothing is asked about the same id again and again.
        object_key: its JPEG in the object store.
        width, height: of the picture, pixels.
        source_id, drive_id, picture, drive_ns: where it is from, see `cloud.store.models.Sample`.
    """

    id: int
    object_key: str
    width: int
    height: int
    source_id: str
    drive_id: str
    picture: str
    drive_ns: int


@dataclass(frozen=True, slots=True)
class Labels:
    """What is in one picture.

    Attributes:
        boxes: in pixels of the sample's picture; empty: there is nothing in it.
        attributes: what slices are made of, such as timeofday.
        drive: the recording's name where the service knows better than the vehicle, else empty: pictures of
            one place at two times are one drive to a split.
    """

    boxes: tuple[Box, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)
    drive: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A service's answer for one sample: labels, or why there will never be any.

    Attributes:
        refusal: a reason that is the same for all of its kind; empty with labels.
    """

    sample_id: int
    labels: Labels | None
    refusal: str = ""


class LabelSource(Protocol):
    """A labelling service. Asking twice costs nothing twice.

    Attributes:
        name: as it stands beside each label: simulated, label-studio, teacher.
    """

    @property
    def name(self) -> str: ...

    def label(self, samples: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        """Answer for those that it can answer for by now. The others it takes note of; ask again later.

        Raises:
            TrafficVisionError: the service as a whole cannot be used.
        """
