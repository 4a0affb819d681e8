"""The shipped baseline: it is what models/ says that it is, and it is lost by night."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cloud.pipeline.evaluation import EvaluationOptions, evaluate_model_file
from cloud.release.assembly import AssemblyOptions
from cloud.release.importing import import_model
from edge.drift import Reference
from edge.drift.features import NAMES, fleet_prior
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import read_model_file
from tests.extras import needs_ultralytics
from tools.cli.model import command
from tools.drives.export import SimulationPlan, write_frames
from tools.drives.golden import golden_pictures
from tools.drives.light import light
from tools.drives.render import CLASS_NAMES, render

MODELS = Path(__file__).resolve().parents[2] / "models"
UNSEEN = 30_000  # the first of the drives that no training saw


def lock() -> dict[str, dict[str, list[dict[str, str]]]]:
    return yaml.safe_load((MODELS / "dvc.lock").read_text())["stages"]


@pytest.mark.parametrize(("stage", "name"), [("train", "baseline.pt"), ("attach-drift", "baseline.onnx")])
def test_the_files_are_those_that_were_reproduced(stage: str, name: str) -> None:
    recorded = {out["path"]: out["md5"] for out in lock()[stage]["outs"]}
    assert hashlib.md5((MODELS / name).read_bytes()).hexdigest() == recorded[name]


@pytest.mark.skipif(not (MODELS.parent / ".git").exists(), reason="DVC compares within a git checkout")
def test_the_commands_and_numbers_are_those_that_were_run() -> None:
    """What DVC finds changed is at most what is made anew on the way, and the code."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=MODELS,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    changes = [change for stage in json.loads(done.stdout).values() for change in stage]
    changed = {path for change in changes for path in (change if isinstance(change, str) else _paths(change))}
    on_the_way = {"work/data", "work/plain.onnx", "work/drift.json"}
    code = {"../tools/drives", "../cloud/pipeline/training.py", "../edge/drift"}
    assert changed <= on_the_way | code


def _paths(change: dict[str, dict[str, str]]) -> set[str]:
    return {path for paths in change.values() for path in paths}


def test_it_says_what_it_is_and_finds_its_golden_frames() -> None:
    model = read_model_file(MODELS / "baseline.onnx")
    assert model.metadata.class_names == CLASS_NAMES
    assert model.metadata.dataset_sha256 is not None
    done = CliRunner().invoke(command, ["verify", str(MODELS / "baseline.onnx")], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_it_brings_along_how_daylight_looks() -> None:
    """The reference is of the data's own word for day, and of drives that no training saw."""
    params = yaml.safe_load((MODELS / "params.yaml").read_text())
    train, drift = params["simulate"], params["drift"]
    drives = set(range(drift["seed"], drift["seed"] + drift["drives"]))
    assert not drives & set(range(train["seed"], train["seed"] + train["drives"]))
    assert max(drives) < 20_000  # from there on: evaluation

    prior = read_model_file(MODELS / "baseline.onnx").metadata.drift_prior
    assert prior is not None
    reference = Reference.from_bytes(prior.encode())
    # Features that it does not know are learned on the vehicle.
    assert set(reference.names) <= set(NAMES)
    assert reference.rate_hz == drift["rate_hz"]
    assert fleet_prior(prior).names == NAMES
    (daytime,) = reference.contexts
    word_of_the_data = render(drift["seed"], 0.0, light(drift["light"])).attributes["timeofday"]
    assert daytime.name == drift["context"] == word_of_the_data
    assert daytime.features[0].drives == drift["drives"]


@needs_ultralytics
def test_the_checkpoint_has_the_weights_of_the_model_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shipped = read_model_file(MODELS / "baseline.onnx")
    again, once_more = tmp_path / "again.onnx", tmp_path / "once_more.onnx"
    for output in (again, once_more):
        import_model(
            MODELS / "baseline.pt", output, golden_pictures(), AssemblyOptions(imgsz=shipped.input_hw)
        )
    assert again.read_bytes() == once_more.read_bytes()
    street = render(UNSEEN, 12.0).image
    options = DetectorOptions(threads=1)
    outputs = [Detector(model, options).raw_output(street) for model in (shipped, read_model_file(again))]
    assert np.allclose(*outputs, rtol=1e-3, atol=1e-3)


def test_by_day_it_sees_the_street_and_by_night_it_loses_it(tmp_path: Path) -> None:
    found = {}
    for name in ("noon", "night"):
        write_frames(SimulationPlan(UNSEEN, 6, 5, 0.2, name), tmp_path / name)
        evaluation = evaluate_model_file(
            MODELS / "baseline.onnx", tmp_path / name, options=EvaluationOptions(progress=iter)
        )
        found[name] = evaluation.overall.map50 or 0.0
    assert found["noon"] > 0.3
    assert found["night"] < 0.5 * found["noon"]
