"""A model file that gives an embedding beside the detections, from its bytes to a drift alarm's words."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge.drift import DriftMonitor, DriftState, Reference, Verdict, explained, fit, scan
from edge.drift.explaining import drive_words
from edge.drift.features import NAMES, ORIGINS, extract, watched_reference
from edge.drift.own import OF_A_MODEL
from edge.drift.state import Kind, Origin
from edge.perception.decode import InferenceError
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.golden import verify
from edge.perception.hot_swap import SwappableDetector
from edge.perception.metadata import EMBEDDING_SINCE, EmbeddingSpec, MetadataError, check, to_json
from edge.perception.model_check import check_in_child
from edge.perception.model_file import (
    METADATA_KEY,
    ModelFileError,
    describe,
    describe_text,
    parse_model_file,
)
from edge.perception.model_reading import APART_BYTES, read_apart
from tests import models_factory as factory

HW = (64, 96)
OPTIONS = DetectorOptions(threads=1)
PLAIN = factory.rectangles_model(HW)
MATRIX = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
WITH = factory.with_embedding(PLAIN, MATRIX)
EMBEDDED = [name for name, origin in zip(NAMES, ORIGINS, strict=True) if origin is Origin.EMBEDDING]
RATE_HZ = 2.0
SECOND = 1_000_000_000


def test_the_embedding_is_the_pooled_map_times_the_matrix_and_the_detections_are_as_without() -> None:
    detector, plain = (Detector(factory.loaded(data), OPTIONS) for data in (WITH, PLAIN))
    image = factory.picture(HW, (10, 10, 30, 40, "red"), (50, 20, 80, 50, "blue"), grey=90)
    found = detector.detect(image)
    pooled = image.reshape(-1, 3).mean(axis=0)[::-1] / 255
    assert found.embedding is not None and found.embedding.dtype == np.float32
    np.testing.assert_allclose(found.embedding, pooled @ MATRIX, rtol=1e-4, atol=1e-5)
    without = plain.detect(image)
    assert without.embedding is None
    np.testing.assert_array_equal(found.boxes, without.boxes)
    np.testing.assert_array_equal(detector.raw_output(image), plain.raw_output(image))
    assert verify(detector.model, detector).passed


def test_a_file_says_whether_it_has_one_and_which_daemon_reads_it() -> None:
    model, plain = factory.loaded(WITH), factory.loaded(PLAIN)
    assert model.metadata.embedding == EmbeddingSpec("embedding", 4)
    assert describe(model)["embedding"] == {"output": "embedding", "size": 4}
    assert "embedding:      float32[1, 4]" in describe_text(model)
    assert model.metadata.minimum_daemon_version == EMBEDDING_SINCE
    assert plain.metadata.embedding is None and describe(plain)["embedding"] is None
    assert "embedding:      none" in describe_text(plain)
    assert plain.metadata.minimum_daemon_version == "0"
    # What has none is written, byte for byte, as it was before there were embeddings.
    assert "embedding" not in json.loads(to_json(plain.metadata))


def test_it_is_read_apart_checked_in_a_child_and_swapped_in_and_out() -> None:
    large = factory.loaded(
        factory.with_embedding(factory.rectangles_model(HW, drift_prior="x" * APART_BYTES), MATRIX)
    )
    apart = read_apart(large.data, "large", stopping=threading.Event())
    assert apart.metadata.embedding == EmbeddingSpec("embedding", 4)
    check_in_child(large, OPTIONS, timeout_s=60.0, stopping=threading.Event())
    detector = SwappableDetector(Detector(factory.loaded(PLAIN), OPTIONS))
    image = factory.picture(HW)
    sizes = []
    for data in (WITH, PLAIN, factory.with_embedding(PLAIN, MATRIX[:, :2])):
        detector.request(Detector(factory.loaded(data), OPTIONS))
        assert detector.between_frames()
        embedding = detector.active.detect(image).embedding
        sizes.append(None if embedding is None else embedding.shape)
    assert sizes == [(4,), None, (2,)]


def changed(data: bytes, change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load_model_from_string(data)
    change(model)
    return model.SerializeToString()


def document(**fields: Any) -> Callable[[onnx.ModelProto], None]:
    """Change fields of the metadata."""

    def change(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        entry.value = json.dumps({**json.loads(entry.value), **fields})

    return change


def another_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("colour_row", TensorProto.FLOAT, [1, 3]))


def turned_round(model: onnx.ModelProto) -> None:
    first, second = model.graph.output
    outputs = [second, first]
    outputs = [onnx.ValueInfoProto.FromString(one.SerializeToString()) for one in outputs]
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def halves(model: onnx.ModelProto) -> None:
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.FLOAT16


DECLARED = {"output": "embedding", "size": 4}


@pytest.mark.parametrize(
    ("data", "change", "reason"),
    [
        (
            PLAIN,
            document(embedding=DECLARED),
            "1 output, but its metadata declares an embedding",
        ),
        (WITH, document(embedding=None), "2 outputs, a model file without an embedding has one"),
        (WITH, document(embedding={**DECLARED, "size": 5}), "float32[1, 4], but its metadata declares an"),
        (WITH, document(embedding={**DECLARED, "output": "other"}), "of 4 numbers, 'other'"),
        (WITH, document(embedding={**DECLARED, "size": 65}), "'size': expected a whole number from 1 to 64"),
        (WITH, document(embedding={**DECLARED, "size": 0}), "'size': expected a whole number from 1 to 64"),
        (WITH, document(embedding={"size": 4}), "'embedding': the metadata has no field 'output'"),
        (WITH, document(embedding=4), "'embedding': expected an object, found 4"),
        (WITH, another_output, "the graph has 3 outputs, but its metadata declares an embedding"),
        (PLAIN, lambda model: another_output(model) or another_output(model), "the graph has 3 outputs"),
        (WITH, turned_round, "the graph's second output is float32[1, 7, 6]"),
        (WITH, halves, "float16[1, 4], but its metadata declares an embedding"),
    ],
)
def test_a_file_that_is_not_as_it_declares_is_refused_in_words(
    data: bytes, change: Callable[[onnx.ModelProto], object], reason: str
) -> None:
    with pytest.raises(ModelFileError) as refused:
        parse_model_file(changed(data, change), "some.onnx")
    assert reason in str(refused.value) and "\n" not in str(refused.value)


def test_what_could_not_be_read_is_not_written() -> None:
    with pytest.raises(MetadataError, match="'size'"):
        check(replace(factory.loaded(WITH).metadata, embedding=EmbeddingSpec("embedding", 0)))


def test_an_embedding_that_is_not_finite_is_an_error_of_the_frame() -> None:
    broken = factory.loaded(factory.with_embedding(PLAIN, np.full((3, 2), np.inf)))
    with pytest.raises(InferenceError, match=r"not finite \(2 of 2\)"):
        Detector(broken, OPTIONS)


def frames(seed: int, count: int, tint: tuple[float, float, float]) -> list[np.ndarray]:
    """A drive: a street's picture whose colours waver about a tint, blue, green and red."""
    rng = np.random.default_rng(seed)
    levels = np.array(tint) + rng.normal(0, 4, (count, 3))
    noise = rng.integers(0, 12, (8, *HW, 3))
    return [
        np.clip(level + noise[number % 8], 0, 255).astype(np.uint8) for number, level in enumerate(levels)
    ]


