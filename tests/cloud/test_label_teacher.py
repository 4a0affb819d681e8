"""The teacher: what it is sure of is a label, what it doubts goes on, and it looks at a picture once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from cloud.config import TeacherConfig
from cloud.labeling import LabelServiceError, UnlabeledSample
from cloud.labeling import teacher as module
from cloud.labeling.teacher import BLIND, EMPTY, UNSURE, TeacherService
from cloud.pipeline.detecting import Found, open_detector
from cloud.pipeline.ultralytics_boundary import WeightsError
from edge.perception.model_file import read_model_file
from tests.extras import needs_ultralytics
from tests.label_contract import check_source, samples, settings, suggestion, surroundings
from tests.retrains import red_picture
from tools.drives.light import light
from tools.drives.render import render

MODELS = Path(__file__).resolve().parents[2] / "models"


class Models:
    """Stand-ins for detectors: what each finds, by the picture's number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.finds: dict[str, dict[int, list[Found] | None]] = {}
        self.names: dict[str, tuple[str, ...]] = {}
        self.looked: list[str] = []
        self._folder = folder
        self._numbers = {red_picture(number): number for number in range(30)}
        monkeypatch.setattr(module, "open_detector", self._open)

    def add(
        self,
        name: str,
        finds: dict[int, list[Found] | None],
        names: Sequence[str] = ("car", "person", "traffic sign"),
    ) -> str:
        path = self._folder / f"{name}.pt"
        path.write_bytes(name.encode())
        self.finds[path.name], self.names[path.name] = finds, tuple(names)
        return str(path)

    def _open(self, weights: Path, imgsz: int, least: float, device: str | None) -> Any:
        models, finds = self, self.finds[weights.name]

        class Stand:
            class_names = models.names[weights.name]

            def detect(self, jpegs: Sequence[bytes]) -> list[list[Found] | None]:
                numbers = [models._numbers[jpeg] for jpeg in jpegs]
                models.looked += [f"{weights.stem} {number}" for number in numbers]
                return [finds.get(number, []) for number in numbers]

        return Stand()


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Models:
    return Models(monkeypatch, tmp_path)


def config(folder: Path, *checkpoints: str, **fields: Any) -> TeacherConfig:
    labels = settings(folder, services=["teacher"], teacher={"models": list(checkpoints), **fields})
    return labels.teacher


CAR = (10.0, 10.0, 30.0, 30.0, 0.9, "car")
PERSON = (50.0, 10.0, 60.0, 40.0, 0.8, "Person")


def test_sure_boxes_are_labels_and_one_in_doubt_sends_the_picture_on(models: Models, tmp_path: Path) -> None:
    weak = (70.0, 40.0, 80.0, 50.0, 0.4, "car")
    faint = (1.0, 1.0, 5.0, 5.0, 0.1, "car")
    chair = (60.0, 40.0, 80.0, 60.0, 0.9, "chair")
    finds: dict[int, list[Found] | None] = {
        0: [CAR, PERSON, faint, chair],
        1: [CAR, weak],
        2: [faint],
        3: None,
    }
    teacher = models.add("one", finds, ("car", "person", "traffic sign", "chair"))
    around = surroundings(tmp_path)
    asked = samples(around, 4)
    answers = check_source(lambda: TeacherService(config(tmp_path, teacher), around), asked)
    sure, doubted, empty, broken = sorted(answers, key=lambda answer: answer.sample_id)
    assert sure.labels is not None
    assert [(box.x1, box.category) for box in sure.labels.boxes] == [(10, "car"), (50, "pedestrian")]
    assert doubted.refusal == UNSURE and doubted.suggested_by == teacher
    assert [(each.box.x1, round(each.score, 2)) for each in doubted.suggestions] == [(10, 0.9), (70, 0.4)]
    assert empty.refusal == EMPTY and broken.refusal == "picture does not decode"
    trusting = TeacherService(config(tmp_path, teacher, trust_empty=True), around)
    assert next(iter(trusting.label(asked[2:3]))).labels is not None
    # Another threshold, another process: no model looks again.
    assert models.looked == [f"one {number}" for number in range(4)]
    laxer = TeacherService(config(tmp_path, teacher, confidence=0.3), around)
    (accepted,) = laxer.label(asked[1:2])
    assert accepted.labels is not None and len(models.looked) == 4


