"""Stage train: from the champion's checkpoint to a frozen model file, the candidate."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from cloud.datasets import LabeledImage
from cloud.pipeline.candidates import assembled, golden_pictures, trained_on
from cloud.pipeline.champion import CHECKPOINT_KEY
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.drift_prior import fleet_prior
from cloud.pipeline.drop_estimate import MIN_BOXES, DropOptions
from cloud.pipeline.drop_prior import with_drop
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.exported_data import exported_data
from cloud.pipeline.forgetting_models import golden_to_take_on
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.judging import judging_pictures
from cloud.pipeline.parity import Parity
from cloud.pipeline.resuming import train_in
from cloud.pipeline.starting import Start, start_of
from cloud.pipeline.tracking import CHALLENGER, REGISTERED_MODEL, Tracking
from cloud.pipeline.training import BatchReduced, EpochReport, portable_checkpoint
from cloud.pipeline.training_record import RECORD, environment
from cloud.release.assembly import AssemblyOptions
from cloud.store.models import Candidate, Dataset, Run
from edge.perception.model_file import ModelFile, read_model_file

TELL_EVERY = 8

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a retrain goes on from.

    Attributes:
        model: the champion's file.
        start: the checkpoint that is trained.
    """

    run: Run
    dataset: Dataset
    champion: Candidate
    model: ModelFile
    start: Start


def run(job: Job) -> Outcome:
    """Train, or go on with a training that was killed; then export, wrap and store the candidate.

    Raises:
        TrainingError: no checkpoint came out.
        TrafficVisionError: no sound model file can be made of it.
    """
    inputs = _inputs(job)
    tracking = Tracking(job.pipeline.config.folders.mlruns)
    mlflow_id = _record(job, inputs, tracking)
    data = exported_data(job.pipeline, job.work, inputs.dataset.version)
    began = time.monotonic()
    best = _train(job, inputs, data, tracking, mlflow_id)
    seconds = time.monotonic() - began
    model, parity = _assemble(job, inputs, best, data)
    model, drop = _with_drop(job, inputs, model)
    tracking.log_document(mlflow_id, "drop.json", drop)
    model_key = job.pipeline.objects.put(model.data)
    checkpoint_key = job.pipeline.objects.put(portable_checkpoint(best))
    tags = {"run": job.run_id, "dataset": inputs.dataset.version, "architecture": inputs.start.architecture}
    tracking.register(model.digest, job.pipeline.objects.path(model_key), mlflow_id, tags)
    tracking.set_alias(CHALLENGER, model.digest)
    record = _training_record(job, inputs)
    tracking.log_document(mlflow_id, "training.json", record)
    facts = {
        "candidate": model.digest,
        "model": model.metadata.name,
        "version": model.metadata.version,
        "parent": inputs.champion.sha256,
        "dataset": inputs.dataset.version,
        "architecture": inputs.start.architecture,
        "mlflow_run": mlflow_id,
        "epochs": record["epochs"],
        "stopped_early": record["stopped_early"],
        "batches": record["batches"],
        "training_s": round(seconds, 3),
        "parity": asdict(parity),
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
                    "dataset": inputs.dataset.version,
                    RECORD: record,
                },
            )
        )

    return Outcome(facts, commit)


def _inputs(job: Job) -> _Inputs:
    pipeline = job.pipeline
    with pipeline.store.reading() as session:
        retrain = session.get_one(Run, job.run_id)
        dataset = session.get_one(Dataset, retrain.dataset_version)
        champion = session.get_one(Candidate, retrain.parent_sha256)
    model = read_model_file(pipeline.objects.path(champion.object_key))
    start = start_of(pipeline, champion, pipeline.config.training)
    return _Inputs(retrain, dataset, champion, model, start)


