from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from edge.perception import providers
from edge.perception.detector import Detector, DetectorOptions, ProviderError
from tests import models_factory as factory

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"


@pytest.fixture
def built_with(monkeypatch):
    """Pretend that this ONNX Runtime was built with certain providers."""

    def pretend(*names):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(names))

    return pretend


def load(*names: str) -> Detector:
    return Detector(factory.loaded(factory.rectangles_model()), DetectorOptions(providers=names, threads=1))


def test_short_and_full_names_mean_the_same(built_with):
    built_with(TENSORRT, CUDA, CPU)

    assert providers.resolve(["tensorrt", "CUDA", CPU]) == (TENSORRT, CUDA, CPU)


@pytest.mark.parametrize("names", [("cuda",), ("cpu", "cuda"), ("nonsense",), ("",)])
def test_a_provider_that_is_not_built_in_is_an_error_naming_what_is(built_with, names):
    built_with(OPENVINO, CPU)

    with pytest.raises(ProviderError, match=f"'{names[-1]}' is not in this .*{OPENVINO}, {CPU}"):
        load(*names)


def test_none_and_one_twice_are_errors():
    with pytest.raises(ProviderError, match="no execution provider"):
        load()
    with pytest.raises(ProviderError, match="twice"):
        load("cpu", CPU)


def test_a_provider_that_does_not_start_is_an_error_though_onnx_runtime_falls_back(built_with):
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    built_with(CUDA, CPU)

    with (
        pytest.warns(UserWarning),
        pytest.raises(ProviderError, match=f"'{CUDA}' is built in but did not start"),
    ):
        load("cuda", "cpu")


def test_the_model_runs_on_what_was_asked_for():
    image = factory.picture((64, 96), (8, 8, 24, 24, "red"))

    assert len(load("cpu").detect(image).boxes) == 1


def test_options_keep_the_model_what_it_was_judged_as():
    cache = Path("/engines/digest")
    options = dict(
        providers.with_options((OPENVINO, TENSORRT, CUDA, CPU), threads=3, precision="fp32", cache=cache)
    )

    assert options[OPENVINO]["precision"] == "FP32" and options[OPENVINO]["num_of_threads"] == "3"
    assert options[TENSORRT]["trt_fp16_enable"] == "False"
    assert options[TENSORRT]["trt_engine_cache_path"] == str(cache)
    assert options[CUDA]["use_tf32"] == "0"
    assert options[CPU] == {}
    half = dict(providers.with_options((TENSORRT,), threads=1, precision="fp16", cache=None))
    assert half[TENSORRT]["trt_fp16_enable"] == "True" and "trt_engine_cache_path" not in half[TENSORRT]


def test_a_thread_per_core_is_a_number_to_openvino(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    options = dict(providers.with_options((OPENVINO,), threads=0, precision="fp32", cache=None))

    assert options[OPENVINO]["num_of_threads"] == "6"  # "0" would be one thread
