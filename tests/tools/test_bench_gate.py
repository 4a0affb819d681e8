"""The simulated gate: its candidates are as good as they are said to be, its holdouts are draws of drives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.datasets import Box, DatasetWriter, LabeledImage
from cloud.pipeline.evaluation_coco import RankedClass
from tests import models_factory as factory
from tools.bench.gate.candidates import calibrated
from tools.bench.gate.holdouts import drawn, redrawn
from tools.cli import root

HW = (64, 96)


def matches(generator: np.random.Generator, pictures: int, each: int = 12) -> RankedClass:
    """Some four boxes a picture, most found, among false alarms, the surer ones hit more often."""
    images = generator.permutation(np.repeat(np.arange(pictures), each))
    hits = generator.uniform(size=len(images)) < np.linspace(0.6, 0.1, len(images))
    found = np.bincount(images[hits], minlength=pictures)
    return RankedClass("car", images, hits, found + generator.integers(0, 3, pictures))


@settings(max_examples=20)
@given(
    st.integers(0, 200), st.sampled_from([-0.05, -0.02, 0.0, 0.02, 0.08]), st.sampled_from([-0.03, 0.0, 0.04])
)
def test_candidates_differ_by_what_was_asked(seed: int, day: float, night: float) -> None:
    generator = np.random.default_rng(seed)
    champion, second = matches(generator, 120), matches(generator, 120)
    second = _on_the_same_boxes(second, champion.boxes)
    slices = {"day": np.arange(60), "night": np.arange(60, 120)}
    drives = [f"d{number // 2}" for number in range(120)]
    aims = {"day": day, "night": night}
    (made,) = calibrated([champion], [second], slices, aims, drives, 20, seed)
    for name, places in slices.items():
        times = np.zeros(120, np.int64)
        times[places] = 1
        before, after = champion.ap50(times), made.ap50(times)
        assert before is not None and after is not None
        assert after - before == pytest.approx(aims[name], abs=0.008), "one detection more or less"
    assert (np.bincount(made.images[made.hits], minlength=120) <= champion.boxes).all()


def _on_the_same_boxes(of: RankedClass, boxes: Any) -> RankedClass:
    """No picture has more hits than boxes."""
    hits, left = of.hits.copy(), boxes.copy()
    for place in np.flatnonzero(hits):
        hits[place] = left[of.images[place]] > 0
        left[of.images[place]] -= hits[place]
    return RankedClass(of.name, of.images, hits, boxes)


@given(st.data())
def test_matches_on_drawn_pictures_are_those_of_each_copy(data: st.DataObject) -> None:
    pictures = data.draw(st.integers(1, 6))
    of = RankedClass(
        "car",
        images := np.array(data.draw(st.lists(st.integers(0, pictures - 1), max_size=15)), np.int64),
        np.array(data.draw(st.lists(st.booleans(), min_size=len(images), max_size=len(images))), np.bool_),
        np.array(data.draw(st.lists(st.integers(0, 3), min_size=pictures, max_size=pictures)), np.int64),
    )
    places = np.array(data.draw(st.lists(st.integers(0, pictures - 1), max_size=8)), np.int64)
    found = redrawn(of, places, pictures)
    assert (found.boxes == of.boxes[places]).all()
    for number, place in enumerate(places):
        assert found.hits[found.images == number].tolist() == of.hits[of.images == place].tolist()
    assert len(found.images) == sum(int((of.images == place).sum()) for place in places)


def test_a_drive_is_drawn_whole_and_twice_is_two_drives() -> None:
    images = [LabeledImage(f"{n}.jpg", None, 9, 9, (), {}, f"d{n // 3}") for n in range(9)]
    chosen, places = drawn(images, 50, np.random.default_rng(2))
    assert len(chosen) == 150 and len({image.drive for image in chosen}) == 50
    for number in range(0, 150, 3):
        names = [image.name for image in chosen[number : number + 3]]
        assert names in ([f"{n + k}.jpg" for k in range(3)] for n in (0, 3, 6))
        assert [images[place].name for place in places[number : number + 3]] == names


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red rectangles, some labelled and not there, some there and not labelled; half by night."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "model.onnx").write_bytes(factory.rectangles_model(HW))
    generator = np.random.default_rng(5)
    with DatasetWriter(folder / "data", factory.NAMES) as writer:
        for number in range(60):
            corners = (10, 10, 40, int(generator.integers(30, 50)))
            there, labelled = generator.uniform() < 0.7, generator.uniform() < 0.75
            image = factory.picture(
                HW, (*corners, "red") if there else (1, 1, 3, 3, "green"), grey=20 + number
            )
            boxes = (Box(*corners, "red"),) if labelled else ()
            light = {"timeofday": "night" if number % 2 else "daytime"}
            labels = LabeledImage(f"{number}.jpg", None, HW[1], HW[0], boxes, light, f"d{number}")
            writer.add(labels, factory.jpeg(image))
    return folder


def bench(folder: Path, *arguments: object) -> dict[str, Any]:
    command = ["bench", "gate", "--data", folder / "data", "--model", folder / "model.onnx", "--json"]
    command += [
        "--min-boxes",
        5,
        "--resamples",
        100,
        "--trials",
        3,
        "--workers",
        1,
        "--threads",
        1,
        *arguments,
    ]
    result = CliRunner().invoke(root, list(map(str, command)))
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_the_report_has_verdicts_and_targets_of_each_size(pictures: Path, tmp_path: Path) -> None:
    sizes = ("--drives", 20, "--drives", 60)
    report = bench(pictures, "--cache", tmp_path, *sizes)
    assert bench(pictures, "--cache", tmp_path, *sizes) == report and len(list(tmp_path.iterdir())) == 2
    found = {(each["candidate"], each["drives"]): each for each in report["figures"]["verdicts"]}
    assert set(found) == {(name, drives) for name in ("worse", "equal", "better") for drives in (20, 60)}
    for each in found.values():
        assert each["pass"] + each["fail"] + each["inconclusive"] == 3
        assert each["released_share"] == pytest.approx(each["pass"] / 3)
    most = {
        name: max(20 * found[name, drives]["released_share"] for drives in (20, 60))
        for name in ("worse", "equal")
    }
    worse, equal, *_ = report["targets"]
    assert (worse["value"], worse["target"]) == (pytest.approx(most["worse"]), 1)
    assert (equal["value"], equal["target"]) == (pytest.approx(most["equal"]), 1)
    power = report["figures"]["power"]
    assert power["effect"] == 0.04 and power["drives"] == 60


def test_the_size_that_the_power_report_calls_enough_is_simulated(pictures: Path) -> None:
    report = bench(pictures, "--gain", 0.3, "--loss", 0.3, "--trials", 1)
    needed = report["figures"]["power"]["needed_drives"]
    sizes = {each["drives"] for each in report["figures"]["verdicts"]}
    assert needed is not None and max(sizes) >= needed and 60 in sizes
    (right,) = [target for target in report["targets"] if target.get("at_least")]
    assert right["target"] == 15 and right["value"] in (0, 20)


def test_pictures_of_one_light_are_refused(pictures: Path) -> None:
    command = ["bench", "gate", "--data", str(pictures / "data"), "--target", "dusk"]
    result = CliRunner().invoke(root, command)
    assert "pictures with timeofday daytime and dusk are needed" in str(result.exception)
