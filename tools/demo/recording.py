"""From the story to the record; and what is left where there is none to be had."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from cloud.datasets.files import write_file
from cloud.pipeline.lineage import lineage, to_text
from cloud.pipeline.opening import opened
from cloud.store.models import Candidate
from edge.perception.model_file import ModelFile, read_model_file
from tools.bench.report import machine
from tools.demo.companion import Companion
from tools.demo.findings import stage_keys
from tools.demo.loop import Closed
from tools.demo.plan import Scene
from tools.demo.record import DemoRecord, ModelRecord, SwapRecord
from tools.demo.scoring import Scores
from tools.demo.story import Publication, Story


def candidate_file(companion: Companion, sha256: str) -> Path:
    """Find the file of a model that a retrain made, in the cloud's objects."""
    with opened(companion.config()) as cloud, cloud.store.reading() as session:
        return cloud.objects.path(session.get_one(Candidate, sha256).object_key)


def make_record(
    scene: Scene, story: Story, companion: Companion, closed: Closed, candidate: Path, scores: Scores
) -> DemoRecord:
    """Put everything together. The children have ended."""
    models = read_model_file(scene.baseline), read_model_file(candidate)
    return DemoRecord(
        mode=scene.mode,
        baseline=_model(models[0], scene.baseline, scores.baseline),
        candidate=_model(models[1], candidate, scores.candidate),
        gate=story.stages["validate"],
        night_from_s=scene.dusk_s,
        drift=tuple(story.drift),
        swap=swap_record(story.vehicle_log["model_swapped"], story.around_swap, story.held_until),
        frames=closed.frames,
        samples=sample_counts(story),
        timings=timings(story),
        training=tuple((epoch.loss, epoch.map50) for epoch in story.training),
        comparisons=scores.comparisons,
        edge={"peak_resident_mb": closed.peak_resident_mb},
        lineage=_lineage(companion, closed.candidate),
        machine=machine_text(),
        wall_s=story.elapsed_s(),
        train_and_evaluate=("baseline", "train", "validate", "evaluate"),
    )


def write_incomplete(folder: Path, scene: Scene, story: Story, companion: Companion, why: str) -> None:
    """Leave, in place of a report, what there is of a loop that did not close."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report.html", "baseline.onnx", "candidate.onnx"):
        (folder / name).unlink(missing_ok=True)
    document: dict[str, Any] = {
        "complete": False,
        "why": why,
        "mode": scene.mode,
        "gate": story.stages.get("validate"),
        "frames": dict(story.vehicle.frames),
        "samples": sample_counts(story),
        "timings": stage_keys(timings(story)),
        "wall": {"seconds": story.elapsed_s()},
        "training": [[epoch.loss, epoch.map50] for epoch in story.training],
        "machine": machine_text(),
    }
    write_file(folder / "report.json", json.dumps(document, indent=2))
    models = {"baseline": scene.baseline}
    if "train" in story.stages:
        models["candidate"] = candidate_file(companion, story.stages["train"]["candidate"])
    for name, path in models.items():
        if path.is_file():
            write_file(folder / f"{name}.onnx", path.read_bytes())


def swap_record(line: dict[str, Any], around: tuple[Publication, ...], held_until: int = -1) -> SwapRecord:
    """Read the swap from the daemon's log line and the publications around it.

    Args:
        line: of the log.
        around: the publications.
        held_until: up to this frame the vehicle was held back, and gaps say nothing of the swap.
    """
    before, after = line["frame_before"][2], line["frame_after"][2]
    published = {publication.sequence for publication in around}
    between = set(range(before + 1, after))
    first = next((one for one in around if one.sequence == after), None)
    return SwapRecord(
        drive_s=first.drive_s if first else 0.0,
        frame_before=before,
        frame_after=after,
        frames_lost=len(between - published),
        gap_ms=line["gap_ns"] / 1e6,
        exchange_us=line["exchange_ns"] / 1e3,
        gaps=tuple(
            (second.sequence, (second.published_ns - first.published_ns) / 1e6)
            for first, second in pairwise(around)
            if second.sequence > held_until
        ),
    )


def sample_counts(story: Story) -> dict[str, int]:
    """Count the samples by how far they came."""
    counts = story.samples
    labelled = story.stages.get("label", {}).get("labeled", counts.get("labeled", 0))
    stored = counts.get("stored", 0)
    return {
        "shipped": story.vehicle_log.get("uploaded_samples", {}).get("acknowledged", stored),
        "stored": stored,
        "labelled": labelled,
        "refused": counts.get("excluded", 0),
    }


def timings(story: Story) -> dict[str, float]:
    """Seconds of the phases, of the retrain's by its stages: nothing counts twice."""
    phases = story.phase_seconds()
    stages = {name: float(line["seconds"]) for name, line in story.stages.items()}
    if "retrain" in phases:
        phases["retrain"] = max(0.0, phases["retrain"] - sum(stages.values()))  # what it waited
    return {**phases, **stages}


def machine_text() -> str:
    """Name the machine."""
    about = machine()
    return f"{about['cpu']}, {about['cores']} cores, {about['system']}, Python {about['python']}"


def _model(model: ModelFile, path: Path, scores: Any) -> ModelRecord:
    metadata = model.metadata
    return ModelRecord(metadata.name, metadata.version, model.digest, path, scores)


def _lineage(companion: Companion, sha256: str) -> str:
    with opened(companion.config()) as cloud:
        return to_text(lineage(cloud.store, sha256))
