"""What a sample or feature series must be to be taken. Rules alone: no disk, no network, no decoding."""

from __future__ import annotations

import hashlib
import math
import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edge.perception.jpeg import jpeg_size
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.words import word

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_SIDE_PX = 16_384
MAX_DETECTIONS = 10_000
MAX_FEATURES = 1_000
MAX_SERIES_ROWS = 100_000
# Texts end up in columns and on pages: their longest lengths, in characters.
MAX_CAMERA = 64
MAX_SOURCE_ID = 2_000
MAX_DRIVE_ID = 200
MAX_PICTURE = 1_000
MAX_CONTEXT = 200
MAX_FEATURE_NAME = 100

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not taken, in the contract's terms."""

    reason: fleet.RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is to be kept.

    Attributes:
        row: the columns of `Sample` or `FeatureSeries`, but for vehicle, received and object_key.
        content: the object: a JPEG, or a serialized series.
    """

    row: dict[str, Any]
    content: bytes


class _Malformed(Exception):  # noqa: N818 - never leaves this file
    pass


def check_sample(sample: fleet.Sample, limit_bytes: int) -> Accepted | Refusal:
    """Judge a sample by the contract.

    Args:
        sample: is changed: `jpeg` is taken out of it.
        limit_bytes: of the whole message.
    """
    size_bytes = sample.ByteSize()
    if size_bytes > limit_bytes:
        return _too_large(size_bytes, limit_bytes)
    try:
        _sample_fields(sample)
    except _Malformed as error:
        return Refusal(fleet.REFUSAL_REASON_MALFORMED, str(error))
    jpeg = sample.jpeg
    if hashlib.sha256(jpeg).hexdigest() != sample.jpeg_sha256:
        return Refusal(fleet.REFUSAL_REASON_DIGEST, "jpeg does not have the digest jpeg_sha256")
    frame = sample.frame
    size = jpeg_size(jpeg)
    if size is None:
        return Refusal(fleet.REFUSAL_REASON_PICTURE, "jpeg is no JPEG picture")
    if size != (frame.height_px, frame.width_px):
        detail = f"jpeg is {size[1]}x{size[0]}, the frame {frame.width_px}x{frame.height_px}"
        return Refusal(fleet.REFUSAL_REASON_PICTURE, detail)
    sample.ClearField("jpeg")
    message = sample.SerializeToString(deterministic=True)
    row = {
        "external_id": sample.id,
        "content_sha256": hashlib.sha256(message).hexdigest(),
        "jpeg_sha256": sample.jpeg_sha256,
        "jpeg_bytes": len(jpeg),
        "camera": frame.camera,
        "width_px": frame.width_px,
        "height_px": frame.height_px,
        "source_id": sample.source.id,
        "drive_id": sample.source.drive_id,
        "picture": sample.source.picture,
        "drive_ns": sample.source.drive_ns,
        "reasons": [word(fleet.SampleReason, "SAMPLE_REASON_", reason) for reason in sample.reasons],
        "priority": sample.priority,
        "drift_event": sample.drift_event_id,
        "message": message,
    }
    return Accepted(row, jpeg)


def check_series(series: fleet.FeatureSeries, limit_bytes: int) -> Accepted | Refusal:
    """Judge a feature series by the contract."""
    size_bytes = series.ByteSize()
    if size_bytes > limit_bytes:
        return _too_large(size_bytes, limit_bytes)
    try:
        _series_fields(series)
    except _Malformed as error:
        return Refusal(fleet.REFUSAL_REASON_MALFORMED, str(error))
    content = series.SerializeToString(deterministic=True)
    row = {
        "external_id": series.id,
        "content_sha256": hashlib.sha256(content).hexdigest(),
        "camera": series.camera,
        "source_id": series.source.id,
        "drive_id": series.source.drive_id,
        "names": list(series.names),
        "rows": len(series.drive_ns),
        "first_drive_ns": series.drive_ns[0],
        "last_drive_ns": series.drive_ns[-1],
        "model_sha256": series.model.sha256,
        "context": series.context,
    }
    return Accepted(row, content)


def _sample_fields(sample: fleet.Sample) -> None:
    _require(ID.fullmatch(sample.id), "id: not 1 to 64 of A-Z a-z 0-9 _ -")
    _require(sample.HasField("frame"), "frame is missing")
    _require(
        0 < sample.frame.width_px <= MAX_SIDE_PX and 0 < sample.frame.height_px <= MAX_SIDE_PX,
        f"frame: {sample.frame.width_px}x{sample.frame.height_px} pixels",
    )
    _text("frame.camera", sample.frame.camera, MAX_CAMERA)
    _source(sample)
    _require(sample.jpeg, "jpeg is missing")
    _require(_DIGEST.fullmatch(sample.jpeg_sha256), "jpeg_sha256: not 64 lower-case hex digits")
    _require(sample.reasons and all(sample.reasons), "reasons: none, or an unspecified one")
    _require(math.isfinite(sample.priority), "priority is not finite")
    _require(
        not sample.drift_event_id or ID.fullmatch(sample.drift_event_id),
        "drift_event_id: not at most 64 of A-Z a-z 0-9 _ -",
    )
    _require(len(sample.detections.detections) <= MAX_DETECTIONS, f"detections: more than {MAX_DETECTIONS}")
    for detection in sample.detections.detections:
        numbers = (detection.x1_px, detection.y1_px, detection.x2_px, detection.y2_px, detection.score)
        _require(all(map(math.isfinite, numbers)), "detections: a number that is not finite")
    features = sample.features
    _names("features.names", features.names)
    _require(len(features.values) == len(features.names), "features: as many values as names are needed")


def _series_fields(series: fleet.FeatureSeries) -> None:
    _require(ID.fullmatch(series.id), "id: not 1 to 64 of A-Z a-z 0-9 _ -")
    _text("camera", series.camera, MAX_CAMERA)
    _source(series)
    _require(series.names, "names: none")
    _names("names", series.names)
    rows = len(series.drive_ns)
    _require(0 < rows <= MAX_SERIES_ROWS, f"drive_ns: {rows} rows, 1 to {MAX_SERIES_ROWS} are taken")
    times = list(series.drive_ns)
    rises = times[0] >= 0 and all(map(operator.lt, times, times[1:]))
    _require(rises, "drive_ns: negative or not rising")
    _require(
        len(series.values) == rows * len(series.names),
        f"values: {len(series.values)} for {rows} rows of {len(series.names)} names",
    )
    _require(
        not series.model.sha256 or _DIGEST.fullmatch(series.model.sha256),
        "model.sha256: not 64 lower-case hex digits",
    )
    _text("context", series.context, MAX_CONTEXT, empty=True)


def _source(message: fleet.Sample | fleet.FeatureSeries) -> None:
    _require(message.HasField("source"), "source is missing")
    _text("source.id", message.source.id, MAX_SOURCE_ID)
    _text("source.drive_id", message.source.drive_id, MAX_DRIVE_ID)
    _text("source.picture", message.source.picture, MAX_PICTURE, empty=True)
    _require(message.source.drive_ns >= 0, "source.drive_ns is negative")


def _names(field: str, names: Iterable[str]) -> None:
    names = list(names)
    _require(len(names) <= MAX_FEATURES, f"{field}: more than {MAX_FEATURES}")
    _require(len(set(names)) == len(names), f"{field}: one is there twice")
    for name in names:
        _text(field, name, MAX_FEATURE_NAME)


def _text(field: str, text: str, longest: int, *, empty: bool = False) -> None:
    _require(text or empty, f"{field} is missing")
    _require(len(text) <= longest, f"{field}: {len(text)} characters, at most {longest} are taken")
    # PostgreSQL has no NUL in texts, and no page or log wants the others.
    _require(not text or text.isprintable(), f"{field}: a character that cannot be printed")


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise _Malformed(otherwise)


def _too_large(size_bytes: int, limit_bytes: int) -> Refusal:
    detail = f"{size_bytes} bytes, at most {limit_bytes} are taken"
    return Refusal(fleet.REFUSAL_REASON_TOO_LARGE, detail)
