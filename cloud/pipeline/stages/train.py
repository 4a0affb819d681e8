"""Stage train: from the champion's checkpoint to a frozen model file, the candidate."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from cloud.datasets import LabeledImage, read_dataset
from cloud.pipeline.champion import CHECKPOINT_KEY
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.drift_prior import fleet_prior
from cloud.pipeline.drop_estimate import MIN_BOXES, DropOptions
from cloud.pipeline.drop_prior import with_drop
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.exported_data import exported_data
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.judging import judging_pictures
from cloud.pipeline.manifest import Manifest
from cloud.pipeline.resuming import discard_broken_training
from cloud.pipeline.tracking import CHALLENGER, REGISTERED_MODEL, Tracking
from cloud.pipeline.training import EpochReport, TrainingPlan, portable_checkpoint, train
from cloud.release.assembly import AssemblyOptions, assemble
from cloud.release.checkpoint import export_checkpoint
from cloud.store.models import Candidate, Dataset, Run
from edge.perception.model_file import ModelFile, read_model_file

TRAINING = "training"  # name of Ultralytics' run in the retrain's folder
TELL_EVERY = 8


@dataclass(frozen=True, slots=True)
class _Start:
    """What a retrain goes on from."""

    run: Run
    dataset: Dataset
    champion: Candidate
    model: ModelFile


def run(job: Job) -> Outcome:
    """Train, or go on with a training that was killed; then export, wrap and store the candidate.

    Raises:
        TrainingError: no checkpoint came out.
        TrafficVisionError: no sound model file can be made of it.
    """
    start = _start(job)
    tracking = Tracking(job.pipeline.config.folders.mlruns)
    mlflow_id = _record(job, start, tracking)
    data = exported_data(job, start.dataset.version)
    began = time.monotonic()
    best = _train(job, start, data, tracking, mlflow_id)
    seconds = time.monotonic() - began
    manifest = DataRepository(job.pipeline.config.folders.data).manifest(start.dataset.version)
    pictures = _golden_pictures(start.model, data, manifest, job.pipeline.config.release.golden_pictures)
    trained_on = _trained_on(data, manifest)
    model = _assemble(job, start, best, pictures, trained_on)
    model, drop = _with_drop(job, start, model)
    tracking.log_document(mlflow_id, "drop.json", drop)
    model_key = job.pipeline.objects.put(model.data)
    checkpoint_key = job.pipeline.objects.put(portable_checkpoint(best))
    tags = {"run": job.run_id, "dataset": start.dataset.version}
    tracking.register(model.digest, job.pipeline.objects.path(model_key), mlflow_id, tags)
    tracking.set_alias(CHALLENGER, model.digest)
    facts = {
        "candidate": model.digest,
        "model": model.metadata.name,
        "version": model.metadata.version,
        "parent": start.champion.sha256,
        "dataset": start.dataset.version,
        "mlflow_run": mlflow_id,
        "epochs": job.saved.get("epoch", 0),
        "training_s": round(seconds, 3),
        "drop": drop,
    }

    def commit(session: Session) -> None:
        session.add(
            Candidate(
                sha256=model.digest,
                run_id=job.run_id,
                name=model.metadata.name,
                version=model.metadata.version,
                object_key=model_key,
                facts={
                    CHECKPOINT_KEY: checkpoint_key,
                    "class_names": list(model.metadata.class_names),
                    "dataset": start.dataset.version,
                },
            )
        )

    return Outcome(facts, commit)


def _start(job: Job) -> _Start:
    with job.pipeline.store.reading() as session:
        retrain = session.get_one(Run, job.run_id)
        dataset = session.get_one(Dataset, retrain.dataset_version)
        champion = session.get_one(Candidate, retrain.parent_sha256)
    model = read_model_file(job.pipeline.objects.path(champion.object_key))
    return _Start(retrain, dataset, champion, model)


def _record(job: Job, start: _Start, tracking: Tracking) -> str:
    """Begin the MLflow run: what went in is on record before anything can come out."""
    params = {
        "dataset_version": start.dataset.version,
        "dataset_dvc_md5": start.dataset.dvc_md5,
        "dataset_sha256": start.dataset.sha256,
        "dataset_git_commit": start.dataset.git_commit,
        "images": start.dataset.images,
        "code_commit": start.run.code_commit,
        "parent_sha256": start.champion.sha256,
        **job.pipeline.config.training.model_dump(),
    }
    mlflow_id = tracking.begin(job.run_id, params, {"mlflow.source.git.commit": start.run.code_commit})
    with job.pipeline.store.writing() as session:
        session.get_one(Run, job.run_id).mlflow_run_id = mlflow_id
    return mlflow_id


def _train(job: Job, start: _Start, data: Path, tracking: Tracking, mlflow_id: str) -> Path:
    config = job.pipeline.config.training
    checkpoint = job.work / "start.pt"
    shutil.copyfile(job.pipeline.objects.path(start.champion.facts[CHECKPOINT_KEY]), checkpoint)
    discard_broken_training(job.work / TRAINING)

    def report(epoch: EpochReport) -> None:
        with job.pipeline.store.writing() as session:
            job.save(session, epoch=epoch.epoch)
        metrics = {"train.loss": epoch.loss, "val.map50": epoch.map50}
        tracking.log_metrics(mlflow_id, metrics, epoch.epoch)
        job.tell(
            epoch=epoch.epoch,
            epochs=epoch.epochs,
            loss=epoch.loss,
            map50=epoch.map50,
            remaining_s=epoch.remaining_s,
        )

    plan = TrainingPlan(
        start=str(checkpoint),
        data=data / "data.yaml",
        work=job.work,
        name=TRAINING,
        imgsz=config.imgsz,
        epochs=config.epochs,
        batch=config.batch,
        seed=config.seed,
        threads=config.threads,
        device=config.device,
        learning_rate=config.learning_rate,
        rectangular=config.rectangular,
        step_images=config.step_images,
        warmup_epochs=config.warmup_epochs,
        keep=config.keep,
    )
    return train(plan, report)


def _golden_pictures(model: ModelFile, data: Path, manifest: Manifest, count: int) -> list[bytes]:
    """Take the champion's golden pictures, and of each slice the picture with the most objects."""
    used = {entry.name: entry for entry in manifest.entries if entry.used}
    busiest: dict[str, tuple[int, Path]] = {}
    for image in read_dataset(data).images:
        entry = used.get(image.name)
        if entry is None or image.path is None:
            continue
        if len(image.boxes) > busiest.get(entry.slice, (-1, None))[0]:
            busiest[entry.slice] = len(image.boxes), image.path
    own = [path.read_bytes() for _, (_, path) in sorted(busiest.items())][:count]
    champion = [frame.jpeg for frame in model.metadata.golden]
    return [*champion[: count - len(own)], *own]