def test_an_ensemble_labels_what_enough_of_it_agrees_on(models: Models, tmp_path: Path) -> None:
    near = (11.0, 10.0, 31.0, 30.0, 0.7, "car")
    sign = (80.0, 5.0, 90.0, 15.0, 0.9, "traffic sign")
    one = models.add("one", {0: [CAR], 1: [CAR, PERSON], 2: [CAR, sign]})
    two = models.add("two", {0: [near], 1: [near], 2: [near]}, ("car", "person"))
    around = surroundings(tmp_path)
    asked = samples(around, 3)
    both, half, known_to_one = TeacherService(config(tmp_path, one, two), around).label(asked)
    assert both.labels is not None
    (box,) = both.labels.boxes
    assert box.x1 == pytest.approx(10 + 0.7 / 1.6) and box.category == "car"
    assert half.refusal == UNSURE and len(half.suggestions) == 2
    # The second model has no say in signs.
    assert known_to_one.labels is not None and len(known_to_one.labels.boxes) == 2
    laxer = TeacherService(config(tmp_path, one, two, agreement=0.5), around)
    assert [answer.labels is not None for answer in laxer.label(asked)] == [True, True, True]


def test_a_class_that_no_teacher_knows_must_be_accepted_and_goes_to_people(
    models: Models, tmp_path: Path
) -> None:
    teacher = models.add("coco", {number: [CAR] for number in range(2)}, ("car", "person"))
    around = surroundings(tmp_path)
    asked = samples(around, 2)
    asked[1] = replace(asked[1], suggestions=(suggestion(1, 1, 9, 9, "traffic sign"),))
    with pytest.raises(LabelServiceError, match="knows 'traffic sign', which the model detects"):
        list(TeacherService(config(tmp_path, teacher), around).label(asked))
    accepting = config(tmp_path, teacher, unknown_classes=["traffic_sign"])
    plain, with_a_sign = TeacherService(accepting, around).label(asked)
    assert plain.labels is not None and with_a_sign.refusal == BLIND
    assert [each.box.category for each in with_a_sign.suggestions] == ["car", "traffic sign"]


def test_a_checkpoint_that_is_none_is_told(tmp_path: Path) -> None:
    around = surroundings(tmp_path)
    with pytest.raises(WeightsError, match=r"missing\.pt: there is no such checkpoint"):
        TeacherService(config(tmp_path, "./missing.pt"), around)


@needs_ultralytics
def test_a_real_checkpoint_labels_a_drive_by_day(tmp_path: Path) -> None:
    names = read_model_file(MODELS / "baseline.onnx").metadata.class_names
    around = surroundings(tmp_path, class_names=names)
    drawn = [render(7, seconds, light("noon"), (320, 192)) for seconds in (20.0, 24.0)]
    keys = around.objects.put_all([cv2.imencode(".jpg", each.image)[1].tobytes() for each in drawn])
    asked = [
        UnlabeledSample(number, key, 320, 192, "sim:7", "drive", "", 0, f"car-1/{number}")
        for number, key in enumerate(keys)
    ]
    broken = replace(asked[0], id=9, object_key=around.objects.put(b"\xff\xd8no picture\xff\xd9"))
    teacher = config(
        tmp_path, str(MODELS / "baseline.pt"), imgsz=320, confidence=0.05, floor=0.05, device="cpu"
    )
    answers = check_source(lambda: TeacherService(teacher, around), [*asked, broken])
    by_id = {answer.sample_id: answer for answer in answers}
    assert by_id[9].refusal == "picture does not decode"
    for each, sample in zip(drawn, asked, strict=True):
        labels = by_id[sample.id].labels
        assert labels is not None
        assert {box.category for box in labels.boxes} & {box.label for box in each.boxes}
    other = tmp_path / "broken.pt"
    other.write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError, match="no checkpoint that Ultralytics can read"):
        open_detector(other, 320, 0.05)
