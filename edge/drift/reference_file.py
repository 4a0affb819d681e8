"""A reference as a file: JSON with arrays in base64, read as untrusted bytes.

Two forms say the same: `PLAIN`, an object of some 850 bytes for each feature, which every daemon reads; and
`PACKED`, one text of a few kB for all features of a context (see `edge.drift.reference_pack`), which daemons
read from PACKED_SINCE on. Which of them a file has makes no difference to a reference's digest.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.drift.calibration import BINS, P_LEVELS, WINDOWS_TAU, Tail
from edge.drift.drop import DropModel
from edge.drift.reference import (
    MAX_NAME,
    ContextReference,
    DriftReferenceError,
    Edges,
    FeatureReference,
    Reference,
)
from edge.drift.reference_pack import pack, unpack
from edge.drift.state import Origin, Scope

PLAIN, PACKED = 1, 2
# A change that an older reader must not ignore raises it.
VERSION = PACKED
PACKED_SINCE = "0.3.0"
MAX_BYTES = 2**24

_Format = Literal["traffic-vision drift reference"]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_AtLeast0 = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Packed = Annotated[str, Field(max_length=4 * 4 * BINS)]


class _Part(BaseModel):
    # Unknown fields of a known version are ignored, so that one may be added.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Window(_Part):
    frames: Annotated[int, Field(ge=1, le=2**20)]
    slope: Annotated[float, Field(le=0, allow_inf_nan=False)]
    offset: _Finite


class _Tail(_Window):
    quantiles: _Packed


class _Known(_Part):
    name: _Name
    origin: Origin
    frames: Annotated[int, Field(ge=0, le=2**53)]
    drives: Annotated[int, Field(ge=0, le=2**31)]
    mean: _Finite
    sigma: _AtLeast0
    drive_sigma: _AtLeast0
    margin: _AtLeast0
    tau: Annotated[float, Field(ge=1, allow_inf_nan=False)]


class _Feature(_Known):
    edges: _Packed
    lower: _Packed
    upper: _Packed
    tails: Annotated[list[_Tail], Field(max_length=len(WINDOWS_TAU))]


class _AnyContext(_Part):
    name: _Name
    # None: nothing misfits.
    misfit: _AtLeast0 | None
    # What each form says is its own; here, it keeps its place among the fields, and so a file its bytes.
    features: Any
    scope: Scope = Scope.SERIES
    joint: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0


class _Context(_AnyContext):
    features: Annotated[list[_Feature], Field(min_length=1, max_length=256)]


class _PackedContext(_AnyContext):
    features: Annotated[str, Field(max_length=2**20)]


class _DropFit(_Part):
    features: Annotated[list[_Name], Field(max_length=256)]
    slopes: Annotated[list[_Finite], Field(max_length=256)]
    residual: _AtLeast0
    map50: Annotated[float, Field(ge=0, le=1)]
    method: Annotated[str, Field(max_length=1000)]


class _Drop(_DropFit):
    alternatives: Annotated[list[_DropFit], Field(max_length=16)] = []


class _Head(_Part):
    format: _Format
    version: Annotated[int, Field(ge=1)]


class _AnyDocument(_Head):
    rate_hz: Annotated[float, Field(gt=0, lt=1e4)]
    target_hours: Annotated[float, Field(gt=0, lt=1e6)]
    contexts: Any
    drop: _Drop | None = None


class _Document(_AnyDocument):
    contexts: Annotated[list[_Context], Field(min_length=1, max_length=64)]


class _PackedDocument(_AnyDocument):
    contexts: Annotated[list[_PackedContext], Field(min_length=1, max_length=64)]
    names: Annotated[list[_Name], Field(min_length=1, max_length=256)]
    origins: list[Origin]


def version_for(oldest_daemon: str) -> int:
    """The form that all daemons from a version on read; of a version that is not numbers and dots, any do."""
    try:
        oldest, since = ([int(part) for part in text.split(".")] for text in (oldest_daemon, PACKED_SINCE))
    except ValueError:
        return PLAIN
    longest = max(len(oldest), len(since))
    asked, needed = (each + [0] * (longest - len(each)) for each in (oldest, since))
    return PACKED if asked >= needed else PLAIN


def version_of(text: str) -> int:
    """The form that a file's text has.

    Raises:
        DriftReferenceError: it is no reference.
    """
    try:
        return _Head.model_validate_json(text).version
    except ValidationError as error:
        raise _not_one(error) from None


def encode(reference: Reference, version: int = VERSION) -> bytes:
    """Write the file."""
    known = reference.contexts
    document: _AnyDocument
    if version == PLAIN:
        plain = [_Context(**_about(one), features=[_packed(each) for each in one.features]) for one in known]
        document = _Document(**_head(reference, PLAIN), contexts=plain)
    else:
        names, origins = list(reference.names), list(reference.origins)
        packed = [_PackedContext(**_about(one), features=pack(one.features)) for one in known]
        document = _PackedDocument(**_head(reference, PACKED), names=names, origins=origins, contexts=packed)
    # What came later is left out where it says nothing: an older file keeps its bytes, and so its digest.
    return document.model_dump_json(exclude_defaults=True).encode()


def decode(data: bytes) -> Reference:
    """Read the file, each field checked.

    Raises:
        DriftReferenceError: it is none; the message names the field.
    """
    if len(data) > MAX_BYTES:
        raise DriftReferenceError(f"a drift reference of {len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        head = _Head.model_validate_json(data)
        if head.version > VERSION:
            raise DriftReferenceError(
                f"a drift reference of version {head.version}, this program reads up to {VERSION}: "
                "update traffic-vision"
            )
        if head.version == PLAIN:
            plain = _Document.model_validate_json(data)
            contexts = tuple(_context(one, _of_plain(one)) for one in plain.contexts)
            document: _AnyDocument = plain
        else:
            packed = _PackedDocument.model_validate_json(data)
            kinds = _kinds(packed)
            contexts = tuple(_context(one, _of_packed(one, kinds)) for one in packed.contexts)
            document = packed
    except ValidationError as error:
        raise _not_one(error) from None
    features = [[(feature.name, feature.origin) for feature in context.features] for context in contexts]
    names = [name for name, _ in features[0]]
    if any(other != features[0] for other in features) or len(set(names)) < len(names):
        raise DriftReferenceError("not a drift reference: the contexts differ in their features")
    if len({context.name for context in contexts}) < len(contexts):
        raise DriftReferenceError("not a drift reference: two contexts have the same name")
    drop = None if document.drop is None else _unpacked_drop(document.drop)
    return Reference(document.rate_hz, document.target_hours, contexts, drop)


def _not_one(error: ValidationError) -> DriftReferenceError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return DriftReferenceError(f"not a drift reference: {place}: {first['msg']}")


def _head(reference: Reference, version: int) -> dict[str, Any]:
    """What both forms say of a reference alike."""
    return {
        "format": "traffic-vision drift reference",
        "version": version,
        "rate_hz": reference.rate_hz,
        "target_hours": reference.target_hours,
        "drop": None if reference.drop is None else _packed_drop(reference.drop),
    }


def _about(context: ContextReference) -> dict[str, Any]:
    """What both forms say of a context alike."""
    return {
        "name": context.name,
        "misfit": context.misfit if math.isfinite(context.misfit) else None,
        "scope": context.scope,
        "joint": context.joint,
    }


def _kinds(document: _PackedDocument) -> list[tuple[str, Origin]]:
    if len(document.origins) != len(document.names):
        raise DriftReferenceError("not a drift reference: origins: it needs one for each name")
    return list(zip(document.names, document.origins, strict=True))


def _context(part: _AnyContext, features: tuple[FeatureReference, ...]) -> ContextReference:
    misfit = math.inf if part.misfit is None else part.misfit
    return ContextReference(part.name, features, misfit, part.scope, part.joint)


def _of_plain(part: _Context) -> tuple[FeatureReference, ...]:
    return tuple(
        _checked(
            one,
            [_unpack(text) for text in (one.edges, one.lower, one.upper)],
            [(tail, _unpack(tail.quantiles)) for tail in one.tails],
            part.name,
        )
        for one in part.features
    )


def _of_packed(part: _PackedContext, kinds: Sequence[tuple[str, Origin]]) -> tuple[FeatureReference, ...]:
    try:
        found = unpack(part.features, len(kinds))
    except DriftReferenceError as error:
        raise DriftReferenceError(
            f"not a drift reference: features of context {part.name}: {error}"
        ) from None
    features = []
    for (name, origin), one in zip(kinds, found, strict=True):
        mean, sigma, drive_sigma, margin, tau = one.scalars
        try:
            known = _Known(
                name=name, origin=origin, frames=one.frames, drives=one.drives, mean=mean, sigma=sigma,
                drive_sigma=drive_sigma, margin=margin, tau=tau,
            )  # fmt: skip
            tails = [
                (_Window(frames=tail.frames, slope=tail.slope, offset=tail.offset), np.array(tail.quantiles))
                for tail in one.tails
            ]
        except ValidationError as error:
            raise DriftReferenceError(f"{_not_one(error)} ({name} in context {part.name})") from None
        features.append(_checked(known, [one.edges, one.lower, one.upper], tails, part.name))
    return tuple(features)


def _packed_drop(drop: DropModel) -> _Drop:
    alternatives = [_DropFit(**_fields_of_fit(one)) for one in drop.alternatives]
    return _Drop(**_fields_of_fit(drop), alternatives=alternatives)


def _fields_of_fit(drop: DropModel) -> dict[str, Any]:
    return {
        "features": list(drop.features),
        "slopes": list(drop.slopes),
        "residual": drop.residual,
        "map50": drop.map50,
        "method": drop.method,
    }


def _unpacked_drop(part: _Drop) -> DropModel:
    return replace(_unpacked_fit(part), alternatives=tuple(map(_unpacked_fit, part.alternatives)))


def _unpacked_fit(part: _DropFit) -> DropModel:
    if len(part.slopes) != len(part.features) or len(set(part.features)) < len(part.features):
        raise DriftReferenceError("not a drift reference: drop: it needs one slope for each feature")
    return DropModel(tuple(part.features), tuple(part.slopes), part.residual, part.map50, part.method)


def _packed(feature: FeatureReference) -> _Feature:
    return _Feature(
        name=feature.name,
        origin=feature.origin,
        frames=feature.frames,
        drives=feature.drives,
        mean=feature.mean,
        sigma=feature.sigma,
        drive_sigma=feature.drive_sigma,
        margin=feature.margin,
        tau=feature.tau,
        edges=_pack(feature.edges),
        lower=_pack(feature.lower),
        upper=_pack(feature.upper),
        tails=[
            _Tail(
                frames=tail.frames,
                slope=tail.slope,
                offset=tail.offset,
                quantiles=_pack(np.array(tail.quantiles)),
            )
            for tail in feature.tails
        ],
    )


def _checked(
    part: _Known, arrays: Sequence[Edges], windows: Sequence[tuple[_Window, Edges]], context: str
) -> FeatureReference:
    """The feature, if its arrays make sense: edges, lower, upper; each window with its table."""

    def need(condition: bool, what: str) -> None:
        if not condition:
            raise DriftReferenceError(f"not a drift reference: {part.name} in context {context}: {what}")

    edges, lower, upper = arrays
    need(len(edges) == len(lower) == len(upper) < BINS, "its arrays differ in length or are too long")
    need(len(windows) == (len(WINDOWS_TAU) if len(edges) else 0), "it needs a tail for each window")
    if windows:
        tables = [table for _, table in windows]
        need(part.frames > 0 and part.sigma > 0, "it is judged, and was never seen to change")
        need(_rising(edges, strictly=True), "its edges do not rise")
        need(all(_rising(shares) and _within_0_1(shares) for shares in (lower, upper)), "a share is none")
        need(bool((lower <= upper).all()), "its band is upside down")
        need(all(len(table) == len(P_LEVELS) and _rising(table) for table in tables), "a table is none")
        need(all(_within_0_1(table) for table in tables), "a distance is not from 0 to 1")
        lengths = [tail.frames for tail, _ in windows]
        need(lengths == sorted(lengths), "its windows are not in order")
    tails = tuple(
        Tail(tail.frames, tail.slope, tail.offset, tuple(float(d) for d in table)) for tail, table in windows
    )
    return FeatureReference(
        part.name, part.origin, part.frames, part.drives, part.mean, part.sigma, part.drive_sigma,
        part.margin, part.tau, edges, lower, upper, tails,
    )  # fmt: skip


def _pack(values: npt.NDArray[np.float64]) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _unpack(text: str) -> npt.NDArray[np.float64]:
    try:
        data = base64.b64decode(text, validate=True)
        return np.frombuffer(data, "<f4").astype(np.float64)
    except ValueError:
        raise DriftReferenceError("not a drift reference: an array is not base64 of float32") from None


def _rising(values: npt.NDArray[np.float64], *, strictly: bool = False) -> bool:
    steps = np.diff(values)
    return bool(np.isfinite(values).all() and (steps > 0 if strictly else steps >= 0).all())


def _within_0_1(values: npt.NDArray[np.float64]) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())
