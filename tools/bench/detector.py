"""`bench detector`: from a 1280x720 frame to boxes, beside a bare run of the same graph and the peers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.perception.detector import Detector, DetectorOptions, StageTimes
from edge.perception.letterbox import Letterbox
from tools.bench import contenders
from tools.bench.contenders import Finder, Picture, Task, UnavailableError
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import Contender, Difference, Spread, interleave
from tools.bench.subject import FRAME_SIZE, Subject, default_model, load_pictures, load_subject

TARGET_MS = 3.0
FLOOR, DETECTOR = "floor: bare session.run", "detector"
PLAIN = "plain loop, OpenCV + ONNX Runtime"
RAW_FLOOR = "bare session.run, raw export"
STAGES = ("preprocess", "inference", "postprocess")

Progress = Callable[[int, int], None]


def bench_detector(
    model: Path | None,
    raw: Path | None,
    pictures: str | None,
    size: int | None,
    rounds: int,
    threads: int,
    progress: Progress = lambda done, of: None,
) -> Report:
    """Measure the detector, its floor and the peers in interleaved rounds.

    Args:
        model: a model file or a checkpoint; the shipped baseline unless given.
        raw: the raw export of the same weights, which peers need; made here from a checkpoint.
        pictures: a source of pictures; simulated drives unless given.
        size: side of the input that a checkpoint is exported at.
        rounds: how often each is timed.
        threads: of one inference.
        progress: told how many rounds are done.

    Raises:
        TrafficVisionError: the model, the export or the pictures cannot be used.
    """
    images = load_pictures(pictures)
    with tempfile.TemporaryDirectory() as folder:
        subject = load_subject(model or default_model(), raw, size, images, Path(folder))
        return _measure(subject, images, pictures or "simulated drives", rounds, threads, progress)


def _measure(
    subject: Subject,
    images: Sequence[Picture],
    pictures: str,
    rounds: int,
    threads: int,
    progress: Progress,
) -> Report:
    model = subject.model
    detector = Detector(model, DetectorOptions(threads=threads))
    metadata = model.metadata
    task = Task(model.input_hw, metadata.layout, metadata.score_threshold, metadata.iou_threshold, threads)
    stages: list[StageTimes] = []

    def detect(picture: Picture) -> int:
        found = detector.detect(picture)
        stages.append(found.stage_ns)
        return len(found.boxes)

    peers, missing = _peers(subject.raw, task)
    paths: dict[str, Finder] = {DETECTOR: detect, PLAIN: contenders.plain_loop(model, task), **peers}
    found = {name: sum(path(image) for image in images) for name, path in paths.items()}
    floors = {FLOOR: contenders.floor(model.data, _ready(images, task), threads)}
    if subject.raw is not None:
        ready = [contenders.planes(contenders.letterboxed(image, task.input_hw)[0]) for image in images]
        floors[RAW_FLOOR] = contenders.floor(subject.raw.read_bytes(), ready, threads)
    # The detector runs next to its floor, so that what disturbs the one is likely to disturb the other.
    turns = {FLOOR: floors.pop(FLOOR), **{name: _on(path, images) for name, path in paths.items()}, **floors}
    own_threads = cv2.getNumThreads()
    cv2.setNumThreads(max(threads, 1))
    try:
        times = interleave(turns, rounds, progress=progress)
    finally:
        cv2.setNumThreads(own_threads)
    return _report(subject, times, stages[-rounds:], found, missing, pictures, len(images), threads)


def _ready(images: Sequence[Picture], task: Task) -> list[Any]:
    ready = []
    for image in images:
        box = Letterbox.between(image.shape[:2], task.input_hw)
        ready.append(box.apply(image, np.empty((*task.input_hw, 3), np.uint8))[None])
    return ready


def _on(path: Finder, images: Sequence[Picture]) -> Contender:
    return lambda number: path(images[number % len(images)])


def _peers(raw: Path | None, task: Task) -> tuple[dict[str, Finder], dict[str, str]]:
    """Those that can take part, and the others with the reason."""
    makers: dict[str, Callable[[Path, Task], Finder]] = {
        "plain loop, raw export": contenders.plain_raw_loop,
        "ultralytics (its own threads)": contenders.ultralytics,
        "OpenCV dnn, raw export": contenders.opencv_dnn,
        "OpenVINO f32, raw export": contenders.openvino_f32,
    }
    peers: dict[str, Finder] = {}
    missing: dict[str, str] = {}
    for name, maker in makers.items():
        try:
            if raw is None:
                raise UnavailableError("needs the raw export: give --raw, or a .pt as --model")
            peers[name] = maker(raw, task)
        except UnavailableError as error:
            missing[name] = str(error)
    return peers, missing


def _report(
    subject: Subject,
    times: dict[str, list[float]],
    stages: Sequence[StageTimes],
    found: dict[str, int],
    missing: dict[str, str],
    pictures: str,
    picture_count: int,
    threads: int,
) -> Report:
    model = subject.model
    floor_times = times[FLOOR]
    floor = Spread.of(floor_times)
    entries: list[dict[str, Any]] = []
    rows: list[tuple[str | float | None, ...]] = []
    for name, spent in times.items():
        spread = Spread.of(spent)
        over = Difference.between(spent, floor_times)
        ratio = spread.p50 / floor.p50
        entries.append(
            {
                "name": name,
                **spread.to_json("ms"),
                "over_floor_ms": round(over.median, 3),
                "over_floor_95_ms": [round(over.low, 3), round(over.high, 3)],
                "p50_ratio_to_floor": round(ratio, 4),
                "boxes": found.get(name),
            }
        )
        boxes = "" if name not in found else str(found[name])
        interval = f"{over.low:+.1f} to {over.high:+.1f}"
        rows.append((name, spread.min, spread.p50, spread.p99, ratio, over.median, interval, boxes))
    entries += [{"name": name, "not_measured": reason} for name, reason in missing.items()]
    staged = {name: Spread.of([getattr(each, name) / 1e6 for each in stages]) for name in STAGES}
    height, width = model.input_hw
    measured = next(entry for entry in entries if entry["name"] == DETECTOR)
    low, high = measured["over_floor_95_ms"]
    notes = [f"not measured: {name}: {reason}" for name, reason in missing.items()]
    if low <= TARGET_MS < high:
        notes.append(f"the verdict is open: the interval {low:+.1f} to {high:+.1f} ms holds the target")
    figures = {
        "model": f"{model.metadata.name} {model.metadata.version}",
        "model_sha256": model.digest,
        "precision": model.metadata.precision,
        "input_hw": [height, width],
        "frame_hw": [FRAME_SIZE[1], FRAME_SIZE[0]],
        "pictures": pictures,
        "picture_count": picture_count,
        "threads": threads,
        "rounds": len(floor_times),
        "contenders": entries,
        "detector_stages": {name: spread.to_json("ms") for name, spread in staged.items()},
    }
    title = (
        f"{figures['model']} ({model.metadata.precision}) at {height}x{width}, {picture_count} pictures of"
        f" {FRAME_SIZE[0]}x{FRAME_SIZE[1]}, {len(floor_times)} rounds, {threads} threads"
    )
    stage_rows = [(name, spread.min, spread.p50, spread.p99) for name, spread in staged.items()]
    columns = ("ms", "min", "p50", "p99", "ratio", "over floor", "95 %", "boxes")
    return Report(
        bench="detector",
        figures=figures,
        targets=[
            Target(
                f"detector over bare session.run at {height}x{width}, ms",
                measured["over_floor_ms"],
                TARGET_MS,
            )
        ],
        tables=[Table(title, columns, rows), Table("within the detector", columns[:4], stage_rows)],
        notes=notes,
    )