def features(data: bytes, images: list[np.ndarray]) -> np.ndarray:
    detector = Detector(factory.loaded(data), OPTIONS)
    rows = []
    for image in images:
        found = detector.detect(image)
        row = extract(image, found.boxes, class_names=detector.class_names, embedding=found.embedding)
        rows.append(row)
    return np.array(rows)


# What the picture itself shows of it is kept out: here the question is the model's view alone.
def alone(rows: np.ndarray) -> np.ndarray:
    kept = np.array([name in EMBEDDED for name in NAMES])
    return np.where(kept, rows, np.float32(np.nan)).astype(np.float32)


DAY = (100.0, 110.0, 120.0)
DUSK = (140.0, 100.0, 90.0)


def reference(rows: Callable[[np.ndarray], np.ndarray] = alone, data: bytes = WITH) -> Reference:
    drives = [rows(features(data, frames(seed, 120, DAY))) for seed in range(6)]
    return fit(drives, RATE_HZ, NAMES, origins=ORIGINS, context="day")


def watched(monitor: DriftMonitor, rows: np.ndarray) -> list[DriftState]:
    states = (monitor.observe(round(at / RATE_HZ * SECOND), row) for at, row in enumerate(rows))
    return [state for state in states if state is not None]


def test_pictures_of_another_kind_move_it_and_the_alarm_names_it() -> None:
    known = reference()
    assert watched(DriftMonitor(known), alone(features(WITH, frames(50, 240, DAY))))[-1].alarm is False
    states = watched(DriftMonitor(known), alone(features(WITH, frames(51, 240, DUSK))))
    alarm = next(state for state in states if state.alarm)
    carriers = {one.name for one in alarm.features if one.verdict is Verdict.ALARM}
    assert carriers and carriers <= set(EMBEDDED)
    told = explained(alarm, drive_words)
    assert told.explanation.startswith("model's view of the picture (embedding ")
    assert "sigma" in told.explanation and told.kind is Kind.OTHER


