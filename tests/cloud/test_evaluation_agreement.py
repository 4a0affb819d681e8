"""Our evaluation against Ultralytics' own validation of the same weights, on real images.

Two things can differ: what is detected, and how it is scored. Ultralytics interpolates the precision between
recall points, where COCO's evaluation takes the step below; that alone moves mAP50 by about .003.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.datasets import Dataset, canonical, read_dataset, write_dataset
from cloud.pipeline.evaluation import Evaluation, evaluate_detections, evaluate_model_file
from tests.extras import needs_ultralytics
from tests.shared_data import shared_data

pytestmark = needs_ultralytics
# What COCO and BDD100K have in common: of one name, or of two that the alias table joins.
COMMON = {"pedestrian", "bicycle", "car", "motorcycle", "bus", "train", "truck", "traffic light"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same weights on the same images.

    Attributes:
        ours: our detector, COCO's scoring.
        mixed: Ultralytics' detections, COCO's scoring.
        theirs: Ultralytics' own box metrics.
    """

    ours: Evaluation
    mixed: Evaluation
    theirs: Any


def compare(work: Path, images: int, side: int) -> Comparison:
    """Judge COCO's YOLOv8n on every n-th of the real images."""
    from cloud.pipeline.ultralytics_boundary import import_ultralytics
    from cloud.release.assembly import AssemblyOptions
    from cloud.release.importing import import_model
    from tools.drives.golden import golden_pictures

    weights = shared_data("weights/yolov8n.pt")
    real = read_dataset(shared_data("bdd100k-mini")).images
    labelled = tuple(
        replace(image, boxes=tuple(box for box in image.boxes if box.category in COMMON))
        for image in real[:: len(real) // images][:images]
    )
    yolo = import_ultralytics().YOLO(str(weights))
    names = [canonical(name) for name in yolo.names.values()]
    write_dataset(work / "data", Dataset(labelled), names)
    import_model(weights, work / "model.onnx", golden_pictures(), AssemblyOptions(imgsz=(side, side)))
    theirs = yolo.val(
        data=str(work / "data" / "data.yaml"),
        imgsz=side,
        rect=False,
        batch=1,
        workers=0,
        device="cpu",
        plots=False,
        verbose=False,
        save_json=True,
        project=str(work),
    )
    found: dict[str, list[list[float]]] = {image.name: [] for image in labelled}
    for row in json.loads(next(work.rglob("predictions.json")).read_text()):
        x, y, width, height = row["bbox"]
        # Ultralytics counts classes from 1 in this file.
        box = [x, y, x + width, y + height, row["score"], row["category_id"] - 1]
        found[row["file_name"]].append(box)
    predictions = [np.array(rows, np.float32).reshape(-1, 6) for rows in found.values()]
    return Comparison(
        ours=evaluate_model_file(work / "model.onnx", work / "data", ["timeofday"]),
        mixed=evaluate_detections(labelled, predictions, names),
        theirs=theirs.box,
    )


def test_our_figures_are_those_of_ultralytics(tmp_path: Path) -> None:
    compared = compare(tmp_path, images=60, side=320)
    ours, mixed, theirs = compared.ours.overall, compared.mixed.overall, compared.theirs
    print(
        f"mAP50 ours {ours.map50:.4f}, Ultralytics' boxes {mixed.map50:.4f}, Ultralytics {theirs.map50:.4f}"
    )
    assert ours.map50 is not None
    assert ours.map50 > 0.1
    assert ours.map50 == pytest.approx(theirs.map50, abs=0.005)
    assert ours.map50_95 == pytest.approx(theirs.map, abs=0.005)
    assert len(ours.classes) == len(theirs.ap50)
    assert ours.map50 == pytest.approx(mixed.map50, abs=0.001)
    assert ours.map50_95 == pytest.approx(mixed.map50_95, abs=0.001)
