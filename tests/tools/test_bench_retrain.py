"""What a retrain is worth: trained for real on little, judged on drives that no training saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cloud.datasets import Box, DatasetWriter, LabeledImage
from tests import models_factory as factory
from tools.bench.rounds import BenchError
from tools.bench.subject import MODELS
from tools.cli import root

HW = (128, 192)
PICTURES = 84


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large car on each, dark by night."""
    folder = tmp_path_factory.mktemp("retrain") / "data"
    generator = np.random.default_rng(7)
    with DatasetWriter(folder) as writer:
        for number in range(PICTURES):
            at = int(generator.integers(2, 40))
            corners = (at, 10, at + 50, 50)
            night = number % 2 == 1
            image = factory.picture(HW, (*corners, "red"), grey=20 if night else 160)
            light = {"timeofday": "night" if night else "daytime"}
            labels = LabeledImage(
                f"{number}.jpg", None, HW[1], HW[0], (Box(*corners, "car"),), light, f"d{number}"
            )
            writer.add(labels, factory.jpeg(image))
    return folder


def run(pictures: Path, work: Path, *arguments: object) -> Result:
    command = [
        "bench",
        "retrain",
        "--data",
        pictures,
        "--weights",
        MODELS / "baseline.pt",
        "--work",
        work,
        "--json",
    ]
    command += ["--seeds", 1, "--imgsz", 320, "--first-epochs", 1, "--epochs", 1]
    command += ["--min-boxes", 5, "--resamples", 100, *arguments]
    return CliRunner().invoke(root, list(map(str, command)))


def bench(pictures: Path, work: Path, *arguments: object) -> dict[str, Any]:
    result = run(pictures, work, *arguments)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout[result.stdout.index("{\n") :])
    return report


def test_each_way_is_judged_on_drives_that_it_never_saw_and_a_second_run_trains_nothing(
    pictures: Path, tmp_path: Path
) -> None:
    report = bench(pictures, tmp_path, "--no-loop")
    (seed,) = report["figures"]["seeds"]
    pairs = {(pair["first"], pair["second"]): pair["slices"] for pair in seed["pairs"]}
    assert set(pairs) == {("before", "pipeline"), ("before", "plain"), ("plain", "pipeline")}
    for slices in pairs.values():
        by_name = {each["name"]: each for each in slices}
        for name in ("daytime", "night"):
            each = by_name[name]
            assert each["difference"] == pytest.approx(each["challenger"] - each["champion"])
            assert each["low"] <= each["difference"] <= each["high"]
    lists = {
        name: (tmp_path / "seed-0" / "data" / name / "train.txt").read_text().split()
        for name in ("kept", "all", "mixed")
    }
    assert set(lists["kept"]) < set(lists["mixed"]) <= set(lists["all"])
    judged = by_name["(all)"]["images"]
    trained = sum(len(_lines(tmp_path, name)) for name in ("train", "val"))
    assert judged + trained == PICTURES
    weights = tmp_path / "seed-0" / "pipeline" / "weights" / "last.pt"
    before = weights.stat().st_mtime_ns
    assert bench(pictures, tmp_path, "--no-loop") == report
    assert weights.stat().st_mtime_ns == before
    # Of other settings, what is there may have seen the drives that it would be judged on.
    other = run(pictures, tmp_path, "--holdout", 0.4, "--epochs", 2)
    assert isinstance(other.exception, BenchError), other.output
    assert "keeps trainings of other epochs, holdout: give another --work" in str(other.exception)


@pytest.mark.services
def test_the_whole_loop_is_timed_in_a_cloud_of_its_own(pictures: Path, tmp_path: Path) -> None:
    report = bench(pictures, tmp_path)
    loop = report["figures"]["loop"]
    assert loop["state"] in ("released", "rejected")
    assert {"label", "train", "validate"} <= set(loop["stages_s"])
    assert 0 < sum(loop["stages_s"].values()) <= loop["wall_s"]
    counted = loop["stages_s"]["train"] + loop["stages_s"]["validate"]
    assert loop["other_share"] == pytest.approx(1 - counted / loop["wall_s"], abs=1e-3)
    assert any("neither train nor validate" in target["name"] for target in report["targets"])


def _lines(work: Path, side: str) -> list[str]:
    return (work / "seed-0" / "data" / "all" / f"{side}.txt").read_text().split()


def test_data_of_one_light_are_refused(pictures: Path) -> None:
    command = ["bench", "retrain", "--data", str(pictures), "--weights", "yolov8n.yaml", "--target", "dusk"]
    result = CliRunner().invoke(root, command)
    assert "pictures with timeofday daytime and dusk are needed" in str(result.exception)
