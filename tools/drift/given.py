"""The reference that is given by hand: a file of `drift fit`, a camera's own, or the one in a model file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edge.drift import DriftReferenceError, Reference
from edge.drift.features import fleet_prior
from edge.drift.own import FORMAT, OF_A_MODEL, Own, merged
from edge.perception.model_file import ModelFile, read_model_file
from tools.drift.values import Values, values_beside

_NO_VALUES = "the exact test needs values of the reference's own frames, which `drift fit` keeps; {} has none"


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What is judged by.

    Attributes:
        reference: itself.
        origin: whose it is, a sentence for people; empty of a file of `drift fit`.
        values: of its frames, for exact tests; None: there are none.
        no_values: why not; empty: there are some.
    """

    reference: Reference
    origin: str
    values: Values | None
    no_values: str


def given_reference(path: Path, model: ModelFile | None) -> Given:
    """Read what is judged by, as a vehicle judges by it.

    Args:
        path: a reference as `drift fit` writes it; a camera's own (`STATE/drift/CAMERA/own.json`), to which
            that in the file of `model` is added, as on the vehicle; or a model file, named .onnx.
        model: that finds what is in the frames; None: the picture alone is judged. What is known of what
            another model finds is left out.

    Raises:
        TrafficVisionError: it cannot be read, is none of these, or the model file brings no reference.
    """
    if path.suffix == ".onnx":
        return _of_model(path, model)
    if _is_own(path):
        return _own(path, model)
    reference = Reference.load(path)
    values, trouble = values_beside(path, reference)
    return Given(reference, "", values, trouble)


def _of_model(path: Path, model: ModelFile | None) -> Given:
    brings = read_model_file(path)
    reference = _prior(brings)
    if reference is None:
        raise DriftReferenceError(
            f"the model file {str(path)!r} brings no drift reference: `drift attach` puts one in"
        )
    origin = "It is the one in a model file, of the fleet's other cameras."
    if model is not None and model.digest != brings.digest:
        reference = reference.without(OF_A_MODEL)
        origin += " That is another model: what this one finds was learned on the way."
    return Given(reference, origin, None, _NO_VALUES.format("a model file"))


def _own(path: Path, model: ModelFile | None) -> Given:
    own = Own.load(path)
    origin = "It is a camera's own."
    if model is None:
        return Given(own.reference, origin, None, _NO_VALUES.format("a camera's own reference"))
    if own.model != model.digest:
        origin += " What it knows of detections is of another model, and left out."
    try:
        known = merged(own, _prior(model), model.digest)
        if known is not None and known.digest != own.of(model.digest).reference.digest:
            origin += " Where it is silent, the reference in the model file judges, as on the vehicle."
    except DriftReferenceError as error:
        known = merged(own, None, model.digest)
        origin += f" It judges without the reference in the model file, as on the vehicle: {error}."
    assert known is not None  # there is the own one
    return Given(known, origin, None, _NO_VALUES.format("a camera's own reference"))


def _prior(model: ModelFile) -> Reference | None:
    text = model.metadata.drift_prior
    return None if text is None else fleet_prior(text)


def _is_own(path: Path) -> bool:
    """Whether a file says that it is a camera's own reference; one that is not read says nothing."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT
