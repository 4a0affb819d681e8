"""Training goes through real Ultralytics, on pictures drawn here."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.pipeline.training import EpochReport, TrainingError, TrainingPlan, portable_checkpoint, train
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


def test_missing_data_is_said_before_anything_else(tmp_path: Path) -> None:
    plan = TrainingPlan("yolov8n.yaml", tmp_path / "no.yaml", tmp_path, "one")
    with pytest.raises(TrainingError, match=r"no\.yaml is missing"):
        train(plan)