def _record(job: Job, inputs: _Inputs, tracking: Tracking) -> str:
    """Begin the MLflow run: what went in is on record before anything can come out."""
    params = {
        "dataset_version": inputs.dataset.version,
        "dataset_dvc_md5": inputs.dataset.dvc_md5,
        "dataset_sha256": inputs.dataset.sha256,
        "dataset_git_commit": inputs.dataset.git_commit,
        "images": inputs.dataset.images,
        "code_commit": inputs.run.code_commit,
        "parent_sha256": inputs.champion.sha256,
        "architecture": inputs.start.architecture,
        "starts_from": "champion" if inputs.start.of_champion else "weights",
        **job.pipeline.config.training.model_dump(),
    }
    mlflow_id = tracking.begin(job.run_id, params, {"mlflow.source.git.commit": inputs.run.code_commit})
    with job.pipeline.store.writing() as session:
        session.get_one(Run, job.run_id).mlflow_run_id = mlflow_id
    return mlflow_id


def _train(job: Job, inputs: _Inputs, data: Path, tracking: Tracking, mlflow_id: str) -> Path:
    config = job.pipeline.config.training

    def report(epoch: EpochReport) -> None:
        _note(job, epoch=epoch.epoch)
        metrics = {"train.loss": epoch.loss, "val.map50": epoch.map50, "batch": epoch.batch, **epoch.metrics}
        tracking.log_metrics(mlflow_id, metrics, epoch.epoch)
        job.tell(**asdict(epoch))

    def reduced(batch: BatchReduced) -> None:
        _LOG.warning("%s: %s", job.run_id, batch.to_text())
        _note(job, batches=[*job.saved.get("batches", [config.batch]), batch.after])
        tracking.log_metrics(mlflow_id, {"batch": batch.after}, batch.epoch)
        job.tell(step="out of memory", batch=batch.after, batch_before=batch.before)

    def goes_on() -> None:
        _note(job, resumed_after=[*job.saved.get("resumed_after", []), job.saved.get("epoch", 0)])

    start_key = inputs.start.object_key
    return train_in(job.work, job.pipeline, config, start_key, data, report, reduced, goes_on)


def _note(job: Job, **facts: Any) -> None:
    with job.pipeline.store.writing() as session:
        job.save(session, **facts)


def _training_record(job: Job, inputs: _Inputs) -> dict[str, Any]:
    config = job.pipeline.config.training
    epochs = job.saved.get("epoch", 0)
    return {
        "config": config.model_dump(mode="json"),
        "architecture": inputs.start.architecture,
        "start_key": inputs.start.object_key,
        "epochs": epochs,
        "stopped_early": epochs < config.epochs,
        "batches": job.saved.get("batches", [config.batch]),
        "resumed_after": job.saved.get("resumed_after", []),
        "code_commit": inputs.run.code_commit,
        "environment": environment(),
    }


def _assemble(job: Job, inputs: _Inputs, best: Path, data: Path) -> tuple[ModelFile, Parity]:
    config, metadata = job.pipeline.config, inputs.model.metadata
    manifest = DataRepository(config.folders.data).manifest(inputs.dataset.version)
    champion = golden_to_take_on(inputs.model, inputs.champion.facts)
    options = AssemblyOptions(
        name=REGISTERED_MODEL,
        version=job.run_id,
        class_names=metadata.class_names,
        score_threshold=metadata.score_threshold,
        iou_threshold=metadata.iou_threshold,
        max_detections=metadata.max_detections,
        dataset_sha256=inputs.dataset.sha256,
        drift_prior=fleet_prior(job.pipeline, inputs.dataset.version, metadata.drift_prior),
        trained_on=trained_on(data, manifest),
    )
    job.tell(step="assemble")
    pictures = golden_pictures(champion, data, manifest, config.release.golden_pictures)
    return assembled(best, job.work / "export", inputs.model.input_hw, pictures, options)


def _with_drop(job: Job, inputs: _Inputs, model: ModelFile) -> tuple[ModelFile, dict[str, Any]]:
    """Before the file is judged: what is in it when it is, is what vehicles get."""
    config = job.pipeline.config
    try:
        images = judging_pictures(job, inputs.dataset.version)[0]
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
