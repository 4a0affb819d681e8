"""`drift attach`: a model file takes a drift reference along as its prior; nothing else in it changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cloud.datasets.files import write_file
from cloud.release.errors import ReleaseError
from edge.drift import DriftReferenceError, Reference, Scope
from edge.drift.features import prior_text, require_features
from edge.drift.reference_file import VERSION, version_of
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.golden import verify
from edge.perception.model_file import ModelFile, parse_model_file, put_metadata, read_model_file
from edge.perception.onnx_reading import parse_onnx


class AttachError(ReleaseError):
    """The reference cannot go with the model; the message says why."""


def attach(reference: Path, model: Path, output: Path) -> ModelFile:
    """Write the model file again with the reference as its prior, whole, or write nothing.

    Every vehicle that gets the model judges by it: it is the fleet's then and promises nothing of one camera.

    Args:
        reference: the reference's file, as `drift fit` writes it.
        model: the model file; a prior that it has is replaced.
        output: where the result goes; it may be `model` itself.

    Returns:
        What was written, read as a vehicle reads it.

    Raises:
        AttachError: the reference is of other features than the daemon's, or the golden frames fail.
        TrafficVisionError: a file cannot be read or is none (`DriftReferenceError`, `ModelFileError`), or
            cannot be written (`FileError`).
    """
    result = attached(read_model_file(model), Reference.load(reference), str(reference))
    write_file(output, result.data)
    return result


def attached(model: ModelFile, reference: Reference, origin: str) -> ModelFile:
    """The model file with the reference as its prior, judged as it will be written.

    Args:
        model: the model.
        reference: goes into it.
        origin: where the reference came from, for messages.

    Raises:
        AttachError: see `attach`.
    """
    try:
        require_features(reference)
    except DriftReferenceError as error:
        raise AttachError(f"{origin}: {error}") from None
    result = with_prior(model, reference.scoped(Scope.FLEET), origin, VERSION)
    report = verify(result, Detector(result, DetectorOptions(providers=("CPUExecutionProvider",))))
    if not report.passed:
        raise AttachError(f"{model.path or model.digest[:12]}: {report.reason}")
    return result


def with_prior(model: ModelFile, reference: Reference, origin: str, version: int | None = None) -> ModelFile:
    """The model file with this reference as its prior; the graph, and so what it finds, stays as it is.

    Args:
        model: the model.
        reference: goes into it as it is.
        origin: where the reference came from, for messages.
        version: of the file that the prior is written as (`reference_file`); None: of the one that was there,
            the latest where there was none.

    Raises:
        ModelFileError: it becomes too large to be read again.
    """
    graph = parse_onnx(model.data)
    text = prior_text(reference, version or _version(model.metadata.drift_prior))
    put_metadata(graph, replace(model.metadata, drift_prior=text))
    result = parse_model_file(graph.SerializeToString(deterministic=True), f"the model file with {origin}")
    assert result.metadata.drift_prior is not None
    Reference.from_bytes(result.metadata.drift_prior.encode())
    return result


def _version(before: str | None) -> int:
    if before is None:
        return VERSION
    try:
        return min(version_of(before), VERSION)
    except DriftReferenceError:  # it goes
        return VERSION
