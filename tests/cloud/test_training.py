"""Training goes through real Ultralytics, on pictures drawn here."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_missing_data_is_said_before_anything_else(tmp_path: Path) -> None:
    plan = TrainingPlan("yolov8n.yaml", tmp_path / "no.yaml", tmp_path, "one")
    with pytest.raises(TrainingError, match=r"no\.yaml is missing"):
        train(plan)
