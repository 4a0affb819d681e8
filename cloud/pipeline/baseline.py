"""The first champion: the model that vehicles were installed with, and the data that it was trained on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from cloud.datasets import LabeledImage, canonical, read_dataset
from cloud.datasets.splitting import split_of_drive
from cloud.pipeline.building import Ingredients, build, usable
from cloud.pipeline.champion import CHECKPOINT_KEY
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.dataset_versions import row_of_newest
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.manifest import SIDES, Manifest
from cloud.pipeline.tracking import CHAMPION, Tracking
from cloud.release.locking import locked
from cloud.store.database import audit
from cloud.store.models import Candidate, Dataset
from edge.perception.model_file import ModelFile, read_model_file

FIRST_TAG = "v1"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a cloud begins with.

    Attributes:
        model: the model file that vehicles run.
        checkpoint: the Ultralytics checkpoint that it was made of; training goes on from it.
        data: the labelled data that it was trained on.
    """

    model: Path
    checkpoint: Path
    data: Path


def take_baseline(pipeline: Pipeline, baseline: Baseline) -> dict[str, Any]:
    """Take the first champion in: into the stores, the data repository (its first tag) and the registry.

    Again with the same model it only finishes what is missing.

    Returns:
        What was taken, for a JSON line.

    Raises:
        PipelineError: another model is the baseline already, or the checkpoint is missing.
        TrafficVisionError: the model file or the data cannot be read.
    """
    model = read_model_file(baseline.model)
    if not baseline.checkpoint.is_file():
        raise PipelineError(f"{baseline.checkpoint}: there is no such checkpoint")
    with locked(pipeline.config.folders.work):
        with pipeline.store.reading() as session:
            earlier = session.scalars(select(Candidate).where(Candidate.run_id.is_(None))).first()
        if earlier is not None and earlier.sha256 != model.digest:
            raise PipelineError(
                f"this cloud began with {earlier.name} {earlier.version} ({earlier.sha256[:12]}); "
                "another model comes by a retrain"
            )
        data = DataRepository(pipeline.config.folders.data, pipeline.config.dataset.remote)
        if FIRST_TAG not in data.tags():
            _add_data(pipeline, data, model, baseline.data)
        data.publish(FIRST_TAG)
        model_key = pipeline.objects.put(model.data)
        checkpoint_key = pipeline.objects.put(baseline.checkpoint.read_bytes())
        dataset = _write_rows(pipeline, data, model, model_key, checkpoint_key)
        tracking = Tracking(pipeline.config.folders.mlruns)
        tracking.register(model.digest, pipeline.objects.path(model_key), None, {"dataset": FIRST_TAG})
        if earlier is None or CHAMPION not in tracking.aliases():
            tracking.set_alias(CHAMPION, model.digest)
    return {
        "model": model.metadata.name,
        "version": model.metadata.version,
        "sha256": model.digest,
        "dataset": FIRST_TAG,
        "dvc_md5": dataset.dvc_md5,
        "images": dataset.images,
        "already_done": earlier is not None,
    }


def _add_data(pipeline: Pipeline, data: DataRepository, model: ModelFile, path: Path) -> None:
    config = pipeline.config
    images = usable(read_dataset(path))
    if not any(image.boxes for image in images):
        raise PipelineError(f"{path}: none of {len(images)} pictures has a labelled box")
    folder = config.folders.work / "baseline"
    sides = _sides(path, images, config.dataset.val_share, config.dataset.test_share)
    ingredients = Ingredients(
        tag=FIRST_TAG,
        class_names=[canonical(name) for name in model.metadata.class_names],
        slice_by=config.gate.slice_by,
        old=(),
        manifest=Manifest(),
        used_old=set(),
        new=images,
        sides=sides,
    )
    manifest, _ = build(folder, ingredients)
    data.add(FIRST_TAG, folder, manifest, f"{FIRST_TAG}: what {model.metadata.name} was trained on")
    shutil.rmtree(folder, ignore_errors=True)


def _sides(path: Path, images: Sequence[LabeledImage], val_share: float, test_share: float) -> dict[str, str]:
    """Take the sides from the dataset's own lists, where it has them; else part the drives anew."""
    sides: dict[str, str] = {}
    for side in SIDES:
        if path.is_dir() and (path / f"{side}.txt").is_file():
            for image in read_dataset(path / f"{side}.txt").images:
                if sides.setdefault(image.drive, side) != side:
                    raise PipelineError(
                        f"{path}: the drive {image.drive} is in {sides[image.drive]} and in {side}, so that "
                        "training knows what it is judged by: split by drive"
                    )
    if not {"train", "val"} <= set(sides.values()):
        shares = {"train": 1 - val_share - test_share, "val": val_share, "test": test_share}
        return {image.drive: split_of_drive(image.drive, shares) for image in images}
    return {image.drive: sides.get(image.drive, "test") for image in images}


def _write_rows(
    pipeline: Pipeline, data: DataRepository, model: ModelFile, model_key: str, checkpoint_key: str
) -> Dataset:
    with pipeline.store.reading() as session:
        known = session.get(Dataset, FIRST_TAG)
    dataset = known or row_of_newest(data, None, {})
    with pipeline.store.writing() as session:
        if known is None:
            session.add(dataset)
        if session.get(Candidate, model.digest) is None:
            facts = {
                CHECKPOINT_KEY: checkpoint_key,
                "class_names": list(model.metadata.class_names),
                "dataset": FIRST_TAG,
            }
            session.add(
                Candidate(
                    sha256=model.digest,
                    name=model.metadata.name,
                    version=model.metadata.version,
                    object_key=model_key,
                    facts=facts,
                )
            )
            audit(session, "pipeline", "baseline", model.digest, name=model.metadata.name)
    return dataset
