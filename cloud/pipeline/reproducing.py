"""Making a model again from its lineage: the same data, start, settings and seed; then both are compared.

The same machine with the same libraries gives the same checkpoint, bit for bit. Where it does not, what both
find on the pictures that the gate judges by tells whether it is the same model for all that one can see.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cloud.config import TrainingConfig
from cloud.datasets import LabeledImage
from cloud.datasets.files import write_file
from cloud.pipeline.candidates import assembled
from cloud.pipeline.champion import CHECKPOINT_KEY
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.dataset_versions import require_whole
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.evaluation import Evaluation, evaluate_detections, evaluation_options, predict
from cloud.pipeline.exported_data import exported_data
from cloud.pipeline.holdout import read_holdout, unseen
from cloud.pipeline.job import Pipeline
from cloud.pipeline.lineage import find_model
from cloud.pipeline.resuming import train_in
from cloud.pipeline.runs import code_commit
from cloud.pipeline.training import BatchReduced, EpochReport, portable_checkpoint
from cloud.pipeline.training_record import RECORD, differences, environment
from cloud.release.assembly import AssemblyOptions
from cloud.release.locking import locked
from cloud.store.models import Candidate, Run
from edge.perception.detector import Detector
from edge.perception.model_file import ModelFile, read_model_file

WORK = "reproduce"  # in the folder for what can be made again
IDENTICAL, ALIKE, DIFFERENT = "identical", "alike", "different"
OVERALL = "(all)"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What made a model.

    Attributes:
        candidate, run: in the store.
        version: of the data.
        config: how it was trained.
        record: the training's (`cloud.pipeline.training_record`).
    """

    candidate: Candidate
    run: Run
    version: str
    config: TrainingConfig
    record: Mapping[str, Any]


def recipe_of(pipeline: Pipeline, model: str, device: str | None = None) -> Recipe:
    """Look up what made a model.

    Args:
        pipeline: what all stages share.
        model: as `cloud.pipeline.lineage.lineage` takes it.
        device: to train on, in place of the one it was trained on.

    Raises:
        PipelineError: it is not known, was not trained here, or its data cannot be had any more.
    """
    with pipeline.store.reading() as session:
        candidate = find_model(session, model)
        run = session.get(Run, candidate.run_id) if candidate.run_id else None
        if run is None or run.dataset_version is None:
            raise PipelineError(f"{candidate.name} {candidate.version} was not trained here: it came by hand")
        record = candidate.facts.get(RECORD)
        if record is None:
            raise PipelineError(
                f"{candidate.version} was trained by a release of this software that kept no record of it"
            )
        version = require_whole(session, run.dataset_version).version
    try:
        config = TrainingConfig.model_validate_json(json.dumps(record["config"]))
    except ValidationError as error:
        names = ", ".join(str(part["loc"][0]) for part in error.errors() if part["loc"])
        raise PipelineError(
            f"{candidate.version}: this release of the software trains otherwise than its own did ({names}): "
            f"use the one of commit {record.get('code_commit') or 'unknown'}"
        ) from None
    if device is not None:
        config = config.model_copy(update={"device": device})
    return Recipe(candidate, run, version, config, record)


def reproduce(
    pipeline: Pipeline,
    recipe: Recipe,
    tolerance: float,
    progress: Callable[[EpochReport], None] = lambda _: None,
) -> dict[str, Any]:
    """Train again and compare; killed and begun again it goes on.

    Args:
        pipeline: what all stages share.
        recipe: what made the model.
        tolerance: so far two models alike may differ in mAP50, on all pictures and on each slice of enough
            boxes.
        progress: is told of each epoch.

    Returns:
        JSON-able: model, state (identical: bit for bit; alike or different: by figures), checkpoint and
        original_checkpoint (SHA-256), reasons (why not the same bits), figures (by slice).

    Raises:
        PipelineError: its data or its start cannot be had.
        TrainingError: it cannot be trained here.
    """
    work = pipeline.config.folders.work / WORK / recipe.run.id
    with locked(work):
        checkpoint, conditions = _train(pipeline, recipe, work, progress)
        portable = portable_checkpoint(checkpoint)
        found, original = hashlib.sha256(portable).hexdigest(), recipe.candidate.facts[CHECKPOINT_KEY]
        line: dict[str, Any] = {
            "model": recipe.candidate.version,
            "sha256": recipe.candidate.sha256,
            "dataset": recipe.version,
            "state": IDENTICAL,
            "checkpoint": found,
            "original_checkpoint": original,
            "reasons": [],
            "figures": {},
        }
        if found != original:
            line |= _by_figures(pipeline, recipe, checkpoint, work, tolerance)
            line["reasons"] = [*conditions, *_reasons(recipe)] or ["nothing that is on record differs"]
    shutil.rmtree(work, ignore_errors=True)
    return line


def _train(
    pipeline: Pipeline, recipe: Recipe, work: Path, progress: Callable[[EpochReport], None]
) -> tuple[Path, list[str]]:
    """Train as then; and say what was not as it should be on the way."""
    data = exported_data(pipeline, work, recipe.version)
    interrupted = work / "interrupted"
    batches: list[str] = []

    def reduced(batch: BatchReduced) -> None:
        batches.append(f"now {batch.to_text()}")

    def goes_on() -> None:
        write_file(interrupted, "")

    start_key = recipe.record["start_key"]
    checkpoint = train_in(work, pipeline, recipe.config, start_key, data, progress, reduced, goes_on)
    return checkpoint, [*(["it was interrupted and went on now"] if interrupted.exists() else []), *batches]


