"""`bench purity` on drawn data: what it plants, what it counts; no figure is held to anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloud.config import PurityRules
from cloud.datasets import Box, Dataset, DatasetWriter, LabeledImage, read_dataset
from cloud.datasets.sides import read_sides
from cloud.pipeline.purity import drives_on_both_sides
from cloud.pipeline.purity.findings import Finding, Kind, judge
from tests import models_factory as factory
from tests.labelled import scene
from tools.bench.purity.planting import NOTHING, Plan, new_name, plant
from tools.bench.purity.run import count_found, rank
from tools.bench.rounds import BenchError
from tools.cli import root

PLAN = Plan(seed=1, shuffled_share=0.2, duplicates=10)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "data"
    with DatasetWriter(folder) as writer:
        for number in range(40):
            boxes = (Box(10 + number, 10, 40 + number, 50, "car"), Box(60, 60, 90, 90 + number % 5, "bus"))
            image = LabeledImage(
                f"{number}.jpg", None, None, None, boxes, {"timeofday": "night"}, f"d{number}"
            )
            writer.add(image, scene(number, size=(160, 96)))
    return folder


def test_what_is_planted_is_there_and_the_rest_is_as_it_was(data: Path, tmp_path: Path) -> None:
    dataset = read_dataset(data)
    planted = plant(tmp_path / "bad", dataset, PLAN)
    bad = read_dataset(tmp_path / "bad")
    sides = read_sides(tmp_path / "bad", bad)
    images = {image.name: image for image in bad.images}
    assert len(images) == 50 and bad.refusals == ()
    assert len(planted.shuffled) == len(planted.orphans) == 16
    torn = drives_on_both_sides((image.drive, sides[image.name][0]) for image in bad.images)
    assert torn.keys() == planted.leaked and len(planted.leaked) == 1
    for image in dataset.images:
        for place, box in enumerate(image.boxes):
            now = images[image.name].boxes[place]
            corners = [(one.x1, one.y1, one.x2, one.y2) for one in (box, now)]
            if (image.name, place) in planted.shuffled:
                assert (image.name, pytest.approx(corners[0])) in planted.orphans
            else:
                assert corners[1] == pytest.approx(corners[0])
            renamed = box.category == planted.renamed_class
            assert now.category == (new_name(box.category) if renamed else box.category)
            assert renamed == ((image.name, place) in planted.renamed)
    assert len(planted.duplicates) == 10 and len(planted.across) == 5
    for copy, original in planted.duplicates.items():
        assert (sides[copy] != sides[original]) == (copy in planted.across)
    again = plant(tmp_path / "again", dataset, PLAN)
    assert again == planted
    assert read_dataset(tmp_path / "again").images[5].boxes == bad.images[5].boxes
    assert plant(tmp_path / "other", dataset, Plan(2, 0.2, 10)) != planted


def test_nothing_may_be_planted_and_too_much_is_refused(data: Path, tmp_path: Path) -> None:
    dataset = read_dataset(data)
    nothing = plant(tmp_path / "same", dataset, NOTHING)
    assert not (nothing.shuffled or nothing.renamed or nothing.duplicates or nothing.leaked)
    with pytest.raises(BenchError, match="too few for 99 duplicates"):
        plant(tmp_path / "many", dataset, Plan(duplicates=99))
    with pytest.raises(BenchError, match="too few to leak a drive"):
        plant(tmp_path / "few", Dataset(dataset.images[:3]), PLAN)
    with pytest.raises(BenchError, match="no class has 30 boxes"):
        plant(tmp_path / "classes", Dataset(dataset.images[:20]), Plan(leak=False))


def test_finds_are_counted_against_what_was_planted(data: Path, tmp_path: Path) -> None:
    planted = plant(tmp_path / "bad", read_dataset(data), PLAN)
    images = {image.name: image for image in read_dataset(tmp_path / "bad").images}
    (name, place), *_ = sorted(planted.shuffled)
    copy, original = sorted(planted.duplicates.items())[0]
    orphan = planted.orphans[0]
    torn = next(image for image in images.values() if image.drive in planted.leaked)
    right = next(iter({(n, p) for n in images for p in (0, 1)} - planted.shuffled))
    findings = [
        Finding(Kind.DOUBT, (name,), "", "badly located", place, score=0.9),
        Finding(Kind.DOUBT, (right[0],), "", "badly located", right[1], score=0.8),
        Finding(Kind.DOUBT, (orphan[0],), "", "overlooked", None, orphan[1], 0.7),
        Finding(Kind.DUPLICATE, (copy, original), "", ""),
        Finding(Kind.DUPLICATE, (original, "0.jpg"), "", ""),
        Finding(Kind.DRIVE, (torn.name,), "", ""),
    ]
    report = judge(findings, {}, PurityRules())
    counted = {one.kind: (one.planted, one.found, one.false) for one in count_found(report, images, planted)}
    assert counted == {
        "boxes that were shuffled": (16, 1, 1),
        "objects that lost their label so": (16, 1, 0),
        "boxes of a renamed class": (len(planted.renamed), 0, 0),
        "duplicates": (10, 1, 1),
        "leaked drives": (1, 1, 0),
    }
    ranking = rank(report.of_kind(Kind.DOUBT), planted)
    assert (ranking.length, ranking.average_precision) == (2, pytest.approx(1 / 16))


def test_the_command_tells_a_table(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(
        factory.constant_model([[80, 55, 8, 8, 0, 0, 0.9]], (64, 96), class_names=factory.NAMES)
    )
    arguments = [
        "bench",
        "purity",
        "--data",
        str(data),
        "--model",
        str(model),
        "--duplicates",
        "5",
        "--batches",
        "2",
    ]
    done = CliRunner().invoke(root, [*arguments, "--json"], catch_exceptions=False)
    report = json.loads(done.stdout)
    kinds = {one["kind"]: one for one in report["figures"]["kinds"]}
    assert (
        kinds["boxes of a renamed class"]["found"] == kinds["boxes of a renamed class"]["planted"] == 80 + 10
    )
    assert kinds["leaked drives"] == {"kind": "leaked drives", "planted": 2, "found": 2, "false": 0}
    assert kinds["duplicates"] == {"kind": "duplicates", "planted": 10, "found": 10, "false": 0}
    text = CliRunner().invoke(root, arguments, catch_exceptions=False).stdout
    assert "planted and found" in text and "met     leaked drives: found of planted" in text
