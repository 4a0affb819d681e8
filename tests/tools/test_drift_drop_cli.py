"""`drift fit-drop` and `drift check-drop`: what a change costs a model, put into a reference and checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cloud.datasets import Box, DatasetWriter, LabeledImage
from edge.drift import Reference
from tests import models_factory as factory
from tests.replays import write_model
from tests.tools.drift_commands import done, refused
from tests.tools.test_drift_attach_cli import write_reference
from tools.cli import root
from tools.drift.values import Values, save_values, values_beside, values_path

HW = (64, 96)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two red things a picture; by night one of them is too dark to be found."""
    folder = tmp_path_factory.mktemp("labelled") / "data"
    with DatasetWriter(folder, factory.NAMES) as writer:
        for number in range(40):
            night = number % 2 == 1
            left, right = (8, 10, 36, 40), (56, 14 + number // 4, 84, 50)
            picture = factory.picture(HW, (*left, "blue"), (*right, "red"), grey=30 + number)
            if night:
                picture[:, 48:] //= 4
            image = LabeledImage(
                f"{number:02d}.jpg",
                None,
                HW[1],
                HW[0],
                (Box(*left, "blue"), Box(*right, "red")),
                {"timeofday": "night" if night else "daytime"},
                f"drive{number // 4}",
            )
            writer.add(image, factory.jpeg(picture))
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference(tmp_path_factory.mktemp("reference") / "day.json")


def test_a_reference_takes_along_what_a_change_costs_and_it_is_checked(
    tmp_path: Path, model: Path, data: Path, reference: Path
) -> None:
    output = tmp_path / "with.json"
    kept = Values({("daytime", "brightness"): np.arange(5, dtype=np.float32)})
    save_values(kept, Reference.load(reference), values_path(reference))
    said = done("fit-drop", reference, "--model", model, "--data", data, "-o", output, "--pictures", 20)
    assert "mAP50" in said.stderr and "underexposure" in said.stderr
    made, before = Reference.load(output), Reference.load(reference)
    assert made.drop is not None and "20 labelled pictures" in made.drop.method
    assert made.contexts[0].name == before.contexts[0].name and made.names == before.names
    # What exact tests need stays beside it.
    values, trouble = values_beside(output, made)
    assert values is not None, trouble
    assert values.of["daytime", "brightness"].tolist() == [0, 1, 2, 3, 4]
    # A vehicle gets it with the model.
    done_attach = CliRunner().invoke(
        root, ["drift", "attach", str(output), "--model", str(model), "-o", str(tmp_path / "with.onnx")]
    )
    assert done_attach.exit_code == 0
    check = ("check-drop", "--model", model, "--data", data)
    table = done(*check, "--reference", output).output
    found = json.loads(done(*check, "--reference", output, "--json").output)
    (night,) = found["comparisons"]
    assert found["base"]["name"] == "daytime" and night["part"]["name"] == "night"
    assert f"mAP50 {night['part']['map50']:.3f}" in table and "estimated" in table
    assert night["part"]["map50"] < found["base"]["map50"]
    assert night["told"][0]["residual"] == made.drop.residual


def test_without_a_reference_the_estimate_is_fitted_on_the_one_slice(model: Path, data: Path) -> None:
    found = json.loads(
        done("check-drop", "--model", model, "--data", data, "--pictures", 20, "--json").output
    )
    assert "of 20 labelled pictures" in found["drop"]["method"]
    assert found["base"]["pictures"] == 20


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("fit-drop", "nowhere.json", "--data", "DATA", "-o", "OUT"), "nowhere.json"),
        (("fit-drop", "REFERENCE", "--data", "nowhere", "-o", "OUT"), "nowhere"),
        (("fit-drop", "REFERENCE", "--data", "EMPTY", "-o", "OUT"), "is no dataset"),
        (("fit-drop", "REFERENCE", "--data", "DATA", "-o", "OUT.txt"), "ends in .json"),
        (("fit-drop", "OTHER", "--data", "DATA", "-o", "OUT"), "none of which is watched"),
        (("check-drop", "--data", "EMPTY"), "is no dataset"),
        (
            ("fit-drop", "REFERENCE", "--data", "DATA", "-o", "OUT", "--pictures", "4"),
            "20 boxes in 4",
        ),
        (("check-drop", "--data", "DATA", "--reference", "REFERENCE"), "`drift fit-drop` puts it in"),
        (("check-drop", "--data", "DATA", "--from", "noon"), "timeofday is noon"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(
    tmp_path: Path, model: Path, data: Path, reference: Path, arguments: tuple[str, ...], word: str
) -> None:
    places = {"DATA": data, "REFERENCE": reference, "OUT": tmp_path / "out.json"}
    places |= {"EMPTY": tmp_path / "empty", "OTHER": tmp_path / "other.json"}
    places["EMPTY"].mkdir()
    write_reference(places["OTHER"], names=("mine",), origins=("picture",))
    given = [places.get(argument, argument) for argument in arguments]
    assert word in refused(*given, "--model", model)
    assert not (tmp_path / "out.json").exists()
