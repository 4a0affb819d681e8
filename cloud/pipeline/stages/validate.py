"""Stage validate: candidate against champion, by the edge's own detector, on drives that neither saw."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.datasets import Dataset, LabeledImage, canonical, dataset_sha256, spread_out
from cloud.pipeline.behaviour import behaviour_rules, measure_behaviour
from cloud.pipeline.card_pictures import View, wins_and_losses
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.evaluation import evaluation_options, load_picture, predict
from cloud.pipeline.evaluation_coco import Matches
from cloud.pipeline.gate import Judgement, RuleResult, demands_of, judge
from cloud.pipeline.gate_power import power_of
from cloud.pipeline.gate_slices import Ranked, map50_95, measure, targets_of
from cloud.pipeline.gate_text import to_text
from cloud.pipeline.hardware import hardware_rules, measure_hardware
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.judging import judging_pictures
from cloud.pipeline.lineage import lineage
from cloud.pipeline.model_card import CardFacts, write_card
from cloud.pipeline.predictions_file import Predictions, load_predictions, save_predictions
from cloud.pipeline.promise import detections_by_slice
from cloud.pipeline.tracking import Tracking
from cloud.store import models
from cloud.store.models import Candidate, Run, Verdict
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import ModelFile, read_model_file

CARD = "model_card"  # among the artifacts of the MLflow run
CARD_PICTURES = 4  # of wins, and of losses
TELL_EVERY = 16
TIMED_PICTURES = 8

_LOG = logging.getLogger(__name__)
_NO_METRIC = re.compile(r"[^\w\-. ]")


@dataclass(frozen=True, slots=True, eq=False)
class _Contest:
    """Both models, and what they saw of the holdout; the champion first.

    Attributes:
        judged: canonical names of the classes that count.
    """

    paths: tuple[Path, Path]
    files: tuple[ModelFile, ModelFile]
    images: list[LabeledImage]
    seen: tuple[Predictions, Predictions]
    judged: list[str]


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
    contest = _see(job, images, champion, candidate)
    judgement = _judge(job, contest, config.gate.targets or targets_of(dataset.facts.get("slices", {})))
    threshold = contest.files[1].metadata.score_threshold
    detections = detections_by_slice(images, contest.seen[1], threshold, config.gate.slice_by)
    holdout = {"images": len(images), "drives": len({image.drive for image in images}), **left_out}
    _track(job, retrain.mlflow_run_id, judgement)
    _card(job, retrain.mlflow_run_id, contest, judgement, holdout)
    document = judgement.to_json()
    _LOG.info("%s: the gate on %s:\n%s", job.run_id, candidate.version, to_text(document))

    def commit(session: Session) -> None:
        scores = {name: value for name, value in document.items() if name not in ("verdict", "rules")}
        session.add(
            Verdict(
                candidate_sha256=candidate.sha256,
                champion_sha256=champion.sha256,
                verdict=judgement.verdict,
                rules=document["rules"],
                scores={**scores, "detections": detections},
            )
        )

    facts = {
        "champion": champion.sha256,
        "candidate": candidate.sha256,
        "holdout": holdout,
        "detections_per_frame": detections,
        "card": CARD,
        **document,
    }
    return Outcome(facts, commit)


def _see(job: Job, images: list[LabeledImage], champion: Candidate, candidate: Candidate) -> _Contest:
    paths = tuple(job.pipeline.objects.path(each.object_key) for each in (champion, candidate))
    files = tuple(read_model_file(path) for path in paths)
    names = [canonical(name) for name in files[0].metadata.class_names]
    labeled = {box.category for image in images for box in image.boxes}
    judged = [name for name in dict.fromkeys(names) if name in labeled]
    if not judged:
        raise PipelineError(f"the holdout has no box of a class of the model ({', '.join(names)})")
    sha256 = dataset_sha256(Dataset(tuple(images)))
    seen = tuple(_predict(job, file, images, sha256) for file in files)
    return _Contest((paths[0], paths[1]), (files[0], files[1]), images, (seen[0], seen[1]), judged)


def _judge(job: Job, contest: _Contest, targets: Sequence[str]) -> Judgement:
    gate, seed = job.pipeline.config.gate, job.pipeline.config.training.seed
    job.tell(step="slices")
    matches = [
        Matches(contest.images, seen, file.metadata.class_names, contest.judged)
        for file, seen in zip(contest.files, contest.seen, strict=True)
    ]
    champion, challenger = (Ranked.of(each, gate) for each in matches)
    figures = measure(contest.images, champion, challenger, gate, seed)
    power = power_of(demands_of(gate, figures, targets), figures, targets, gate.effect)
    further: dict[str, Any] = {
        "power": power.to_json(),
        "map50_95": map50_95(contest.images, matches[0], matches[1], figures, gate),
    }
    others: list[RuleResult] = []
    if gate.hardware.rounds:
        some = spread_out(contest.images, TIMED_PICTURES, gate.slice_by)
        pictures = [load_picture(image) for image in some]
        cost = measure_hardware(*contest.paths, pictures, gate.hardware, _telling(job, "hardware"))
        further["hardware"] = cost.to_json()
        others += hardware_rules(cost, gate.hardware)
    if gate.behaviour.pictures:
        options = DetectorOptions(providers=gate.hardware.providers, threads=gate.threads)
        detector = Detector(contest.files[1], options)
        behaviour = measure_behaviour(detector, contest.images, gate, seed, _telling(job, "behaviour"))
        further["behaviour"] = [each.to_json() for each in behaviour]
        others += behaviour_rules(behaviour)
    return judge(figures, targets, gate, others, further)


def _telling(job: Job, step: str) -> Callable[[int, int], None]:
    def tell(done: int, of: int) -> None:
        if done % TELL_EVERY == 0:
            job.tell(step=step, images=done, of=of)

    return tell


def _predict(job: Job, file: ModelFile, images: list[LabeledImage], holdout_sha256: str) -> Predictions:
    kept = job.work / f"seen-{file.digest[:16]}-{holdout_sha256[:16]}.npz"
    if kept.is_file():
        return load_predictions(kept)
    gate = job.pipeline.config.gate
    detector = Detector(file, evaluation_options(gate.threads, gate.hardware.providers))

    def telling(items: Iterable[LabeledImage]) -> Iterator[LabeledImage]:
        for number, item in enumerate(items):
            if number % TELL_EVERY == 0:
                job.tell(model=file.metadata.version, images=number, of=len(images))
            yield item

    used, predictions, refusals = predict(detector, images, telling)
    if refusals:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in refusals.items())
        raise PipelineError(f"{len(images) - len(used)} pictures of the holdout cannot be judged: {reasons}")
    save_predictions(kept, predictions)
    return predictions


def _track(job: Job, mlflow_id: str, judgement: Judgement) -> None:
    tracking = Tracking(job.pipeline.config.folders.mlruns)
    metrics = {
        f"{who}.{_NO_METRIC.sub('-', figures.name.strip('()'))}.map50": value
        for figures in judgement.slices
        for who, value in (("champion", figures.champion), ("challenger", figures.challenger))
        if value is not None
    }
    tracking.log_metrics(mlflow_id, metrics)
    tracking.log_document(mlflow_id, "verdict.json", judgement.to_json())


def _card(job: Job, mlflow_id: str, contest: _Contest, judgement: Judgement, holdout: dict[str, int]) -> None:
    job.tell(step="card")
    views = [View(file.metadata, seen) for file, seen in zip(contest.files, contest.seen, strict=True)]
    slice_by = job.pipeline.config.gate.slice_by
    wins, losses = wins_and_losses(
        contest.images, views[0], views[1], contest.judged, slice_by, CARD_PICTURES
    )
    facts = CardFacts(
        model=contest.files[1],
        champion=contest.files[0],
        judgement=judgement.to_json(),
        holdout=holdout,
        lineage=lineage(job.pipeline.store, contest.files[1].digest),
        wins=wins,
        losses=losses,
    )
    folder = job.work / CARD
    shutil.rmtree(folder, ignore_errors=True)
    write_card(folder, facts)
    Tracking(job.pipeline.config.folders.mlruns).log_folder(mlflow_id, folder, CARD)
