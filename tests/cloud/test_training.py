"""Training goes through real Ultralytics, on pictures drawn here."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cloud.datasets import Box, DatasetWriter, LabeledImage
from cloud.pipeline.training import (
    BatchReduced,
    EpochReport,
    TrainingError,
    TrainingPlan,
    is_finished,
    portable_checkpoint,
    train,
)
from cloud.pipeline.training_progress import FileSink, Watch, read_by
from cloud.pipeline.ultralytics_boundary import (
    WeightsError,
    find_weights,
    import_ultralytics,
    trainer_that_tells,
)
from tests.clouds import ROOT
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


def simulated(folder: Path) -> Path:
    write_frames(SimulationPlan(1, 3, 2, 0.2, size=(128, 96), val_drives=1), folder)
    return folder / "data.yaml"


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A device that has memory for two pictures at a time, and from the second epoch on for one.

    Gives the batches that were tried, with the epochs that they were tried in.
    """
    import_ultralytics()
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer

    tried: list[tuple[int, int]] = []
    prepare = DetectionTrainer.preprocess_batch

    def too_much(self: Any, batch: dict[str, Any]) -> dict[str, Any]:
        pictures = len(batch["img"])
        tried.append((pictures, self.epoch))
        if pictures > (2 if self.epoch == 0 else 1):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        prepared: dict[str, Any] = prepare(self, batch)
        return prepared

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", too_much)
    return tried


def test_out_of_memory_halves_the_batch_says_so_and_goes_on(
    tmp_path: Path, small_gpu: list[tuple[int, int]]
) -> None:
    reports: list[EpochReport] = []
    reduced: list[BatchReduced] = []
    plan = TrainingPlan("yolov8n.yaml", simulated(tmp_path / "data"), tmp_path, "one", 64, 2, 4, device="cpu")
    assert train(plan, reports.append, reduced.append).is_file()
    assert reduced == [BatchReduced(4, 2, 1), BatchReduced(2, 1, 2)]
    assert reduced[0].to_text() == "out of memory with a batch of 4: 2 from epoch 1 on"
    # The first epoch is not trained again for the sake of the second.
    assert [(report.epoch, report.batch) for report in reports] == [(1, 2), (2, 1)]
    assert {epoch for pictures, epoch in small_gpu if pictures == 4} == {0}


def test_memory_for_not_one_picture_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_ultralytics()
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer

    def too_much(self: Any, batch: dict[str, Any]) -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", too_much)
    plan = TrainingPlan("yolov8n.yaml", simulated(tmp_path / "data"), tmp_path, "one", 64, 1, 2, device="cpu")
    with pytest.raises(TrainingError, match="too small for a batch of 1 pictures of 64 pixels"):
        train(plan)


def test_a_device_that_is_not_there_is_told_before_the_training(tmp_path: Path) -> None:
    data = simulated(tmp_path / "data")
    plan = TrainingPlan("yolov8n.yaml", data, tmp_path, "one", 64, 1, 4, device="0,77")
    with pytest.raises(TrainingError, match="device '0,77': this machine has "):
        train(plan)
    assert not (tmp_path / "one").exists()


def test_a_training_without_progress_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_ultralytics()
    from ultralytics.models.yolo.detect import DetectionTrainer

    validate = DetectionTrainer.validate

    def as_before(self: Any) -> tuple[Any, float]:
        metrics, _ = validate(self)
        self.best_fitness = 0.5
        return metrics, 0.5

    monkeypatch.setattr(DetectionTrainer, "validate", as_before)
    reports: list[EpochReport] = []
    plan = TrainingPlan(
        "yolov8n.yaml",
        simulated(tmp_path / "data"),
        tmp_path,
        "one",
        64,
        6,
        4,
        device="cpu",
        learning_rate=1e-9,
        patience=1,
    )
    train(plan, reports.append)
    assert len(reports) == 2 and is_finished(tmp_path / "one")
    metrics = reports[0].metrics
    assert {"train.box_loss", "train.cls_loss", "val.map50_95", "learning_rate", "epoch_s"} <= set(metrics)
    assert metrics["val.map50"] == reports[0].map50


