"""Samples with their labels, in the shape of a dataset's pictures."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import selectinload

from cloud.datasets import Box, LabeledImage, canonical
from cloud.pipeline.job import Pipeline
from cloud.pipeline.runs import samples_of
from cloud.store.models import Label, Run, Sample
from cloud.store.states import SampleState

DRIVE = "drive"  # in a label's attributes: the recording's name as the labelling service knows it


@dataclass(frozen=True, slots=True)
class LabeledSample:
    """A sample of a retrain.

    Attributes:
        id: its row.
        object_key: its JPEG.
        image: as a dataset has it; `path` is the object's file. None: it has no labels.
    """

    id: int
    object_key: str
    image: LabeledImage | None


def picture_name(vehicle: str, external_id: str) -> str:
    """Name a sample's picture, as it stands in datasets."""
    return f"{vehicle}/{external_id}.jpg"


def labeled_samples(pipeline: Pipeline, run_id: str) -> list[LabeledSample]:
    """Give a retrain's labelled samples, in the order in which they came."""
    with pipeline.store.reading() as session:
        run = session.get_one(Run, run_id)
        query = samples_of(run, SampleState.LABELED).options(selectinload(Sample.labels))
        samples = session.scalars(query).all()
    return [
        LabeledSample(sample.id, sample.object_key, _image(pipeline, sample, sample.labels))
        for sample in samples
    ]


def labels_by_service(pipeline: Pipeline, run_id: str) -> dict[str, list[LabeledImage]]:
    """Give a retrain's labelled samples as each service has labelled them."""
    with pipeline.store.reading() as session:
        run = session.get_one(Run, run_id)
        query = samples_of(run, SampleState.LABELED).options(selectinload(Sample.labels))
        samples = session.scalars(query).all()
    found: dict[str, list[LabeledImage]] = {}
    for sample in samples:
        for label in sample.labels:
            image = _image(pipeline, sample, [label])
            assert image is not None
            found.setdefault(label.service, []).append(image)
    return found


def _image(pipeline: Pipeline, sample: Sample, labels: list[Label]) -> LabeledImage | None:
    if not labels:
        return None
    label = max(labels, key=lambda label: label.id)
    attributes = {key: str(value) for key, value in label.attributes.items()}
    drive = attributes.pop(DRIVE, "") or sample.drive_id
    return LabeledImage(
        name=picture_name(sample.vehicle, sample.external_id),
        path=pipeline.objects.path(sample.object_key),
        width=sample.width_px,
        height=sample.height_px,
        boxes=tuple(
            Box(
                x1=float(box["x1"]),
                y1=float(box["y1"]),
                x2=float(box["x2"]),
                y2=float(box["y2"]),
                category=canonical(str(box["category"])),
                occluded=box.get("occluded"),
                truncated=box.get("truncated"),
                crowd=bool(box.get("crowd", False)),
            )
            for box in label.boxes
        ),
        attributes=attributes,
        drive=drive,
    )