def _trained_on(data: Path, manifest: Manifest) -> tuple[Path, ...]:
    """The pictures that the model is trained on, in the order of their names."""
    used = {entry.name for entry in manifest.entries if entry.used and entry.side == "train"}
    images = sorted(read_dataset(data).images, key=lambda image: image.name)
    return tuple(image.path for image in images if image.path is not None and image.name in used)


def _assemble(
    job: Job, start: _Start, best: Path, pictures: Sequence[bytes], trained_on: tuple[Path, ...]
) -> ModelFile:
    metadata = start.model.metadata
    options = AssemblyOptions(
        name=REGISTERED_MODEL,
        version=job.run_id,
        class_names=metadata.class_names,
        score_threshold=metadata.score_threshold,
        iou_threshold=metadata.iou_threshold,
        max_detections=metadata.max_detections,
        dataset_sha256=start.dataset.sha256,
        drift_prior=fleet_prior(job.pipeline, start.dataset.version, metadata.drift_prior),
        trained_on=trained_on,
    )
    folder = job.work / "export"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    job.tell(step="assemble")
    return assemble(export_checkpoint(best, folder, start.model.input_hw), pictures, options).model


def _with_drop(job: Job, start: _Start, model: ModelFile) -> tuple[ModelFile, dict[str, Any]]:
    """Before the file is judged: what is in it when it is, is what vehicles get."""
    config = job.pipeline.config
    try:
        images = judging_pictures(job, start.dataset.version)[0]
    except PipelineError:
        images = []  # the next stage says it, and stops

    def telling(items: Iterable[LabeledImage]) -> Iterator[LabeledImage]:
        chosen = list(items)
        for number, item in enumerate(chosen):
            if number % TELL_EVERY == 0:
                job.tell(step="drop", images=number, of=len(chosen))
            yield item

    options = DropOptions(
        pictures=config.release.drop_pictures,
        min_boxes=min(MIN_BOXES, config.gate.min_boxes),
        seed=config.training.seed,
        threads=config.gate.threads,
        progress=telling,
    )
    equipped = with_drop(model, images, config.gate.slice_by, options)
    return equipped.model, equipped.facts
