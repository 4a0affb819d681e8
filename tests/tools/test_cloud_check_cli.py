"""`traffic-vision cloud check` as people run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloud.datasets import Box, DatasetError, DatasetWriter, LabeledImage
from tests import models_factory as factory
from tests.labelled import scene
from tools.cli import root


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(root, ["cloud", "check", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def data(folder: Path, first: int = 0, category: str = "red") -> Path:
    with DatasetWriter(folder, factory.NAMES) as writer:
        for number in range(first, first + 6):
            box = Box(10, 10, 40, 50, category)
            name = f"{number}.jpg"
            image = LabeledImage(name, None, None, None, (box,), {"light": "noon"}, name)
            writer.add(image, scene(number, size=(160, 96)), "val" if number % 3 == 2 else "train")
    return folder


def test_a_renamed_class_fails_with_page_findings_and_exit_code(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(factory.rectangles_model(class_names=factory.NAMES))
    good, bad = data(tmp_path / "good"), data(tmp_path / "bad", 10, "rouge")
    config = tmp_path / "cloud.toml"
    config.write_text('[gate]\nslice_by = "light"\n')
    passed = run(good, "--model", model, "--config", config)
    assert passed.exit_code == 0, passed.output
    assert "good: PASS; 6 pictures, 6 drives, 6 boxes" in passed.stdout
    page, findings = tmp_path / "page.html", tmp_path / "findings.json"
    failed = run(
        bad, "--model", model, "--known", good, "--html", page, "--findings", findings, "--config", config
    )
    assert failed.exit_code == 1
    assert "6 of 6 boxes" in failed.stdout and f"page: {page}" in failed.stdout
    document = json.loads(findings.read_text())
    assert document["facts"]["slices"] == {"noon": 6}
    assert len(document["refused"]) == 6
    assert page.read_text().count("<image ") == 6
    assert (
        json.loads(run(bad, "--model", model, "--known", good, "--config", config, "--json").stdout)
        == document
    )
    config.write_text("[purity.rules.unknown_class]\nfail_above = 1.0\n")
    assert run(bad, "--config", config).exit_code == 0


def test_what_is_wrong_with_the_question_is_said(tmp_path: Path) -> None:
    assert "is not NAME=DATASET" in run(tmp_path, "--labels", "people").output
    with pytest.raises(DatasetError, match="is no dataset"):
        run(tmp_path)
