"""The embedding on its way into a model file: which map, along which axes, and what they give."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from cloud.pipeline.ultralytics_boundary import import_ultralytics
from cloud.release.assembly import AssemblyOptions, _with_frame_input, assemble
from cloud.release.embedding import LEAST_PICTURES, MOST_PICTURES, SIZE, add_embedding, find_map, fit_axes
from cloud.release.raw_export import read_raw_export
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.metadata import EmbeddingSpec
from tests import models_factory as factory
from tests.extras import needs_ultralytics
from tests.imports import HW, PICTURE, SHOWN
from tests.imports import save as save_model

OPTIONS = DetectorOptions(threads=1)
CHANNELS = 6


@pytest.fixture
def save(tmp_path):
    """Write an ONNX model as a file."""
    return partial(save_model, tmp_path)


def with_backbone(
    raw: onnx.ModelProto,
    *,
    activation: str = "silu",
    recoded: bool = False,
    parallel: bool = False,
    stride: int = 1,
    pyramids: int = 1,
) -> onnx.ModelProto:
    """An export with a small backbone beside it that ends as Ultralytics' do, under names of no meaning."""
    rng = np.random.default_rng(1)
    element = raw.graph.input[0].type.tensor_type.elem_type
    dtype = helper.tensor_dtype_to_np_dtype(element)
    nodes: list[onnx.NodeProto] = []

    def node(kind: str, inputs: list[str], **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"v{len(raw.graph.node) + len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def again(name: str) -> str:
        return node("Cast", [node("Identity", [name])], to=element) if recoded else name

    def convolved(name: str, inputs: int, outputs: int, activation: str, **attributes: object) -> str:
        weight = f"w{len(raw.graph.initializer)}"
        values = rng.normal(0, 0.5, (outputs, inputs, 1, 1)).astype(dtype)
        raw.graph.initializer.append(numpy_helper.from_array(values, weight))
        name = again(node("Conv", [again(name), weight], **attributes))
        if activation == "silu":
            return node("Mul", [name, again(node("Sigmoid", [name]))])
        return node(activation, [name]) if activation else name

    def pooled(name: str, side: int) -> str:
        around = side // 2
        return node(
            "MaxPool", [again(name)], kernel_shape=[side] * 2, pads=[around] * 4, strides=[stride] * 2
        )

    for _ in range(pyramids):
        start = convolved("images", 3, 4, "silu", strides=[8, 8])
        if parallel:
            parts = [start, *(pooled(start, side) for side in (5, 9, 13))]
        else:
            parts = [start]
            for _ in range(3):
                parts.append(pooled(parts[-1], 5))
        if stride == 1:
            everything = node("Concat", [again(part) for part in parts], axis=1)
        else:
            everything = node("Concat", [parts[1], parts[1]], axis=1)
        found = convolved(everything, 16 if stride == 1 else 8, CHANNELS, activation)
        for _ in range(2):  # what the neck takes of it
            node("Identity", [found])
    # Dead branches: what they give is asked for by the embedding alone.
    raw.graph.node.extend(nodes)
    return raw


def expected_map(raw: onnx.ModelProto) -> str:
    """The map, found by what it is known to be: what two operators of the neck take."""
    takers: dict[str, int] = {}
    for one in raw.graph.node[-2:]:
        takers[one.input[0]] = takers.get(one.input[0], 0) + 1
    (name,) = takers
    return name


@pytest.mark.parametrize("activation", ["silu", "Relu", "HardSwish", ""])
@pytest.mark.parametrize("recoded", [False, True])
@pytest.mark.parametrize("parallel", [False, True])
def test_the_map_is_found_by_the_graphs_structure(activation: str, recoded: bool, parallel: bool) -> None:
    raw = with_backbone(
        factory.rectangles_export(), activation=activation, recoded=recoded, parallel=parallel
    )
    onnx.checker.check_model(raw)
    assert find_map(raw) == expected_map(raw)


def test_a_graph_without_such_a_map_or_with_several_has_none() -> None:
    assert find_map(factory.rectangles_export()) is None
    assert find_map(with_backbone(factory.rectangles_export(), pyramids=2)) is None
    assert find_map(with_backbone(factory.rectangles_export(), stride=2)) is None


def pictures(folder: Path, count: int, seed: int = 0) -> tuple[Path, ...]:
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        colours = rng.integers(0, 256, (3, 4, 3)).astype(np.uint8)
        paths.append(folder / f"{number:03d}.png")
        cv2.imwrite(str(paths[-1]), cv2.resize(colours, (96, 64), interpolation=cv2.INTER_NEAREST))
    return tuple(paths)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_an_export_that_allows_it_gets_an_embedding_of_its_training_pictures(save, tmp_path, dtype) -> None:
    path = save(with_backbone(factory.rectangles_export(dtype=dtype)))
    trained_on = pictures(tmp_path, 40)
    plain = assemble(path, [PICTURE]).model
    model = assemble(path, [PICTURE], AssemblyOptions(trained_on=trained_on)).model
    assert plain.metadata.embedding is None
    assert model.metadata.embedding == EmbeddingSpec("embedding", SIZE)
    detector = Detector(model, OPTIONS)
    np.testing.assert_array_equal(detector.detect(SHOWN).boxes, Detector(plain, OPTIONS).detect(SHOWN).boxes)
    found = np.array([detector.detect(cv2.imread(str(one))).embedding for one in trained_on])
    slack = 2e-2 if dtype is np.float16 else 2e-3
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=slack)
    np.testing.assert_allclose(np.cov(found.T), np.eye(SIZE), atol=slack)
    again = assemble(path, [PICTURE], AssemblyOptions(trained_on=trained_on)).model
    assert again.digest == model.digest


