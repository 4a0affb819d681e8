"""`drift attach`: the reference is in the model file, and nothing else in it has changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from cloud.release.attaching import attached, with_prior
from edge.drift import Reference, Scope, fit
from edge.drift.features import NAMES, ORIGINS
from edge.drift.reference_file import PACKED, PLAIN
from edge.errors import TrafficVisionError
from edge.perception.metadata import GoldenFrame
from edge.perception.model_file import (
    METADATA_KEY,
    ModelFile,
    parse_model_file,
    put_metadata,
    read_model_file,
)
from edge.perception.onnx_reading import parse_onnx
from tests.models_factory import golden_frame, with_embedding
from tests.replays import write_model
from tools.cli import root


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path, dataset_sha256="a" * 64, name="day", version="7")


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_reference(tmp_path / "day.json")


def write_reference(
    path: Path, context: str = "daytime", names: tuple[str, ...] = NAMES, origins: tuple[str, ...] = ORIGINS
) -> Path:
    drives = [np.random.default_rng(seed).normal(size=(60, len(names))) for seed in range(3)]
    fit(drives, 2.0, names, origins=origins, context=context).save(path)
    return path


def attach(reference: Path, model: Path, output: Path) -> str:
    result = CliRunner().invoke(
        root, ["drift", "attach", str(reference), "--model", str(model), "-o", str(output)]
    )
    if result.exception:
        raise result.exception
    return result.output


def without_document(path: Path) -> bytes:
    graph = onnx.ModelProto.FromString(path.read_bytes())
    kept = [entry for entry in graph.metadata_props if entry.key != METADATA_KEY]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    return graph.SerializeToString(deterministic=True)


def document(path: Path) -> dict[str, object]:
    graph = onnx.ModelProto.FromString(path.read_bytes())
    (text,) = [entry.value for entry in graph.metadata_props if entry.key == METADATA_KEY]
    return json.loads(text)


def test_a_vehicle_reads_the_reference_out_of_the_model(tmp_path: Path, model: Path, reference: Path) -> None:
    output = tmp_path / "out" / "with.onnx"
    said = attach(reference, model, output)
    written = read_model_file(output)
    assert said == f"{output}: {written.summary()}\n"
    prior = Reference.from_bytes((written.metadata.drift_prior or "").encode())
    # It is every vehicle's now, and promises nothing of one camera.
    assert prior.digest == Reference.load(reference).scoped(Scope.FLEET).digest


@pytest.mark.parametrize("embedding", [False, True])
def test_nothing_else_changes(tmp_path: Path, model: Path, reference: Path, embedding: bool) -> None:
    if embedding:
        model.write_bytes(with_embedding(model.read_bytes(), np.eye(3)))
    output = tmp_path / "with.onnx"
    attach(reference, model, output)
    assert without_document(output) == without_document(model)
    before, after = document(model), document(output)
    assert (before.pop("drift_prior"), after.pop("drift_prior")) == (
        None,
        Reference.load(reference).scoped(Scope.FLEET).to_bytes(PACKED).decode(),
    )
    assert after == before
    assert len(read_model_file(output).metadata.drift_prior or "") < 8_000, "a few kB per context"


def test_what_a_prior_is_written_in_is_kept(tmp_path: Path, model: Path, reference: Path) -> None:
    """Whoever chose it knows which daemons read the file."""
    known = Reference.load(reference).scoped(Scope.FLEET)
    packed = with_prior(read_model_file(model), known, "a test")
    plain = put_prior(packed, known.to_bytes(PLAIN).decode())
    found = [with_prior(one, known, "a test").metadata.drift_prior for one in (plain, packed)]
    assert found == [known.to_bytes(version).decode() for version in (PLAIN, PACKED)]
    assert with_prior(put_prior(plain, "{}"), known, "a test").data == packed.data
    assert attached(plain, known, "a test").metadata.drift_prior == known.to_bytes(PACKED).decode()


def put_prior(model: ModelFile, text: str) -> ModelFile:
    graph = parse_onnx(model.data)
    put_metadata(graph, replace(model.metadata, drift_prior=text))
    return parse_model_file(graph.SerializeToString(deterministic=True), "a test")


def test_another_reference_takes_the_place_of_the_first(tmp_path: Path, model: Path, reference: Path) -> None:
    night = write_reference(tmp_path / "night.json", "night")
    at_once = tmp_path / "at_once.onnx"
    attach(night, model, at_once)
    attach(reference, model, model)
    attach(night, model, model)
    assert model.read_bytes() == at_once.read_bytes()


@pytest.mark.parametrize(
    ("names", "origins"),
    [
        (("hue", *NAMES[1:]), ORIGINS),
        (NAMES[:-1], ORIGINS[:-1]),
        (NAMES, ("embedding", *ORIGINS[1:])),
    ],
)
def test_a_reference_of_other_features_is_refused(
    tmp_path: Path, model: Path, names: tuple[str, ...], origins: tuple[str, ...]
) -> None:
    other, output = (
        write_reference(tmp_path / "other.json", names=names, origins=origins),
        tmp_path / "x.onnx",
    )
    assert "the daemon's features are brightness" in refused(other, model, output)


def test_a_model_whose_golden_frames_fail_is_refused(tmp_path: Path, reference: Path) -> None:
    golden = golden_frame()
    moved = GoldenFrame(golden.jpeg, golden.detections + np.float32([20, 0, 20, 0, 0, 0]))
    assert "golden" in refused(reference, write_model(tmp_path, golden=(moved,)), tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("reference_name", "model_name", "output_name", "word"),
    [
        ("nowhere.json", "rectangles.onnx", "x.onnx", "nowhere.json"),
        ("rectangles.onnx", "rectangles.onnx", "x.onnx", "not a drift reference"),
        ("day.json", "nowhere.onnx", "x.onnx", "nowhere.onnx"),
        ("day.json", "day.json", "x.onnx", "day.json"),
        ("day.json", "rectangles.onnx", "folder", "folder: cannot be written"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(
    tmp_path: Path,
    model: Path,
    reference: Path,
    reference_name: str,
    model_name: str,
    output_name: str,
    word: str,
) -> None:
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    names = (reference_name, model_name, output_name)
    assert word in refused(*(tmp_path / name for name in names))
    assert sorted(tmp_path.rglob("*")) == before


def refused(reference: Path, model: Path, output: Path) -> str:
    with pytest.raises(TrafficVisionError) as refusal:
        attach(reference, model, output)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)
