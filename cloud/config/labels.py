"""The section `labels` of the configuration: who says what is in a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from cloud.config.types import AbsolutePath, HttpUrl, Positive, Section, Share, absolute

# BDD100K's values.
_ATTRIBUTES: dict[str, tuple[str, ...]] = {"timeofday": ("daytime", "dawn/dusk", "night")}

ServiceName: TypeAlias = Literal["simulated", "label-studio", "teacher"]


def _checkpoint(name: str, info: ValidationInfo) -> str:
    """A bare name is looked for among those that Ultralytics publishes; a path is the configuration's."""
    return str(absolute(Path(name), info)) if "/" in name else name


class LabelStudioConfig(Section):
    """People with Label Studio."""

    url: HttpUrl = "http://127.0.0.1:8080"
    # Holds a legacy token or a personal access token of a user there, and nothing else.
    token_file: AbsolutePath | None = None
    # The project's title. It is made where there is none of this name.
    project: Annotated[str, Field(min_length=3, max_length=50)] = "Traffic Vision"
    # Of one request.
    timeout_s: Positive = 60.0


class TeacherConfig(Section):
    """Larger models that label in people's place what they agree on."""

    # Ultralytics detection checkpoints: files (with a / in them), or names that it publishes and that are
    # fetched once. Several are an ensemble.
    models: tuple[Annotated[str, Field(min_length=1), AfterValidator(_checkpoint)], ...] = ()
    # Side of the square that pictures are fitted into, pixels; larger finds smaller objects.
    imgsz: Annotated[int, Field(ge=32, multiple_of=32)] = 640
    # A box with at least this score, that this share of the models found, is a label.
    confidence: Share = 0.6
    agreement: Share = 1.0
    # Below this, times the share of models that found it, a box is nothing. What is between goes to people.
    floor: Annotated[float, Field(ge=0.05, le=1)] = 0.15
    # Boxes of several models are one object if they overlap by at least this IoU.
    overlap: Annotated[float, Field(gt=0, lt=1)] = 0.55
    # A picture in which they find nothing is labelled as empty, rather than shown to people.
    trust_empty: bool = False
    # Classes of the champion that no teacher knows. Pictures where the vehicle reported one go to people.
    unknown_classes: tuple[str, ...] = ()
    # "cpu", "0"...; unset: a GPU if there is one.
    device: str | None = None

    @model_validator(mode="after")
    def _in_order(self) -> TeacherConfig:
        if self.floor > self.confidence:
            raise ValueError(f"expected floor to be at most confidence, {self.confidence:g}")
        return self


class LabelsConfig(Section):
    """Who says what is in a sample."""

    # Each is asked for what those before it could not say. "simulated": the truth of the replayed source.
    services: Annotated[tuple[ServiceName, ...], Field(min_length=1)] = ("simulated",)
    # Labelled data whose pictures vehicles replay: a sample's label is found by its picture's name.
    datasets: tuple[AbsolutePath, ...] = ()
    # What people choose for a whole picture, beside boxes: names, each with its values.
    attributes: dict[str, Annotated[tuple[str, ...], Field(min_length=2)]] = Field(
        default_factory=lambda: dict(_ATTRIBUTES)
    )
    # How often `cloud run --watch` looks for new labels.
    poll_s: Positive = 30.0
    # So long a retrain waits for labels. Then it goes on with those that it has, if they are of this share
    # of its samples, else it fails; what came later is for the next retrain.
    max_wait_hours: Positive = 168.0
    min_share: Share = 0.5
    label_studio: LabelStudioConfig = LabelStudioConfig()
    teacher: TeacherConfig = TeacherConfig()

    @field_validator("services")
    @classmethod
    def _each_once(cls, services: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(services)) < len(services):
            raise ValueError("expected each service once")
        return services

    @field_validator("attributes")
    @classmethod
    def _plain_names(cls, attributes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, values in attributes.items():
            if not name.isidentifier() or len(set(values)) < len(values):
                raise ValueError(f"expected names of letters, digits and _, each value once, not {name!r}")
        return attributes

    @model_validator(mode="after")
    def _complete(self) -> LabelsConfig:
        if "label-studio" in self.services and self.label_studio.token_file is None:
            raise ValueError("expected label_studio.token_file for the service label-studio")
        if "teacher" in self.services and not self.teacher.models:
            raise ValueError("expected teacher.models for the service teacher")
        return self