@pytest.mark.services
def test_the_processes_of_several_gpus_tell_how_far_they_are(tmp_path: Path) -> None:
    """Ultralytics' own file for such a process, run as one that is alone: there is no second GPU here."""
    import_ultralytics()
    from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

    data, told = simulated(tmp_path / "data"), tmp_path / "told.jsonl"
    watch = Watch(str(data), 1, 1, 4, False, FileSink(told))
    overrides = {"model": "yolov8n.yaml", "data": str(data), "imgsz": 64, "epochs": 1, "batch": 4}
    overrides |= {"device": "cpu", "project": str(tmp_path), "name": "one", "plots": False, "amp": False}
    trainer = trainer_that_tells(watch.fail)(overrides=overrides)
    for event, callback in watch.callbacks().items():
        trainer.add_callback(event, callback)
    file = generate_ddp_file(trainer)
    reports: list[object] = []
    try:
        with read_by(reports.append, told):
            done = subprocess.run(
                [sys.executable, file],
                capture_output=True,
                text=True,
                timeout=280,
                check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        assert done.returncode == 0, done.stderr
    finally:
        ddp_cleanup(trainer, file)
    (report,) = reports
    assert isinstance(report, EpochReport) and (report.epoch, report.batch) == (1, 4)


def test_several_gpus_without_memory_are_given_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ultralytics' launcher does, in its place: its processes tell, and it fails without their words."""
    ultralytics = import_ultralytics()
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked: list[int] = []

    def launch(self: Any, **options: Any) -> None:
        asked.append(options["batch"])
        assert options["device"] == "0,1"
        tell = FileSink(tmp_path / "one-progress.jsonl")
        if options["batch"] > 4:
            tell(EpochReport(1, 2, 0.5, 0.1, 3.0, options["batch"]))
            tell("CUDA out of memory. Tried to allocate 2.00 GiB")
            raise subprocess.CalledProcessError(1, ["torch.distributed.run"])
        if len(asked) > 3:
            raise subprocess.CalledProcessError(1, ["torch.distributed.run"])
        weights = tmp_path / "one" / "weights"
        weights.mkdir(parents=True)
        for name in ("last.pt", "best.pt"):
            torch.save({"epoch": -1}, weights / name)

    monkeypatch.setattr(ultralytics.YOLO, "train", launch)
    data = simulated(tmp_path / "data")
    plan = TrainingPlan("yolov8n.yaml", data, tmp_path, "one", 64, 2, 14, device="0,1")
    reports: list[EpochReport] = []
    reduced: list[BatchReduced] = []
    assert train(plan, reports.append, reduced.append).name == "best.pt"
    assert asked == [14, 6, 2] and [report.batch for report in reports] == [14, 6]
    assert reduced == [BatchReduced(14, 6, 2), BatchReduced(6, 2, 2)]
    with pytest.raises(TrainingError, match="a process of device '0,1' failed: see its log"):
        train(replace(plan, name="two", batch=4))
    with pytest.raises(TrainingError, match="a batch of 5 cannot be shared out among 2 GPUs"):
        train(replace(plan, name="three", batch=5))
    with pytest.raises(TrainingError, match="several GPUs train on squares alone"):
        train(replace(plan, name="three", rectangular=True))


def test_what_other_processes_tell_comes_whole_and_in_order(tmp_path: Path) -> None:
    path, heard = tmp_path / "told.jsonl", []
    reports = [
        EpochReport(1, 2, 0.5, 0.1, 3.0, 4, {"val.map50": 0.1}),
        BatchReduced(4, 2, 2),
        "out of memory",
    ]
    with read_by(heard.append, path):
        sink = FileSink(path)
        for report in reports:
            sink(report)
    assert heard == reports

    def refuse(report: object) -> None:
        raise OSError(f"no room for {report}")

    with pytest.raises(OSError, match="no room for x"), read_by(refuse, path):
        FileSink(path)("x")
    # Nor is it lost where the training fails too: that may be of the same cause.
    with pytest.raises(OSError, match="no room for x") as both, read_by(refuse, path):
        FileSink(path)("x")
        raise RuntimeError("a process failed")
    assert isinstance(both.value.__context__, RuntimeError)
    watch = Watch("data.yaml", 1, 1, 4, False, heard.append)
    watch.fail(RuntimeError("CUDA out of memory. Tried to allocate"))
    watch.fail(RuntimeError("something else"))
    assert heard[len(reports) :] == ["CUDA out of memory. Tried to allocate"]


def test_weights_that_were_downloaded_in_part_are_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_ultralytics()
    from ultralytics.utils import downloads

    def killed(target: str) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(downloads, "attempt_download_asset", killed)  # there is no network for tests
    with pytest.raises(KeyboardInterrupt):
        find_weights("yolov8n.pt")
    whole = b"the whole"
    monkeypatch.setattr(downloads, "attempt_download_asset", lambda target: Path(target).write_bytes(whole))
    assert find_weights("yolov8n.pt").read_bytes() == whole
    monkeypatch.setattr(downloads, "attempt_download_asset", lambda target: None)
    assert find_weights("yolov8n.pt").read_bytes() == whole
    with pytest.raises(WeightsError, match="neither a file nor weights that Ultralytics publishes"):
        find_weights("yolov8x.pt")


def test_missing_data_is_said_before_anything_else(tmp_path: Path) -> None:
    plan = TrainingPlan("yolov8n.yaml", tmp_path / "no.yaml", tmp_path, "one")
    with pytest.raises(TrainingError, match=r"no\.yaml is missing"):
        train(plan)