def test_where_it_cannot_have_one_the_file_is_as_it_was_and_it_is_said(save, tmp_path, caplog) -> None:
    few = pictures(tmp_path, LEAST_PICTURES - 1)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), np.full((64, 96, 3), 90, np.uint8))
    backbone = save(with_backbone(factory.rectangles_export()))
    for path, trained_on, reason in (
        (save(factory.rectangles_export(), "plain.onnx"), (grey,) * 40, "no map was found"),
        (backbone, (*few, broken), f"{LEAST_PICTURES - 1} pictures of its training are at hand"),
        (backbone, (grey,) * MOST_PICTURES, "is the same for all"),
    ):
        caplog.clear()
        options = AssemblyOptions(name="m", trained_on=trained_on)
        model = assemble(path, [PICTURE], options).model
        assert model.data == assemble(path, [PICTURE], AssemblyOptions(name="m")).model.data
        assert "has no embedding: " in caplog.text and reason in caplog.text


def test_a_name_that_is_taken_is_left_alone(save, tmp_path) -> None:
    raw = with_backbone(factory.rectangles_export())
    raw.graph.node.append(helper.make_node("Identity", ["images"], ["embedding"]))
    model = assemble(save(raw), [PICTURE], AssemblyOptions(trained_on=pictures(tmp_path, 40))).model
    assert model.metadata.embedding is None


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 60),
    channels=st.integers(1, 12),
    rank=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_axes_are_uncorrelated_scaled_and_point_one_way(
    count: int, channels: int, rank: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Of falling spread, so that no two axes are the same by chance.
    values = rng.normal(size=(count, rank)) * 3.0 ** -np.arange(rank) @ rng.normal(size=(rank, channels)) + 5
    axes = fit_axes(values)
    assert axes is not None and axes.matrix.shape[1] <= min(SIZE, rank, channels, count - 1)
    along = values @ axes.matrix.astype(np.float64) + axes.offset
    np.testing.assert_allclose(along.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(np.atleast_2d(np.cov(along.T)), np.eye(along.shape[1]), atol=0.05)
    # The first tells the most of what there is: what is left of the values is less with each.
    left = [
        np.square(values - values.mean(axis=0) - _projected(values, axes.matrix[:, :number])).sum()
        for number in range(along.shape[1] + 1)
    ]
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(left))
    largest = np.abs(axes.matrix).argmax(axis=0)
    assert (axes.matrix[largest, np.arange(axes.matrix.shape[1])] > 0).all()
    turned = fit_axes(values[::-1])
    assert turned is not None and turned.matrix.shape == axes.matrix.shape


def _projected(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=0)
    if not matrix.shape[1]:
        return np.zeros_like(centred)
    basis, _ = np.linalg.qr(matrix.astype(np.float64))
    return centred @ basis @ basis.T


def test_what_does_not_differ_or_is_no_number_has_no_axes() -> None:
    assert fit_axes(np.full((40, 5), 3.25)) is None
    assert fit_axes(np.ones((1, 5))) is None
    rows = np.random.default_rng(0).normal(size=(40, 5))
    rows[7, 2] = np.nan
    assert fit_axes(rows) is None


@needs_ultralytics
@pytest.mark.parametrize("architecture", ["yolov8n", "yolo11n", "yolo26n"])
def test_of_ultralytics_detectors_it_is_pytorchs_pooled_map_times_the_matrix(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the checkpoint to the vehicle's number: PyTorch's own map, averaged, times what the file holds."""
    ultralytics = import_ultralytics()
    import torch

    monkeypatch.chdir(tmp_path)  # it exports to where it is
    torch.manual_seed(0)
    yolo = ultralytics.YOLO(f"{architecture}.yaml")
    net = yolo.model.eval()
    pyramid = next(layer for layer in net.model if type(layer).__name__ == "SPPF")
    raw = Path(yolo.export(format="onnx", imgsz=list(HW), simplify=False, batch=1, device="cpu"))
    export = read_raw_export(raw.rename(tmp_path / "raw.onnx"))
    graph = _with_frame_input(export)
    spec, reason = add_embedding(graph, pictures(tmp_path, LEAST_PICTURES))
    assert (spec, reason) == (EmbeddingSpec("embedding", SIZE), "")
    constants = {one.name: numpy_helper.to_array(one) for one in graph.graph.initializer}
    matrix, offset = (constants[f"traffic_vision/embedding/{what}"] for what in ("matrix", "offset"))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    seen: list[np.ndarray] = []
    pyramid.cv2.register_forward_hook(lambda *call: seen.append(call[-1].numpy()))
    for seed in range(3):
        image = np.random.default_rng(seed).integers(0, 60 + 90 * seed, (*HW, 3)).astype(np.uint8)
        (found,) = session.run([spec.output], {session.get_inputs()[0].name: image[None]})
        with torch.no_grad():
            net(torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None] / 255)
        pooled = seen[-1].mean(axis=(2, 3))
        np.testing.assert_allclose(found, pooled @ matrix + offset, rtol=2e-3, atol=2e-3)
    assert len({values.tobytes() for values in seen}) == 3
