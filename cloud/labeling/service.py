"""The one interface of all labelling services: a simulated one, people with a tool, larger models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cloud.datasets.dataset import Box
from edge.errors import TrafficVisionError


class LabelServiceError(TrafficVisionError):
    """A labelling service cannot be used as it is set up; the message says what to do."""


class ServiceAwayError(LabelServiceError):
    """A labelling service does not answer at present: ask again later."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A box that a model proposes.

    Attributes:
        box: in pixels of the sample's picture.
        score: 0 to 1.
    """

    box: Box
    score: float


@dataclass(frozen=True, slots=True)
class UnlabeledSample:
    """What a service is given of a sample.

    Attributes:
        id: its row in the store; a service that forgets nothing is asked about the same id again and again.
        object_key: its JPEG in the object store.
        width, height: of the picture, pixels.
        source_id, drive_id, picture, drive_ns: where it is from, see `cloud.store.models.Sample`.
        name: VEHICLE/ID, the same in every database that it ever lies in.
        suggestions: what the vehicle's model saw in it, or a service that was asked before.
        suggested_by: name of what made the suggestions, for people.
    """

    id: int
    object_key: str
    width: int
    height: int
    source_id: str
    drive_id: str
    picture: str
    drive_ns: int
    name: str = ""
    suggestions: tuple[Suggestion, ...] = ()
    suggested_by: str = ""


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
    """A service's answer for one sample: labels, or why there will never be any, or what it waits for.

    Attributes:
        labels: None with a refusal, and while it waits.
        refusal: a reason that is the same for all of its kind; empty with labels and while it waits.
        waits: with neither: what someone has to do before there are labels, with the place where.
        service: that answers, where that is not the one that was asked itself.
        suggestions, suggested_by: with a refusal: boxes for the next service to begin with; none: as before.
    """

    sample_id: int
    labels: Labels | None
    refusal: str = ""
    waits: str = ""
    service: str = ""
    suggestions: tuple[Suggestion, ...] = ()
    suggested_by: str = ""


class LabelSource(Protocol):
    """A labelling service. Asking twice costs nothing twice, in another process too.

    Attributes:
        name: as it stands beside each label: simulated, label-studio, teacher.
    """

    @property
    def name(self) -> str: ...

    def label(self, samples: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        """Answer for those that it can answer for by now. The others it takes note of; ask again later.

        Answers come as they are found. A sample that is waited for needs none.

        Raises:
            ServiceAwayError: it does not answer at present.
            TrafficVisionError: the service as a whole cannot be used.
        """
