"""Stage train through real Ultralytics: a candidate comes out, a killed training goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud.pipeline.job import Pipeline, StageEvent
from cloud.pipeline.resuming import discard_broken_training
from cloud.pipeline.running import run_stage
from cloud.pipeline.stages.train import TRAINING
from cloud.pipeline.tracking import Tracking
from cloud.pipeline.ultralytics_boundary import import_ultralytics
from cloud.release import embedding
from cloud.store.models import Candidate, Dataset, Run
from edge.drift import Reference, fit
from edge.drift.features import NAMES as FEATURES
from edge.drift.features import ORIGINS
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import read_model_file
from tests.cloud.test_pipeline_kills import killed
from tests.extras import needs_ultralytics
from tests.models_factory import NAMES
from tests.retrains import HW, SETTINGS, begin, blind_model, retrain_cloud

pytestmark = needs_ultralytics
EPOCHS = SETTINGS.replace("epochs = 1", "epochs = 2")


def give_checkpoint(pipeline: Pipeline, folder: Path) -> None:
    """Put a real checkpoint under the baseline: untrained, and sure of what it sees: bad, but sound."""
    import_ultralytics()
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    net = DetectionModel("yolov8n.yaml", nc=len(NAMES), verbose=False)
    net.names = dict(enumerate(NAMES))
    head = net.model[-1]
    for layer in head.cv2:  # boxes of a cell or so to each side
        torch.nn.init.zeros_(layer[-1].weight)
        torch.nn.init.zeros_(layer[-1].bias)
        layer[-1].bias.data.view(4, -1)[:, 1] = 10.0
    for layer in head.cv3:
        torch.nn.init.constant_(layer[-1].bias, 4.0)  # stays sure over two epochs
    net.args = {"imgsz": 64, "task": "detect"}
    torch.save({"model": net, "train_args": {}}, folder / "start.pt")
    key = pipeline.objects.put((folder / "start.pt").read_bytes())
    with pipeline.store.writing() as session:
        candidate = session.query(Candidate).one()
        candidate.facts = {**candidate.facts, "checkpoint_key": key}


def a_prior() -> str:
    drives = [np.random.default_rng(seed).normal(size=(60, len(FEATURES))) for seed in range(3)]
    return fit(drives, 2.0, FEATURES, origins=ORIGINS, context="daytime").to_bytes().decode()


def test_a_training_that_was_killed_goes_on_and_leaves_a_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "LEAST_PICTURES", 4)
    events: list[StageEvent] = []
    champion = blind_model(drift_prior=a_prior())
    with retrain_cloud(tmp_path, settings=EPOCHS, listen=events.append, baseline=champion) as pipeline:
        give_checkpoint(pipeline, tmp_path)
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        killed(tmp_path, pipeline, "train", run_id, "epoch=1")
        line = run_stage(pipeline, "train", run_id)
        # Only the second epoch was trained here, from the first one's checkpoint.
        assert [event.facts["epoch"] for event in events if "epoch" in event.facts] == [2]
        assert line["attempt"] == 2 and line["dataset"] == "v2"
        again = run_stage(pipeline, "train", run_id)
        assert again == {**line, "already_done": True}

        with pipeline.store.reading() as session:
            candidate = session.get_one(Candidate, line["candidate"])
            run = session.get_one(Run, run_id)
            dataset = session.get_one(Dataset, "v2")
        model = read_model_file(pipeline.objects.path(candidate.object_key))
        assert model.digest == candidate.sha256 and model.metadata.version == run_id
        assert model.metadata.class_names == NAMES and model.input_hw == HW
        assert model.metadata.dataset_sha256 == dataset.sha256
        assert len(model.metadata.golden) == 2  # a picture by day, one by night
        # What it makes of a picture goes with what it finds, along the axes of what it was trained on.
        spec = model.metadata.embedding
        assert spec is not None and 1 <= spec.size <= embedding.SIZE
        image = model.metadata.golden[0].image()
        found = Detector(model, DetectorOptions(threads=1)).detect(image)
        assert found.embedding is not None and found.embedding.shape == (spec.size,)
        # What it loses by a change was measured on the holdout, and is in the bytes that are judged.
        assert line["drop"]["pictures"] == 8 and line["drop"]["classes"] == ["red"]
        drop = Reference.from_bytes((model.metadata.drift_prior or "").encode()).drop
        assert drop is not None and drop.map50 == line["drop"]["map50"]
        assert pipeline.objects.exists(candidate.facts["checkpoint_key"])
        # What went in is on record.
        tracking = Tracking(pipeline.config.folders.mlruns)
        recorded = tracking._client.get_run(run.mlflow_run_id)
        assert recorded.data.params["dataset_version"] == "v2"
        assert recorded.data.params["dataset_dvc_md5"] == dataset.dvc_md5
        assert recorded.data.params["code_commit"] == run.code_commit
        assert "val.map50" in recorded.data.metrics
        assert tracking.aliases()["challenger"] == candidate.sha256


def test_half_a_checkpoint_makes_the_training_begin_anew(tmp_path: Path) -> None:
    weights = tmp_path / TRAINING / "weights"
    weights.mkdir(parents=True)
    torch = pytest.importorskip("torch")
    torch.save({"epoch": 3}, weights / "last.pt")
    discard_broken_training(tmp_path / TRAINING)
    assert (weights / "last.pt").is_file()
    whole = (weights / "last.pt").read_bytes()
    (weights / "best.pt").write_bytes(whole[: len(whole) // 2])
    discard_broken_training(tmp_path / TRAINING)
    assert not (tmp_path / TRAINING).exists()
