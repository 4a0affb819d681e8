"""ONNX Runtime and its providers, and the model on them."""

from __future__ import annotations

import threading
from importlib.metadata import PackageNotFoundError, version

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, failure, ok
from edge.errors import TrafficVisionError

# They overwrite each other's files: with two of them, the last one installed runs, or neither.
WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


def providers(config: EdgeConfig) -> list[Finding]:
    """Whether one ONNX Runtime is installed, and has the providers that are asked for."""
    found = {name: installed for name in WHEELS if (installed := _version(name))}
    findings = [judge_wheels(found)]
    try:
        import onnxruntime

        from edge.perception.providers import resolve
    except ImportError as error:
        return [*findings, failure("providers", f"ONNX Runtime does not load: {error}", "install it anew")]
    try:
        asked = resolve(config.model.providers)
    except TrafficVisionError as error:
        advice = "change model.providers, or install the extra that has it: edge, edge-gpu or edge-openvino"
        return [*findings, failure("providers", str(error), advice)]
    there = ", ".join(onnxruntime.get_available_providers())
    findings.append(ok("providers", f"{', '.join(asked)}, of {there}"))
    return findings


def judge_wheels(found: dict[str, str]) -> Finding:
    """Judge which of `WHEELS` are installed, with their versions."""
    named = ", ".join(f"{name} {installed}" for name, installed in found.items())
    if len(found) == 1:
        return ok("onnxruntime", named)
    if found:
        return failure(
            "onnxruntime",
            f"{named} overwrite each other",
            f"pip uninstall {' '.join(found)}, then install one of them",
        )
    return failure(
        "onnxruntime", "none is installed", "pip install 'traffic-vision[edge]', or NVIDIA's own wheel"
    )


def model(config: EdgeConfig) -> list[Finding]:
    """Whether the factory's model loads and finds what its golden frames hold, in a child process."""
    from edge.perception.detector import DetectorOptions
    from edge.perception.model_check import check_in_child
    from edge.perception.model_file import read_model_file

    options = DetectorOptions(providers=config.model.providers, threads=config.model.threads)
    try:
        file = read_model_file(config.model.factory)
        report = check_in_child(
            file,
            options,
            timeout_s=config.model.check_timeout_s,
            stopping=threading.Event(),
            memory_bytes=config.model.check_memory_bytes,
        )
    except TrafficVisionError as error:
        return [failure("model", str(error), "give model.factory a model file that passes its check")]
    return [
        ok("model", file.summary()),
        ok(
            "inference",
            f"{options.threads or 'all'} threads; loaded in {report.load_s:.2f} s,"
            f" {report.golden_frames} golden frames verified",
        ),
        ok("drift", _drift(config, bool(file.metadata.drift_prior))),
    ]


def _drift(config: EdgeConfig, has_prior: bool) -> str:
    if config.drift is None:
        return "off"
    own = "as the model file says" if has_prior else "learned on the way"
    return (
        f"{config.drift.rate_hz:g} frames/s, one false alarm in {config.drift.target_hours:g} h,"
        f" reference {config.drift.reference or own}"
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
