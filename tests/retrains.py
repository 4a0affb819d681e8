"""What the tests of the retrain pipeline share: a cloud with a baseline, samples and their labels."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cloud.config import CloudConfig
from cloud.datasets import Box, DatasetWriter, LabeledImage
from cloud.fleet.ingest import Ingest, Upload
from cloud.labeling import Answer, Labels, UnlabeledSample
from cloud.pipeline.baseline import Baseline, take_baseline
from cloud.pipeline.job import Listener, Pipeline
from cloud.pipeline.opening import opened
from cloud.pipeline.running import run_stage
from cloud.pipeline.runs import begin_run
from cloud.pipeline.tracking import Tracking
from cloud.release.keys import create_keys
from cloud.release.repository import create_repository
from cloud.store.models import Candidate, DriftEvent, Run, StageRecord, Verdict
from cloud.store.states import StageState, VerdictKind
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests import models_factory as factory
from tests.clouds import make_cloud

VEHICLE = "car-1"
HW = (64, 96)
RED = Box(10, 10, 40, 50, "red")
# Small holdouts that judge all the same; one worker, no rest.
SETTINGS = """
[trigger]
min_samples = 2
cool_down_s = 0
[dataset]
val_share = 0.0
test_share = 0.0
[gate]
min_boxes = 1
min_drives = 2
resamples = 100
targets = ["night"]
holdout = ["../holdout"]
[gate.hardware]
rounds = 0
[gate.behaviour]
pictures = 0
[training]
imgsz = 64
epochs = 1
batch = 4
threads = 1
device = "cpu"
"""


class Scripted:
    """A labelling service that answers from a table: by the sample's picture; None: not yet."""

    name = "scripted"

    def __init__(self, answers: Mapping[str, Labels | str | None]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    def label(self, samples: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        for sample in samples:
            self.asked.append(sample.picture)
            answer = self.answers.get(sample.picture, night(RED))
            if isinstance(answer, Labels):
                yield Answer(sample.id, answer)
            elif answer is not None:
                yield Answer(sample.id, None, answer)


def night(*boxes: Box, drive: str = "") -> Labels:
    return Labels(boxes, {"timeofday": "night"}, drive)


def red_picture(number: int) -> bytes:
    """A picture of a red rectangle (`RED`) on a ground that is no other number's."""
    ground = np.random.default_rng(number).integers(0, 90, (8, 9, 1), dtype=np.uint8)
    image = np.kron(ground, np.ones((HW[0] // 8, HW[1] // 9 + 1, 3), np.uint8))[:, : HW[1]]
    image[int(RED.y1) : int(RED.y2), int(RED.x1) : int(RED.x2)] = factory.BGR["red"]
    return factory.jpeg(np.ascontiguousarray(image))


def write_data(folder: Path, drives: Sequence[str], light: str, first: int, each: int = 2) -> Path:
    """Labelled red rectangles: the last drive is for validation."""
    with DatasetWriter(folder, factory.NAMES) as writer:
        for place, drive in enumerate(drives):
            for number in range(each):
                image = LabeledImage(
                    f"{drive}-{number}.jpg", None, HW[1], HW[0], (RED,), {"timeofday": light}, drive
                )
                side = "val" if place == len(drives) - 1 else "train"
                writer.add(image, red_picture(first + place * each + number), side)
    return folder


def make_retrain_cloud(folder: Path, settings: str = SETTINGS) -> CloudConfig:
    """A cloud with keys, a repository, MLflow's database and a holdout of four drives, day and night."""
    config = make_cloud(folder / "cloud", VEHICLE, extra=settings)
    create_repository(config.folders.repository, create_keys(config.folders.keys))
    shutil.copyfile(mlflow_template(), config.folders.mlruns)
    holdout = folder / "holdout"
    with DatasetWriter(holdout, factory.NAMES) as writer:
        for number in range(8):
            light = "night" if number % 2 else "daytime"
            image = LabeledImage(
                f"{number}.jpg", None, HW[1], HW[0], (RED,), {"timeofday": light}, f"hold{number // 2}"
            )
            writer.add(image, red_picture(9000 + number))
    return config


def blind_model(**fields: Any) -> bytes:
    """A model file that finds a red thing where there is none: any other is better."""
    fields.setdefault("class_names", factory.NAMES)
    fields.setdefault("golden", ())
    return factory.constant_model([[80, 55, 8, 8, 0, 0, 0.9]], HW, **fields)


def add_baseline(pipeline: Pipeline, folder: Path, model: bytes | None = None) -> None:
    """Red rectangles by day, three drives; the checkpoint is none that could be trained."""
    model_path, checkpoint = folder / "baseline.onnx", folder / "baseline.pt"
    model_path.write_bytes(model if model is not None else blind_model())
    checkpoint.write_bytes(b"a checkpoint")
    data = write_data(folder / "old", ("old1", "old2", "old3"), "daytime", first=0)
    target = pipeline.config.folders.data
    template = _baseline_data_template()
    if pipeline.config.dataset.remote is None and template.exists() and not any(target.iterdir()):
        shutil.copytree(template, target, dirs_exist_ok=True)
    take_baseline(pipeline, Baseline(model_path, checkpoint, data))
    if pipeline.config.dataset.remote is None and not template.exists():
        shutil.copytree(target, template, ignore=shutil.ignore_patterns("tmp"))


def add_samples(
    pipeline: Pipeline,
    pictures: Mapping[str, bytes],
    drive: str = "new1",
    drive_ns: Sequence[int] = range(0, 10**12, 10**8),
) -> None:
    """Ingest samples of one drive, by picture; each is of the drift event `event-1`."""
    uploads = [
        Upload(VEHICLE, a_sample(f"{drive}-{number}", jpeg, drive, picture, drive_ns[number]))
        for number, (picture, jpeg) in enumerate(pictures.items())
    ]
    config = pipeline.config
    answers = Ingest(pipeline.store, pipeline.objects, config.limits, config.quotas).commit(uploads)
    assert {answer.outcome for answer in answers} == {fleet.UPLOAD_OUTCOME_STORED}, answers


def a_sample(identity: str, jpeg: bytes, drive: str, picture: str, drive_ns: int) -> fleet.Sample:
    return fleet.Sample(
        id=identity,
        jpeg=jpeg,
        jpeg_sha256=hashlib.sha256(jpeg).hexdigest(),
        frame=common.FrameRef(camera="front", width_px=HW[1], height_px=HW[0]),
        source=fleet.SampleSource(id="test:drive", drive_id=drive, picture=picture, drive_ns=drive_ns),
        reasons=[fleet.SAMPLE_REASON_DRIFT],
        priority=0.5,
        drift_event_id="event-1",
    )


def add_drift_event(pipeline: Pipeline) -> None:
    with pipeline.store.writing() as session:
        features = [{"name": "brightness", "ks_d": 0.93}]
        event = DriftEvent(vehicle=VEHICLE, external_id="event-1", camera="front", verdict="alarm")
        event.previous, event.features, event.message = "stable", features, b""
        session.add(event)


@contextmanager
def retrain_cloud(
    folder: Path,
    answers: Mapping[str, Labels | str | None] | None = None,
    *,
    settings: str = SETTINGS,
    samples: int = 4,
    listen: Listener = lambda _: None,
    baseline: bytes | None = None,
) -> Iterator[Pipeline]:
    """A cloud with a baseline and samples `0.jpg`, `1.jpg`... of one drive by night."""
    config = make_retrain_cloud(folder, settings)
    with opened(config, listen, Scripted(answers or {})) as pipeline:
        add_baseline(pipeline, folder, baseline)
        if samples:
            add_samples(pipeline, {f"{number}.jpg": red_picture(100 + number) for number in range(samples)})
        add_drift_event(pipeline)
        yield pipeline


def begin(pipeline: Pipeline) -> str:
    return begin_run(pipeline, {"by": "hand", "why": "a test"})


def make_version(pipeline: Pipeline) -> str:
    """A retrain up to its dataset version; gives the retrain's id."""
    run_id = begin(pipeline)
    for stage in ("label", "purity", "dataset"):
        run_stage(pipeline, stage, run_id)
    return run_id


def as_if_trained(pipeline: Pipeline, run_id: str, model: bytes) -> str:
    """Put a candidate in the place of a training's."""
    loaded = factory.loaded(model)
    key = pipeline.objects.put(model)
    tracking = Tracking(pipeline.config.folders.mlruns)
    mlflow_id = tracking.begin(run_id, {}, {})
    tracking.register(loaded.digest, pipeline.objects.path(key), mlflow_id, {})
    with pipeline.store.writing() as session:
        session.add(
            Candidate(
                sha256=loaded.digest,
                run_id=run_id,
                name=loaded.metadata.name,
                version=loaded.metadata.version,
                object_key=key,
                facts={"class_names": list(loaded.metadata.class_names)},
            )
        )
        session.get_one(Run, run_id).mlflow_run_id = mlflow_id
        record = StageRecord(stage="train", key=run_id, state=StageState.DONE)
        record.progress, record.result = {}, {"stage": "train"}
        session.add(record)
    return loaded.digest


def as_if_prepared(pipeline: Pipeline, run_id: str) -> None:
    """Put the stages before the training behind a retrain, where what they do does not matter."""
    with pipeline.store.writing() as session:
        for name in ("label", "purity", "dataset"):
            record = StageRecord(stage=name, key=run_id, state=StageState.DONE)
            record.progress, record.result = {}, {"stage": name}
            session.add(record)


def as_if_validated(pipeline: Pipeline, run_id: str, sha256: str, verdict: VerdictKind) -> None:
    """Put a verdict in the place of the gate's."""
    with pipeline.store.writing() as session:
        session.add(Verdict(candidate_sha256=sha256, verdict=verdict, rules=[], scores={}))
        record = StageRecord(stage="validate", key=run_id, state=StageState.DONE)
        record.progress, record.result = {}, {"stage": "validate"}
        session.add(record)


def install_plugin(folder: Path, group: str, name: str, target: str) -> Path:
    """A distribution with one entry point; its folder goes onto `sys.path`."""
    info = folder / "a_plugin-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    return folder


@lru_cache(maxsize=1)
def _baseline_data_template() -> Path:
    """Of the data repository with the baseline's data, which DVC needs seconds for: once for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="traffic-vision-data-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "template"


@lru_cache(maxsize=1)
def mlflow_template() -> Path:
    """MLflow's tables take seconds to make: once for all tests of a process."""
    folder = Path(tempfile.mkdtemp(prefix="traffic-vision-mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Tracking(folder / "template.sqlite")._client.search_experiments()
    return folder / "template.sqlite"
