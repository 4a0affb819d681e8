"""Training goes through real Ultralytics, on pictures drawn here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cloud.datasets import Box, DatasetWriter, LabeledImage
from cloud.pipeline.training import EpochReport, TrainingError, TrainingPlan, portable_checkpoint, train
from cloud.pipeline.ultralytics_boundary import import_ultralytics
from tools.drives.export import SimulationPlan, write_frames


def test_a_training_reports_its_epochs_and_is_not_repeated(tmp_path: Path) -> None:
    write_frames(SimulationPlan(1, 3, 2, 0.2, size=(128, 96), val_drives=1), tmp_path / "data")
    plan = TrainingPlan(
        "yolov8n.yaml", tmp_path / "data" / "data.yaml", tmp_path / "runs", "one", 64, 2, 4, device="cpu"
    )
    reports: list[EpochReport] = []
    best = train(plan, reports.append)
    assert best.is_file()
    assert [report.epoch for report in reports] == [1, 2]
    assert all(report.loss > 0 for report in reports)
    written = best.stat().st_mtime_ns
    reports.clear()
    assert train(plan, reports.append) == best
    assert reports == [] and best.stat().st_mtime_ns == written


def test_the_same_plan_gives_the_same_checkpoint_in_another_folder(tmp_path: Path) -> None:
    checkpoints = []
    for place in (tmp_path / "here", tmp_path / "there"):
        write_frames(SimulationPlan(1, 3, 2, 0.2, size=(128, 96), val_drives=1), place / "data")
        plan = TrainingPlan(
            "yolov8n.yaml", place / "data" / "data.yaml", place / "runs", "one", 64, 1, 4, device="cpu"
        )
        checkpoints.append(portable_checkpoint(train(plan)))
    assert checkpoints[0] == checkpoints[1]
    assert str(tmp_path).encode() not in checkpoints[0]


def first_weights(checkpoint: Path) -> list[float]:
    """The first layer's weights of a finished checkpoint."""
    import_ultralytics()
    import torch

    contents = torch.load(checkpoint, map_location="cpu", weights_only=False)
    return contents["model"].float().state_dict()["model.0.conv.weight"].flatten().tolist()


def test_a_checkpoint_is_gone_on_from(tmp_path: Path) -> None:
    write_frames(SimulationPlan(1, 3, 2, 0.2, size=(128, 96), val_drives=1), tmp_path / "data")
    data = tmp_path / "data" / "data.yaml"
    start = train(TrainingPlan("yolov8n.yaml", data, tmp_path / "a", "one", 64, 1, 4, seed=1, device="cpu"))
    (tmp_path / "start.pt").write_bytes(start.read_bytes())
    weights = {"start": first_weights(start)}
    for name, begin in (("further", str(tmp_path / "start.pt")), ("anew", "yolov8n.yaml")):
        plan = TrainingPlan(begin, data, tmp_path / name, "one", 64, 1, 4, seed=2, device="cpu")
        weights[name] = first_weights(train(plan))
    assert weights["further"] == pytest.approx(weights["start"], abs=0.02)
    assert weights["anew"] != pytest.approx(weights["start"], abs=0.02)


def test_pictures_keep_their_shape_and_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    write_frames(SimulationPlan(1, 3, 2, 0.2, size=(128, 64), val_drives=1), tmp_path / "data")
    plan = TrainingPlan(
        "yolov8n.yaml",
        tmp_path / "data" / "data.yaml",
        tmp_path / "runs",
        "one",
        128,
        2,
        4,
        device="cpu",
        learning_rate=0.001,
        rectangular=True,
        step_images=4,
        warmup_epochs=0.5,
        keep="last",
    )
    kept = train(plan)
    assert kept == (tmp_path / "runs" / "one" / "weights" / "last.pt").resolve()
    assert train(plan) == kept
    arguments = settings_of(kept)
    assert arguments["rect"] and (arguments["nbs"], arguments["warmup_epochs"]) == (4, 0.5)


def settings_of(checkpoint: Path) -> dict[str, object]:
    """The arguments that Ultralytics trained a checkpoint with."""
    import_ultralytics()
    import torch

    return torch.load(checkpoint, map_location="cpu", weights_only=False)["train_args"]


def test_pictures_of_several_shapes_cannot_keep_them(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", ("car",)) as writer:
        for number, (width, height) in enumerate([(128, 64), (128, 64), (96, 96), (96, 96)]):
            picture = cv2.imencode(".jpg", np.full((height, width, 3), 40 * number, np.uint8))[1].tobytes()
            image = LabeledImage(
                f"{number}.jpg", None, width, height, (Box(8, 8, 40, 40, "car"),), {}, f"drive-{number}"
            )
            writer.add(image, picture, "val" if number % 2 else "train")
    data = tmp_path / "data" / "data.yaml"
    plan = TrainingPlan("yolov8n.yaml", data, tmp_path, "one", 128, 1, 1, device="cpu", rectangular=True)
    with pytest.raises(TrainingError, match="2 shapes"):
        train(plan)


def test_a_class_is_carried_over_under_its_other_name(tmp_path: Path) -> None:
    write_frames(SimulationPlan(1, 3, 2, 0.2, size=(128, 96), val_drives=1), tmp_path / "data")
    data = tmp_path / "data" / "data.yaml"
    start = train(TrainingPlan("yolov8n.yaml", data, tmp_path / "a", "one", 64, 1, 4, device="cpu"))
    other = named_otherwise(start, tmp_path / "start.pt")
    plan = TrainingPlan(str(other), data, tmp_path / "b", "one", 64, 1, 4, device="cpu", learning_rate=1e-7)
    further = pedestrian_weights(train(plan), 0)
    assert further == pytest.approx(pedestrian_weights(other, 1), abs=1e-3)


def named_otherwise(checkpoint: Path, output: Path) -> Path:
    """Swap the first two classes of a checkpoint in its names, under COCO's word for the first."""
    import_ultralytics()
    import torch

    contents = torch.load(checkpoint, map_location="cpu", weights_only=False)
    names = contents["model"].names
    contents["model"].names = {**names, 0: names[1], 1: "person"}
    torch.save(contents, output)
    return output


def pedestrian_weights(checkpoint: Path, row: int) -> list[float]:
    """What the head's first scale weighs a class by."""
    import_ultralytics()
    import torch

    model = torch.load(checkpoint, map_location="cpu", weights_only=False)["model"].float()
    return model.model[-1].cv3[0][-1].weight[row].flatten().tolist()


def test_missing_data_is_said_before_anything_else(tmp_path: Path) -> None:
    plan = TrainingPlan("yolov8n.yaml", tmp_path / "no.yaml", tmp_path, "one")
    with pytest.raises(TrainingError, match=r"no\.yaml is missing"):
        train(plan)
