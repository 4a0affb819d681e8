"""A monitor at rest as a file: JSON with arrays in base64, read as untrusted bytes."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.drift.calibration import WINDOWS_TAU
from edge.drift.contexts import Following
from edge.drift.memory import ContextSnapshot, Snapshot
from edge.drift.reference import ContextReference, DriftReferenceError, Reference
from edge.drift.state import Verdict
from edge.drift.unknown import UnknownSnapshot

VERSION = 1
MAX_BYTES = 2**26

_Share = Annotated[float, Field(ge=0, le=1)]
_Time = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Context(_Part):
    values: list[str]
    latched: list[list[bool]]
    # Files from before it was kept do without.
    alarmed_ns: list[_Time] = []
    missing: list[_Share] = []
    judged_ns: _Time = 0
    learning: dict[str, str]
    learning_ns: dict[str, Annotated[int, Field(ge=0, lt=2**63)]] = {}
    needed: dict[str, Annotated[int, Field(ge=1, lt=2**63)]] = {}
    infinite: list[bool] = []


class _Unknown(_Part):
    frames: Annotated[int, Field(ge=0, le=2**20)]
    # Eight frames a byte.
    misfits: str
    latched: list[bool]
    alarmed_ns: _Time


class _Following(_Part):
    current: Annotated[int, Field(ge=0)]
    levels: list[Annotated[float, Field(allow_inf_nan=False)]]
    misfit: _Share
    unknown_share: _Share


class _Document(_Part):
    format: Literal["traffic-vision drift monitor"]
    version: Annotated[int, Field(ge=1, le=VERSION)]
    given: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    # The reference's own file.
    reference: str
    contexts: list[_Context]
    past: str | None
    following: _Following
    unknown: _Unknown | None = None
    verdict: Verdict | None
    since_ns: _Time
    last_ns: _Time | None
    step_s: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None


def encode(snapshot: Snapshot) -> bytes:
    """Write the file."""
    contexts = [
        _Context(
            values=[_pack(values) for values in context.values],
            latched=context.latched.tolist(),
            alarmed_ns=context.alarmed_ns.tolist(),
            missing=context.missing.tolist(),
            judged_ns=context.judged_ns,
            learning={str(number): _pack(values) for number, values in context.learning.items()},
            learning_ns={str(number): spent for number, spent in context.learning_ns.items()},
            needed={str(number): frames for number, frames in context.needed.items()},
            infinite=[] if context.infinite is None else context.infinite.tolist(),
        )
        for context in snapshot.contexts
    ]
    document = _Document(
        format="traffic-vision drift monitor",
        version=VERSION,
        given=snapshot.given_digest,
        reference=snapshot.reference.to_bytes().decode(),
        contexts=contexts,
        past=None if snapshot.past is None else snapshot.past.to_bytes().decode(),
        following=_Following(
            current=snapshot.following.current,
            levels=list(snapshot.following.levels),
            misfit=snapshot.following.misfit,
            unknown_share=snapshot.following.unknown_share,
        ),
        unknown=None if snapshot.unknown is None else _packed_unknown(snapshot.unknown),
        verdict=snapshot.verdict,
        since_ns=snapshot.since_ns,
        last_ns=snapshot.last_ns,
        step_s=snapshot.step_s,
    )
    return document.model_dump_json().encode()


def decode(data: bytes) -> Snapshot:
    """Read the file, each field checked.

    Raises:
        DriftReferenceError: it is none; the message names what is wrong.
    """
    if len(data) > MAX_BYTES:
        raise DriftReferenceError(f"a saved drift monitor of {len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        document = _Document.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DriftReferenceError(f"not a saved drift monitor: {place}: {first['msg']}") from None
    reference = Reference.from_bytes(document.reference.encode())
    past = None if document.past is None else Reference.from_bytes(document.past.encode())
    following, count = document.following, len(reference.contexts)
    if (
        len(document.contexts) != count
        or following.current >= count
        or len(following.levels) not in (0, count)
        or (past is not None and past.names != reference.names)
    ):
        raise DriftReferenceError("not a saved drift monitor: its contexts are not those of its reference")
    contexts = tuple(
        _unpacked(part, context) for part, context in zip(document.contexts, reference.contexts, strict=True)
    )
    return Snapshot(
        given_digest=document.given,
        reference=reference,
        contexts=contexts,
        past=past,
        following=Following(
            following.current, tuple(following.levels), following.misfit, following.unknown_share
        ),
        unknown=None if document.unknown is None else _unpacked_unknown(document.unknown),
        verdict=document.verdict,
        since_ns=document.since_ns,
        last_ns=document.last_ns,
        step_s=document.step_s,
    )


def _unpacked(part: _Context, context: ContextReference) -> ContextSnapshot:
    values = tuple(_unpack(text) for text in part.values)
    if not all(np.isfinite(series).all() for series in values):
        raise DriftReferenceError("not a saved drift monitor: an array is not of finite numbers")
    unknown = {str(number) for number, feature in enumerate(context.features) if not feature.known}
    shape_fits = len(part.latched) == len(WINDOWS_TAU) and all(
        len(row) == len(context.features) for row in part.latched
    )
    rows = (part.alarmed_ns, part.missing, part.infinite)
    shape_fits &= all(len(row) in (0, len(context.features)) for row in rows)
    shape_fits &= set(part.learning_ns) in (set(), unknown) and set(part.needed) <= unknown
    if len(values) != len(context.features) or not shape_fits or set(part.learning) != unknown:
        raise DriftReferenceError(
            f"not a saved drift monitor: context {context.name} does not fit its reference"
        )
    learning = {int(number): _unpack(text) for number, text in part.learning.items()}
    if any(np.isinf(series).any() for series in learning.values()):
        raise DriftReferenceError("not a saved drift monitor: an array is not of finite numbers")
    latched = np.array(part.latched, np.bool_)
    alarmed_ns = np.array(part.alarmed_ns or [0] * len(values), np.int64)
    missing = np.array(part.missing or [0.0] * len(values))
    learning_ns = {int(number): spent for number, spent in part.learning_ns.items()}
    return ContextSnapshot(
        values,
        latched,
        alarmed_ns,
        missing,
        part.judged_ns,
        learning,
        learning_ns,
        needed={int(number): frames for number, frames in part.needed.items()},
        infinite=np.array(part.infinite, np.bool_) if part.infinite else None,
    )


def _packed_unknown(unknown: UnknownSnapshot) -> _Unknown:
    return _Unknown(
        frames=len(unknown.misfits),
        misfits=base64.b64encode(np.packbits(unknown.misfits).tobytes()).decode("ascii"),
        latched=unknown.latched.tolist(),
        alarmed_ns=unknown.alarmed_ns,
    )


def _unpacked_unknown(part: _Unknown) -> UnknownSnapshot:
    try:
        packed = np.frombuffer(base64.b64decode(part.misfits, validate=True), np.uint8)
    except ValueError:
        packed = np.zeros(0, np.uint8)
    if len(packed) != -(-part.frames // 8) or len(part.latched) != len(WINDOWS_TAU):
        raise DriftReferenceError("not a saved drift monitor: its unknown frames are damaged")
    misfits = np.unpackbits(packed, count=part.frames).astype(np.bool_)
    return UnknownSnapshot(misfits, np.array(part.latched, np.bool_), part.alarmed_ns)


def _pack(values: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _unpack(text: str) -> npt.NDArray[np.float32]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
    except ValueError:
        raise DriftReferenceError("not a saved drift monitor: an array is not base64 of float32") from None