def _reasons(recipe: Recipe) -> list[str]:
    """Why the bits may differ."""
    record = recipe.record
    found = [f"it was interrupted then, after epoch {epoch}" for epoch in record.get("resumed_after", [])]
    batches = record.get("batches", [])
    if len(batches) > 1:
        found.append(f"its batch was made smaller then: {' -> '.join(map(str, batches))}")
    then = record["config"].get("device")
    if recipe.config.device != then:
        found.append(f"device was {then or 'unset'}, is {recipe.config.device or 'unset'}")
    now = code_commit()
    if record.get("code_commit") != now:
        found.append(f"code was {record.get('code_commit') or 'unknown'}, is {now or 'unknown'}")
    return [*found, *differences(record.get("environment", {}), environment())]


def _by_figures(
    pipeline: Pipeline, recipe: Recipe, checkpoint: Path, work: Path, tolerance: float
) -> dict[str, Any]:
    original = read_model_file(pipeline.objects.path(recipe.candidate.object_key))
    made = _model_file(original, checkpoint, work / "export")
    pictures = _pictures(pipeline, recipe, work / "data")
    then, now = (_evaluate(pipeline, model, pictures) for model in (original, made))
    return compare_figures(
        _figures(then, pipeline.config.gate.slice_by),
        _figures(now, pipeline.config.gate.slice_by),
        tolerance,
        pipeline.config.gate.min_boxes,
    )


def _model_file(original: ModelFile, checkpoint: Path, folder: Path) -> ModelFile:
    metadata = original.metadata
    options = AssemblyOptions(
        name=metadata.name,
        version=metadata.version,
        class_names=metadata.class_names,
        score_threshold=metadata.score_threshold,
        iou_threshold=metadata.iou_threshold,
        max_detections=metadata.max_detections,
    )
    golden = [frame.jpeg for frame in metadata.golden]
    return assembled(checkpoint, folder, original.input_hw, golden, options)[0]


def _pictures(pipeline: Pipeline, recipe: Recipe, data: Path) -> list[LabeledImage]:
    manifest = DataRepository(pipeline.config.folders.data).manifest(recipe.version)
    seen = {entry.drive for entry in manifest.entries if entry.side != "test"}
    fresh, _ = unseen(read_holdout(pipeline.config.gate, data / "test.txt"), seen)
    there = [image for image in fresh if image.path is not None]
    if not there:
        raise PipelineError(
            "the bits differ, and there are no pictures to compare the models by: set gate.holdout"
        )
    return there


def _evaluate(pipeline: Pipeline, model: ModelFile, pictures: Sequence[LabeledImage]) -> Evaluation:
    gate = pipeline.config.gate
    detector = Detector(model, evaluation_options(gate.threads))
    used, predictions, _ = predict(detector, pictures)
    slices = (gate.slice_by,) if any(gate.slice_by in image.attributes for image in used) else ()
    return evaluate_detections(used, predictions, detector.class_names, slices)


def _figures(evaluation: Evaluation, slice_by: str) -> dict[str, tuple[int, float | None]]:
    """Give boxes and mAP50, of all pictures and of each slice."""
    scores = {OVERALL: evaluation.overall, **evaluation.slices.get(slice_by, {})}
    return {name: (score.boxes, score.map50) for name, score in scores.items()}


def compare_figures(
    then: Mapping[str, tuple[int, float | None]],
    now: Mapping[str, tuple[int, float | None]],
    tolerance: float,
    min_boxes: int,
) -> dict[str, Any]:
    """Hold two models' figures against each other.

    Args:
        then: boxes and mAP50 of the original, by slice, `OVERALL` among them.
        now: the reproduction's.
        tolerance: of a difference of mAP50.
        min_boxes: slices with fewer are told, and judge nothing; the whole always does.

    Returns:
        state, figures.
    """
    figures, within = {}, True
    for name, (boxes, before) in then.items():
        after = now[name][1]
        difference = None if before is None or after is None else after - before
        judged = name == OVERALL or boxes >= min_boxes
        if judged and (difference is None or abs(difference) > tolerance):
            within = within and before is None and after is None
        figures[name] = {
            "boxes": boxes,
            "original": before,
            "reproduced": after,
            "difference": difference,
            "judged": judged,
        }
    return {"state": ALIKE if within else DIFFERENT, "tolerance": tolerance, "figures": figures}


def to_text(line: Mapping[str, Any]) -> str:
    """Lay a comparison out for a terminal."""
    if line["state"] == IDENTICAL:
        return f"{line['model']}: identical, bit for bit: checkpoint {line['checkpoint']}"
    lines = [
        f"{line['model']}: {line['state']} by figures (within {line['tolerance']:g} mAP50), not bit for bit"
    ]
    lines += [f"  because {reason}" for reason in line["reasons"]]
    for name, row in line["figures"].items():
        shown = ["  -  " if row[key] is None else f"{row[key]:.4f}" for key in ("original", "reproduced")]
        note = "" if row["judged"] else ", too few to judge"
        lines.append(f"  {name:<12} mAP50 {shown[0]} -> {shown[1]}  ({row['boxes']} boxes{note})")
    return "\n".join(lines)
