"""Stage validate: candidate against champion, by the edge's own detector, on drives that neither saw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.datasets import Dataset, LabeledImage, canonical, dataset_sha256
from cloud.datasets.files import atomic_file
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.evaluation import evaluation_options, predict
from cloud.pipeline.evaluation_coco import Matches, RankedClass
from cloud.pipeline.gate import Judgement, judge, measure
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.judging import judging_pictures
from cloud.pipeline.mixing import most_frequent
from cloud.pipeline.promise import detections_by_slice
from cloud.pipeline.tracking import Tracking
from cloud.store import models
from cloud.store.models import Candidate, Run, Verdict
from edge.perception.detector import Detector
from edge.perception.model_file import ModelFile, read_model_file

TELL_EVERY = 16

Predictions = list[npt.NDArray[np.float32]]


def run(job: Job) -> Outcome:
    """Judge the frozen bytes that would be released. What one model saw is kept for another attempt.

    Raises:
        PipelineError: there is nothing to judge by.
    """
    config = job.pipeline.config
    with job.pipeline.store.reading() as session:
        retrain = session.get_one(Run, job.run_id)
        candidate = session.scalars(select(Candidate).where(Candidate.run_id == job.run_id)).one()
        champion = session.get_one(Candidate, retrain.parent_sha256)
        dataset = session.get_one(models.Dataset, retrain.dataset_version)
    images, left_out = judging_pictures(job, dataset.version)
    ranked, detections = _compare(job, images, [champion, candidate])
    targets = config.gate.targets or _targets(dataset)
    figures = measure(images, ranked[0], ranked[1], config.gate, config.training.seed)
    judgement = judge(figures, targets, config.gate.margin)
    _track(job, retrain.mlflow_run_id, judgement)

    def commit(session: Session) -> None:
        document = judgement.to_json()
        session.add(
            Verdict(
                candidate_sha256=candidate.sha256,
                champion_sha256=champion.sha256,
                verdict=judgement.verdict,
                rules=document["rules"],
                scores={
                    "slices": document["slices"],
                    "targets": document["targets"],
                    "detections": detections,
                },
            )
        )

    facts = {
        "champion": champion.sha256,
        "candidate": candidate.sha256,
        "holdout": {"images": len(images), "drives": len({image.drive for image in images}), **left_out},
        "detections_per_frame": detections,
        **judgement.to_json(),
    }
    return Outcome(facts, commit)


def _targets(dataset: models.Dataset) -> tuple[str, ...]:
    """Most of the new samples are of this slice: it is what the retrain is for."""
    slices = [value for value, count in dataset.facts.get("slices", {}).items() for _ in range(count)]
    return (most_frequent(slices),) if slices else ()


def _compare(
    job: Job, images: list[LabeledImage], candidates: Sequence[Candidate]
) -> tuple[list[list[RankedClass]], dict[str, float]]:
    """Each one's matches; and how much the last one finds, by slice."""
    files = [read_model_file(job.pipeline.objects.path(candidate.object_key)) for candidate in candidates]
    names = [canonical(name) for name in files[0].metadata.class_names]
    labeled = {box.category for image in images for box in image.boxes}
    judged = [name for name in dict.fromkeys(names) if name in labeled]
    if not judged:
        raise PipelineError(f"the holdout has no box of a class of the model ({', '.join(names)})")
    sha256 = dataset_sha256(Dataset(tuple(images)))
    seen = [_predict(job, file, images, sha256) for file in files]
    ranked = [
        Matches(images, predictions, file.metadata.class_names, judged).ranked()
        for file, predictions in zip(files, seen, strict=True)
    ]
    slice_by = job.pipeline.config.gate.slice_by
    return ranked, detections_by_slice(images, seen[-1], files[-1].metadata.score_threshold, slice_by)


def _predict(job: Job, file: ModelFile, images: list[LabeledImage], holdout_sha256: str) -> Predictions:
    kept = job.work / f"seen-{file.digest[:16]}-{holdout_sha256[:16]}.npz"
    if kept.is_file():
        return _load(kept)
    detector = Detector(file, evaluation_options(job.pipeline.config.gate.threads))

    def telling(items: Iterable[LabeledImage]) -> Iterator[LabeledImage]:
        for number, item in enumerate(items):
            if number % TELL_EVERY == 0:
                job.tell(model=file.metadata.version, images=number, of=len(images))
            yield item

    used, predictions, refusals = predict(detector, images, telling)
    if refusals:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in refusals.items())
        raise PipelineError(f"{len(images) - len(used)} pictures of the holdout cannot be judged: {reasons}")
    _save(kept, predictions)
    return predictions


def _save(path: Path, predictions: Predictions) -> None:
    boxes = np.concatenate([np.zeros((0, 6), np.float32), *predictions])
    lengths = np.array([len(rows) for rows in predictions], np.int64)
    with atomic_file(path) as file:
        np.savez(file, boxes=boxes, lengths=lengths)


def _load(path: Path) -> Predictions:
    with np.load(path) as kept:
        return np.split(kept["boxes"], np.cumsum(kept["lengths"])[:-1])


def _track(job: Job, mlflow_id: str, judgement: Judgement) -> None:
    tracking = Tracking(job.pipeline.config.folders.mlruns)
    metrics = {
        f"{who}.{figures.name.strip('()').replace('/', '-')}.map50": value
        for figures in judgement.slices
        for who, value in (("champion", figures.champion), ("challenger", figures.challenger))
        if value is not None
    }
    tracking.log_metrics(mlflow_id, metrics)
    tracking.log_document(mlflow_id, "verdict.json", judgement.to_json())
