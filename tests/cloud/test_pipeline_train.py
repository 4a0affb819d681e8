"""Stage train through real Ultralytics: a candidate comes out, a killed training goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.pipeline.errors import PipelineError
from cloud.pipeline.job import Pipeline, StageEvent
from cloud.pipeline.reproducing import recipe_of, reproduce
from cloud.pipeline.resuming import TRAINING, discard_broken_training
from cloud.pipeline.running import run_stage
from cloud.pipeline.tracking import Tracking
from cloud.pipeline.training_record import RECORD
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
from tests.retrains import HW, SETTINGS, begin, blind_model, make_version, retrain_cloud
from tests.sure_nets import sure_checkpoint

pytestmark = needs_ultralytics
EPOCHS = SETTINGS.replace("epochs = 1", "epochs = 2")
# So little that an untrained net stays as sound as it was.
CAREFUL = f"{SETTINGS}learning_rate = 0.00001\n"


def give_checkpoint(pipeline: Pipeline, folder: Path) -> None:
    """Put a real checkpoint under the baseline."""
    key = pipeline.objects.put(sure_checkpoint(folder / "start.pt").read_bytes())
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
        # The second time it trains the second epoch, and dies when the model file is made.
        killed(tmp_path, pipeline, "train", run_id, "cloud.pipeline.stages.train:assembled")
        line = run_stage(pipeline, "train", run_id)
        assert not [event.facts["epoch"] for event in events if "epoch" in event.facts]
        assert line["attempt"] == 3 and line["dataset"] == "v2"
        assert (line["architecture"], line["epochs"], line["stopped_early"]) == ("yolov8n", 2, False)
        assert line["parity"]["pictures"] == 2 and line["batches"] == [4]
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
        # And what made it, so that it can be made again.
        record = candidate.facts[RECORD]
        assert record["config"]["epochs"] == 2 and record["resumed_after"] == [1]
        assert pipeline.objects.exists(record["start_key"]) and record["environment"]["torch"]
        # What went in is on record.
        tracking = Tracking(pipeline.config.folders.mlruns)
        recorded = tracking._client.get_run(run.mlflow_run_id)
        assert recorded.data.params["dataset_version"] == "v2"
        assert recorded.data.params["dataset_dvc_md5"] == dataset.dvc_md5
        assert recorded.data.params["code_commit"] == run.code_commit
        history = tracking._client.get_metric_history(run.mlflow_run_id, "val.map50")
        assert [metric.step for metric in history] == [1, 2]
        assert {"val.map50", "val.map50_95", "train.box_loss", "learning_rate", "batch"} <= set(
            recorded.data.metrics
        )
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


@pytest.mark.services
def test_a_model_is_made_again_bit_for_bit_and_else_by_figures(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path, settings=CAREFUL) as pipeline:
        give_checkpoint(pipeline, tmp_path)
        run_id = make_version(pipeline)
        run_stage(pipeline, "train", run_id)
        recipe = recipe_of(pipeline, run_id)
        line = reproduce(pipeline, recipe, 0.02)
        assert (line["state"], line["reasons"], line["figures"]) == ("identical", [], {})
        assert line["checkpoint"] == line["original_checkpoint"]
        assert not list((pipeline.config.folders.work / "reproduce").glob("*/*.pt"))

        other = recipe.config.model_copy(update={"learning_rate": 1e-6})
        line = reproduce(pipeline, replace(recipe, config=other), 1.0)
        assert line["state"] == "alike" and line["checkpoint"] != line["original_checkpoint"]
        assert set(line["figures"]) == {"(all)", "daytime", "night"} and line["reasons"]


@pytest.mark.services
@pytest.mark.parametrize("architecture", ["yolo11n", "yolo26n"])
def test_another_architecture_begins_from_its_weights(tmp_path: Path, architecture: str) -> None:
    weights = tmp_path / f"{architecture}.pt"
    settings = f'{CAREFUL}model = "{architecture}"\nweights = "../{weights.name}"\n'
    sure_checkpoint(weights, architecture)
    with retrain_cloud(tmp_path, settings=settings) as pipeline:
        give_checkpoint(pipeline, tmp_path)
        run_id = make_version(pipeline)
        line = run_stage(pipeline, "train", run_id)
        assert line["architecture"] == architecture and line["parity"]["pictures"] > 0
        with pipeline.store.reading() as session:
            candidate = session.get_one(Candidate, line["candidate"])
        model = read_model_file(pipeline.objects.path(candidate.object_key))
        assert Detector(model, DetectorOptions(threads=1)).detect(model.metadata.golden[0].image()).boxes.size


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    settings = f'{SETTINGS}model = "yolo11n"\nweights = "../other.pt"\n'
    sure_checkpoint(tmp_path / "other.pt", "yolov8n")
    with retrain_cloud(tmp_path, settings=settings) as pipeline:
        give_checkpoint(pipeline, tmp_path)
        run_id = make_version(pipeline)
        with pytest.raises(PipelineError, match=r"other\.pt is a yolov8n, and training\.model is yolo11n"):
            run_stage(pipeline, "train", run_id)
