"""From the configuration to the labelling service that it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloud.config import LabelsConfig
from cloud.labeling.chain import Chain
from cloud.labeling.service import LabelSource
from cloud.labeling.simulated import SimulatedService
from cloud.labeling.truth import DatasetTruth, load_labelers
from cloud.store.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What services need beside their configuration.

    Attributes:
        objects: where the samples' pictures are.
        class_names: of the model that is to be trained, canonical.
        work: a folder for what can be made again.
        required: an attribute that people must choose a value of, as the gate judges by it.
    """

    objects: ObjectStore
    class_names: tuple[str, ...]
    work: Path
    required: str = ""


def open_label_source(config: LabelsConfig, around: Surroundings) -> LabelSource:
    """Open the services that the configuration names. Nothing is connected to, and no model loaded, yet.

    Raises:
        TrafficVisionError: a plug-in cannot be loaded, a labelled dataset or a token cannot be read, or the
            teachers do not know the model's classes.
    """
    sources = [_open(name, config, around) for name in config.services]
    return sources[0] if len(sources) == 1 else Chain(sources)


def _open(name: str, config: LabelsConfig, around: Surroundings) -> LabelSource:
    if name == "label-studio":
        from cloud.labeling.label_studio import LabelStudioService

        return LabelStudioService(config, around)
    if name == "teacher":
        from cloud.labeling.teacher import TeacherService

        return TeacherService(config.teacher, around)
    return SimulatedService(load_labelers(), DatasetTruth(config.datasets) if config.datasets else None)
