"""Execution providers: what ONNX Runtime runs a model on, in the configuration's order.

ONNX Runtime falls back in silence to what is left; here a provider that was asked for and is not there is
an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from edge.errors import TrafficVisionError

_SUFFIX = "ExecutionProvider"
_TENSORRT = "Tensorrt" + _SUFFIX
_OPENVINO = "OpenVINO" + _SUFFIX
_CUDA = "CUDA" + _SUFFIX


class ProviderError(TrafficVisionError):
    """An execution provider that was asked for is not there; the message says which are."""


def resolve(names: Sequence[str]) -> tuple[str, ...]:
    """Full names of the providers asked for: `cuda` and `CUDAExecutionProvider` are the same.

    Raises:
        ProviderError: none was asked for, one twice, or one that this ONNX Runtime was not built with.
    """
    available = onnxruntime.get_available_providers()
    by_key = {name.lower(): name for name in available}
    by_key |= {name.removesuffix(_SUFFIX).lower(): name for name in available}
    if not names:
        raise ProviderError(f"no execution provider was asked for; there are {', '.join(available)}")
    for name in names:
        if name.lower() not in by_key:
            raise ProviderError(
                f"execution provider '{name}' is not in this ONNX Runtime ({onnxruntime.__version__});"
                f" there are {', '.join(available)}"
            )
    resolved = tuple(by_key[name.lower()] for name in names)
    if len(set(resolved)) < len(resolved):
        raise ProviderError(f"an execution provider was asked for twice: {', '.join(names)}")
    return resolved


def builds_engines(names: Sequence[str]) -> bool:
    """Whether one of these providers, by their full names, takes long to build what it could keep."""
    return _TENSORRT in names or _OPENVINO in names


def with_options(
    names: Sequence[str], *, threads: int, precision: str, cache: Path | None
) -> list[tuple[str, dict[str, Any]]]:
    """Pair resolved names with the options that this project runs them with.

    Args:
        names: full names, as `resolve` gives them.
        threads: for providers with a thread pool of their own; 0 for one per core.
        precision: the model file's.
        cache: folder that the provider reads engines of this model from and writes them to, None for none.
    """
    return [(name, _options(name, threads, precision, cache)) for name in names]


def require_started(asked: Sequence[str], session: onnxruntime.InferenceSession) -> None:
    """Check that the session runs on what was asked for.

    Raises:
        ProviderError: a provider was built in but did not start (no device, driver or library).
    """
    started = session.get_providers()
    missing = [name for name in asked if name not in started]
    if missing:
        raise ProviderError(
            f"execution provider '{missing[0]}' is built in but did not start (no device, driver or"
            f" library?); this machine started {', '.join(started)}"
        )


def _options(name: str, threads: int, precision: str, cache: Path | None) -> dict[str, Any]:
    if name == _OPENVINO:
        # Its own default on a CPU is bfloat16, unasked; the model is to stay what it was judged as.
        # It reads 0 as one thread, with a warning.
        own_threads = threads or os.cpu_count() or 1
        options = {"device_type": "CPU", "precision": "FP32", "num_of_threads": str(own_threads)}
        return options if cache is None else {**options, "cache_dir": str(cache)}
    if name == _TENSORRT:
        options = {"trt_fp16_enable": str(precision == "fp16"), "trt_int8_enable": str(precision == "int8")}
        if cache is not None:
            options |= {
                "trt_engine_cache_enable": "True",
                "trt_engine_cache_path": str(cache),
                # The default is the graph's own name, which need not be a file's.
                "trt_engine_cache_prefix": "engine",
                "trt_timing_cache_enable": "True",
                "trt_timing_cache_path": str(cache),
            }
        return options
    if name == _CUDA:
        # Shapes never change, so the search is paid once; TF32 would change what was judged.
        return {"cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0"}
    return {}
