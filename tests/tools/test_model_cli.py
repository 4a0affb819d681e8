from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloud.datasets import dataset_sha256, read_dataset
from cloud.release import embedding
from edge.errors import TrafficVisionError
from edge.perception.model_file import read_model_file
from tests import models_factory as factory
from tests.cloud.test_release_embedding import with_backbone
from tests.extras import needs_ultralytics
from tests.shared_data import shared_data
from tools.cli.model import command
from tools.drives.export import SimulationPlan, write_frames

HW = (64, 96)


def run(*arguments: object, refused: str = "") -> str:
    """Run `traffic-vision model` in this process; a refusal must say `refused`."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if refused:
        assert isinstance(result.exception, TrafficVisionError), result.output
        assert refused in str(result.exception) and "\n" not in str(result.exception)
    else:
        assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def traffic_vision(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-c", "from tools.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def raw(tmp_path) -> Path:
    path = tmp_path / "raw.onnx"
    path.write_bytes(factory.rectangles_export().SerializeToString())
    return path


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.jpg"
    path.write_bytes(factory.jpeg(factory.picture(HW, (16, 8, 48, 32, "red"))))
    return path


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(factory.rectangles_model())
    return path


def test_imports_shows_and_verifies(tmp_path, raw, picture):
    output = tmp_path / "new" / "model.onnx"

    said = run("import", raw, "-o", output, "--golden", picture, "--name", "mine", "--score-threshold", 0.3)

    assert "mine" in said and read_model_file(output).digest[:12] in said
    assert "red" in run("info", output)
    about = json.loads(run("info", output, "--json"))
    assert (about["name"], about["score_threshold"]) == ("mine", 0.3)
    assert "ok" in run("verify", output, "--threads", 1)
    assert json.loads(run("verify", output, "--json", "--threads", 1))["passed"] is True


def test_import_prints_json(tmp_path, raw, picture):
    output = tmp_path / "model.onnx"

    about = json.loads(run("import", raw, "-o", output, "--golden", picture, "--json"))

    assert about["path"] == str(output) and about["sha256"] == read_model_file(output).digest
    assert about["golden_report"]["passed"] is True


def test_import_takes_names_from_a_file(tmp_path, raw, picture):
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\nthree\n")

    run("import", raw, "-o", tmp_path / "m.onnx", "--golden", picture, "--names", names)

    assert read_model_file(tmp_path / "m.onnx").metadata.class_names == ("one", "two", "three")


def test_import_records_the_dataset(tmp_path, raw, picture):
    write_frames(SimulationPlan(1, 1, 1, 1.0, size=(64, 64)), tmp_path / "data")
    output = tmp_path / "model.onnx"
    run("import", raw, "-o", output, "--golden", picture, "--data", tmp_path / "data")
    recorded = read_model_file(output).metadata.dataset_sha256
    assert recorded == dataset_sha256(read_dataset(tmp_path / "data"))


def test_import_fits_an_embedding_to_the_dataset(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(embedding, "LEAST_PICTURES", 4)
    write_frames(SimulationPlan(1, 2, 3, 1.0, size=(64, 64)), tmp_path / "data")
    raw, output = tmp_path / "backbone.onnx", tmp_path / "model.onnx"
    raw.write_bytes(with_backbone(factory.rectangles_export()).SerializeToString())
    asked = ("import", raw, "-o", output, "--golden", picture)
    said = json.loads(run(*asked, "--data", tmp_path / "data", "--json"))
    size = said["embedding"]["size"]
    assert said["embedding"]["output"] == "embedding" and 1 <= size <= embedding.SIZE
    assert f"float32[1, {size}] ('embedding')" in run("info", output)
    run(*asked)
    assert read_model_file(output).metadata.embedding is None


def test_a_refused_import_writes_nothing(tmp_path, raw):
    blank = tmp_path / "blank.jpg"
    blank.write_bytes(factory.jpeg(factory.picture(HW)))
    output = tmp_path / "out" / "model.onnx"

    run("import", raw, "-o", output, "--golden", blank, refused="finds nothing")

    assert not output.exists() and not output.parent.exists()


def test_a_refused_import_leaves_the_old_file(tmp_path, raw, model):
    before = model.read_bytes()
    blank = tmp_path / "blank.jpg"
    blank.write_bytes(factory.jpeg(factory.picture(HW)))

    run("import", raw, "-o", model, "--golden", blank, refused="finds nothing")

    assert model.read_bytes() == before


def test_import_judges_by_simulated_streets_unless_told(tmp_path, raw, monkeypatch):
    shown = factory.jpeg(factory.picture(HW, (16, 8, 48, 32, "red")))
    monkeypatch.setattr("tools.drives.golden.golden_pictures", lambda: [shown] * 3)

    run("import", raw, "-o", tmp_path / "m.onnx")

    assert len(read_model_file(tmp_path / "m.onnx").metadata.golden) == 3


def test_an_output_that_cannot_be_written_is_refused(tmp_path, raw, picture):
    run("import", raw, "-o", tmp_path, "--golden", picture, refused="a folder")
    (tmp_path / "file").write_text("x")
    inside = tmp_path / "file" / "m.onnx"
    run("import", raw, "-o", inside, "--golden", picture, refused="cannot be written")


def test_verify_fails_when_the_model_finds_something_else(tmp_path):
    golden = factory.golden_frame()
    other = factory.jpeg(factory.picture(HW, (0, 0, 20, 20, "green")))
    path = tmp_path / "m.onnx"
    path.write_bytes(factory.rectangles_model(golden=(type(golden)(other, golden.detections),)))

    assert "FAILED" in run("verify", path, refused="1 of 1 golden frames failed")
    assert json.loads(run("verify", path, "--json", refused="golden"))["passed"] is False


def test_verify_says_which_providers_there_are(model):
    run("verify", model, "--provider", "nonsense", refused="CPUExecutionProvider")


def test_evaluate_hands_over_what_it_was_given(model, monkeypatch, tmp_path):
    asked = []

    class Evaluation:
        def to_json(self):
            return {"map50": 0.5}

        def to_text(self):
            return "mAP50 .5"

    def evaluate_model_file(*arguments):
        asked.append(arguments)
        return Evaluation()

    monkeypatch.setattr("cloud.pipeline.evaluation.evaluate_model_file", evaluate_model_file)
    given = (
        "evaluate",
        model,
        "--data",
        tmp_path,
        "--slice",
        "timeofday",
        "--slice",
        "weather",
        "--threads",
        1,
    )

    assert json.loads(run(*given, "--json")) == {"map50": 0.5}
    assert run(*given) == "mAP50 .5\n"
    path, data, slices, options = asked[0]
    assert (path, data, slices) == (model, tmp_path, ("timeofday", "weather"))
    assert (options.providers, options.threads) == (("cpu",), 1)


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("hello")

    done = traffic_vision("model", "info", path)

    assert (done.returncode, done.stdout) == (1, "")
    said = f"traffic-vision: error: {path}: not an ONNX file, or one that is cut off"
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1


def test_wrong_usage_is_exit_code_2(tmp_path):
    for arguments in (("import", "x.onnx"), ("import", "x", "-o", "y", "--imgsz", "64"), ("evaluate", "x")):
        assert CliRunner().invoke(command, list(arguments)).exit_code == 2


@needs_ultralytics
def test_a_real_checkpoint_is_taken(tmp_path, monkeypatch):
    checkpoint = shared_data("weights/yolov8n.pt")
    pictures = shared_data("bdd100k-mini/images")
    days = [
        line.split(",")[0]
        for line in shared_data("bdd100k-mini/index.csv").read_text().splitlines()
        if ",daytime," in line
    ]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "out" / "model.onnx"

    run("import", checkpoint, "-o", output, "--golden", pictures / days[0], "--imgsz", 192, 320)

    model = read_model_file(output)
    assert (model.input_hw, model.metadata.precision) == ((192, 320), "fp32")
    assert (model.metadata.name, model.metadata.class_names[2]) == ("yolov8n", "car")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "state"]
    assert "ok" in run("verify", output)