def said_of(state: DriftState) -> tuple[object, ...]:
    return state.verdict, state.notes, {one.name: one.verdict for one in state.features}


def test_a_model_without_one_is_judged_as_before_and_it_is_said() -> None:
    known = reference(lambda rows: rows, PLAIN)
    assert not any(one.known for one in known.contexts[0].features if one.origin is Origin.EMBEDDING)
    for series in (frames(60, 240, DAY), frames(61, 240, DUSK)):
        rows = features(PLAIN, series)
        states = watched(DriftMonitor(known), rows)
        others = [number for number, origin in enumerate(ORIGINS) if origin is not Origin.EMBEDDING]
        names, origins = ([given[number] for number in others] for given in (NAMES, ORIGINS))
        drives = [features(PLAIN, frames(seed, 120, DAY))[:, others] for seed in range(6)]
        before = watched(
            DriftMonitor(fit(drives, RATE_HZ, names, origins=origins, context="day")), rows[:, others]
        )
        alarms = [
            [{one.name for one in state.features if one.verdict is Verdict.ALARM} for state in judged]
            for judged in (states, before)
        ]
        assert [state.alarm for state in states] == [state.alarm for state in before]
        distances = [
            [{one.name: (one.d, one.false_alarms_per_day) for one in state.features} for state in judged]
            for judged in (states, before)
        ]
        assert all(given.items() <= found.items() for found, given in zip(*distances, strict=True))
        assert not any(names & set(EMBEDDED) for names in alarms[0])
        assert {one.verdict for one in states[-1].features if one.name in EMBEDDED} == {Verdict.PAUSED}
        said = "; ".join(states[-1].notes)
        assert "the model gives no embedding to judge" in said and "embedding_1" not in said
        assert [said_of(state) for state in scan(known, rows, RATE_HZ)] == [said_of(one) for one in states]


def test_a_model_without_one_under_a_reference_that_knows_it_is_said_and_never_alarms() -> None:
    rows = features(PLAIN, frames(70, 240, DUSK))
    states = watched(DriftMonitor(reference(lambda rows: rows)), rows)
    assert {one.verdict for one in states[-1].features if one.name in EMBEDDED} == {Verdict.PAUSED}
    (missing,) = (
        note for note in states[-1].notes if note.startswith("missing in most of the latest frames")
    )
    assert missing.endswith(", ".join(EMBEDDED))
    assert any(state.alarm for state in states), "the picture is judged all the same"


def test_a_reference_without_it_has_it_learned_and_then_it_alarms() -> None:
    others = [number for number, origin in enumerate(ORIGINS) if origin is not Origin.EMBEDDING]
    drives = [features(PLAIN, frames(seed, 120, DAY))[:, others] for seed in range(6)]
    old = fit(
        drives,
        RATE_HZ,
        [NAMES[number] for number in others],
        origins=[ORIGINS[number] for number in others],
        context="day",
    )
    monitor = DriftMonitor(watched_reference(old), learn_s=120)
    rows = features(WITH, [*frames(80, 600, DAY), *frames(81, 200, DUSK)])
    rows[:, others] = features(PLAIN, frames(82, 800, DAY))[:, others]
    states = watched(monitor, rows)
    assert f"not in the reference, being learned: {', '.join(EMBEDDED)}" in "; ".join(states[100].notes)
    alarming = {one.name for one in states[-1].features if one.verdict is Verdict.ALARM}
    assert alarming & set(EMBEDDED)
    assert not any(state.alarm for state in states if state.time_ns < 300 * SECOND)


def test_another_model_makes_it_void_as_it_does_with_the_detections() -> None:
    known = reference(lambda rows: rows)
    void = known.without(OF_A_MODEL)
    assert all(one.known for one in known.contexts[0].features if one.name in EMBEDDED)
    assert not any(one.known for one in void.contexts[0].features if one.name in EMBEDDED)
    monitor = DriftMonitor(known)
    watched(monitor, features(WITH, frames(90, 60, DAY)))
    monitor.model_changed()
    assert not any(one.known for one in monitor.reference.contexts[0].features if one.name in EMBEDDED)
