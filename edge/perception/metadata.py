"""What a model file says of itself: the JSON document in its metadata, read strictly.

Pure rules, no ONNX. Unknown fields of a known schema are ignored, so that a field may be added; a change that
an older reader must not ignore raises the schema number, and a newer schema is refused.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import TrafficVisionError
from edge.perception.jpeg import jpeg_size

SCHEMA = 1
LAYOUTS = ("raw", "nms_free")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
MAX_CLASSES = 10_000
MAX_DETECTIONS = 30_000
MAX_EMBEDDING = 64  # numbers a frame
MAX_GOLDEN_FRAMES = 64
MAX_GOLDEN_SIDE = 8192  # pixels
MAX_GOLDEN_PIXELS = 16_777_216
MAX_GOLDEN_PIXELS_TOGETHER = 4 * MAX_GOLDEN_PIXELS  # of all of a file's pictures
MAX_JPEG_SCANS = 64  # each goes over the whole picture once more; encoders write ten
MAX_DOCUMENT = 1 << 25  # characters; as objects a document takes up to eight times as much

# The first daemon that reads a file with an embedding; older ones refuse a graph with a second output.
EMBEDDING_SINCE = "0.2.0"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_START_OF_SCAN = b"\xff\xda"  # inside a scan, 0xFF is followed by 0 (ITU-T T.81, B.1.1.5)

_T = TypeVar("_T")


class MetadataError(TrafficVisionError):
    """The document does not describe a model; the message names the field."""


@dataclass(frozen=True, slots=True, eq=False)
class GoldenFrame:
    """A picture that travels in the model file, and what the model must find on it.

    Attributes:
        jpeg: the picture, JPEG.
        detections: `float32[N, 6]`: x1, y1, x2, y2 in pixels of the picture, score, class; by falling score.
    """

    jpeg: bytes
    detections: npt.NDArray[np.float32]

    def image(self) -> npt.NDArray[np.uint8]:
        """Decode the picture: `uint8[H, W, 3]`, BGR.

        Raises:
            MetadataError: the bytes are no JPEG picture, or one of absurd size.
        """
        return decode_jpeg(self.jpeg)


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """A second output of the graph: `float32[1, size]`, what the model makes of the picture as a whole.

    Attributes:
        output: its name in the graph.
        size: how many numbers, in the order of their weight.
    """

    output: str
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class ModelMetadata:
    """What a model file says of itself.

    Attributes:
        schema: number of the document's schema.
        name: what the model is called; letters, digits and `._+-`.
        version: the model's own version, same alphabet. The release counter belongs to the release, not here.
        layout: `raw`: output `float32[1, 4 + classes, n]`, columns cx, cy, w, h (input pixels), then a score
            for each class; `nms_free`: `float32[1, n, 6]`, rows x1, y1, x2, y2 (input pixels),
            score, class.
        class_names: one name a class, in the order of the output.
        score_threshold: detections must score above it.
        iou_threshold: of two boxes of a class that overlap more, the lower-scored goes.
        max_detections: at most so many a frame.
        precision: `fp32`, `fp16`, `bf16` or `int8`: what the weights and most arithmetic are in.
        golden: pictures with the detections expected of them.
        dataset_sha256: of the dataset that the model was trained on, where known.
        drift_prior: the fleet's prior for the drift monitor, opaque here.
        created_by: the program that wrote the file.
        embedding: the graph's second output; None: it has one output, the detections.
    """

    name: str
    version: str
    layout: str
    class_names: tuple[str, ...]
    precision: str = "fp32"
    score_threshold: float = 0.25
    iou_threshold: float = 0.7
    max_detections: int = 300
    golden: tuple[GoldenFrame, ...] = ()
    dataset_sha256: str | None = None
    drift_prior: str | None = None
    created_by: str = ""
    schema: int = SCHEMA
    embedding: EmbeddingSpec | None = None

    @property
    def minimum_daemon_version(self) -> str:
        """The oldest daemon that reads a file which says this of itself; `0`: any."""
        return "0" if self.embedding is None else EMBEDDING_SINCE


def to_json(metadata: ModelMetadata) -> str:
    """Write the document; `from_json` reads back the same."""
    document = {field.name: getattr(metadata, field.name) for field in fields(metadata)}
    document["class_names"] = list(metadata.class_names)
    del document["embedding"]
    if metadata.embedding is not None:  # what has none is written as it was before there were any
        document["embedding"] = asdict(metadata.embedding)
    document["golden"] = [
        {
            "jpeg": base64.b64encode(frame.jpeg).decode("ascii"),
            "detections": [
                # Hundredths of a pixel: far below the tolerance, and a third of the text.
                [*(round(float(value), 2) for value in row[:4]), round(float(row[4]), 4), int(row[5])]
                for row in frame.detections
            ],
        }
        for frame in metadata.golden
    ]
    return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False)


def from_json(text: str) -> ModelMetadata:
    """Read the document, each field checked for type and range, each golden picture decoded.

    Raises:
        MetadataError: with the field and what is wrong with it.
    """
    if len(text) > MAX_DOCUMENT:
        raise MetadataError(f"the metadata has {len(text)} characters, at most {MAX_DOCUMENT} are read")
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"the metadata is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise MetadataError(f"the metadata is a JSON {type(document).__name__}, expected an object")
    schema = _field(document, "schema", _integer(1, 2**31))
    if schema > SCHEMA:
        raise MetadataError(
            f"the metadata has schema {schema}, this program reads up to {SCHEMA}: update traffic-vision"
        )
    class_names = _field(document, "class_names", _list(_text(200), 1, MAX_CLASSES))
    return ModelMetadata(
        schema=schema,
        name=_field(document, "name", _pattern(_NAME, "a name of letters, digits and ._+-")),
        version=_field(document, "version", _pattern(_NAME, "a version of letters, digits and ._+-")),
        layout=_field(document, "layout", _one_of(LAYOUTS)),
        class_names=class_names,
        precision=_field(document, "precision", _one_of(PRECISIONS)),
        score_threshold=_field(document, "score_threshold", _number(0.0, 1.0)),
        iou_threshold=_field(document, "iou_threshold", _number(0.0, 1.0)),
        max_detections=_field(document, "max_detections", _integer(1, MAX_DETECTIONS)),
        golden=_field(document, "golden", _list(_golden(len(class_names)), 0, MAX_GOLDEN_FRAMES)),
        dataset_sha256=_optional(document, "dataset_sha256", _pattern(_SHA256, "64 hexadecimal digits")),
        drift_prior=_optional(document, "drift_prior", _text(2**24)),
        created_by=_optional(document, "created_by", _text(200)) or "",
        embedding=_optional(document, "embedding", _embedding),
    )


def check(metadata: ModelMetadata) -> ModelMetadata:
    """Check what is about to be written by the reader's own rules; returns what a reader will see.

    Raises:
        MetadataError: a field is not as a reader expects it.
    """
    try:
        document = to_json(metadata)
    except ValueError:  # JSON has no NaN
        raise MetadataError(
            f"a number is not finite (score threshold {metadata.score_threshold:g},"
            f" IoU threshold {metadata.iou_threshold:g})"
        ) from None
    return from_json(document)


def decode_jpeg(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode a JPEG to `uint8[H, W, 3]`, BGR, its size looked at before memory is taken for it.

    Raises:
        MetadataError: no JPEG, cut off, or larger than a camera's picture.
    """
    size = jpeg_size(data)
    if size is None or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise MetadataError("not a whole JPEG picture")
    height, width = size
    if min(size) < 1 or max(size) > MAX_GOLDEN_SIDE or height * width > MAX_GOLDEN_PIXELS:
        raise MetadataError(f"a JPEG of {width}x{height} pixels, at most {MAX_GOLDEN_PIXELS} are taken")
    scans = data.count(_START_OF_SCAN)
    if scans > MAX_JPEG_SCANS:
        raise MetadataError(f"a JPEG of {scans} scans, at most {MAX_JPEG_SCANS} are decoded")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise MetadataError(f"a JPEG that cannot be decoded: {error.err}") from None
    if image is None or image.ndim != 3 or image.shape[2] != 3:
        raise MetadataError("a JPEG that cannot be decoded")
    return image.astype(np.uint8, copy=False)


_Check = Callable[[Any], _T]


def _field(document: Mapping[str, Any], name: str, check_value: _Check[_T]) -> _T:
    if name not in document:
        raise MetadataError(f"the metadata has no field '{name}'")
    try:
        return check_value(document[name])
    except MetadataError as error:
        raise MetadataError(f"the metadata's field '{name}': {error}") from None


def _optional(document: Mapping[str, Any], name: str, check_value: _Check[_T]) -> _T | None:
    return None if document.get(name) is None else _field(document, name, check_value)


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _text(longest: int) -> _Check[str]:
    def check_value(value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise MetadataError(f"expected a text, found {_shown(value)}")
        if len(value) > longest:
            raise MetadataError(f"a text of {len(value)} characters, at most {longest} are taken")
        if longest <= 200 and not value.isprintable():
            raise MetadataError(f"control characters in {_shown(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MetadataError("half of a surrogate pair in the text") from None
        return value

    return check_value


def _pattern(pattern: re.Pattern[str], what: str) -> _Check[str]:
    def check_value(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise MetadataError(f"expected {what}, found {_shown(value)}")
        return value

    return check_value


def _one_of(choices: tuple[str, ...]) -> _Check[str]:
    def check_value(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise MetadataError(f"expected one of {', '.join(choices)}, found {_shown(value)}")
        return value

    return check_value


def _integer(least: int, most: int) -> _Check[int]:
    def check_value(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise MetadataError(f"expected a whole number from {least} to {most}, found {_shown(value)}")
        return value

    return check_value


def _number(least: float, most: float) -> _Check[float]:
    def check_value(value: Any) -> float:
        # The comparison comes first: a huge integer compares, but does not convert.
        if type(value) not in (int, float) or not least <= value <= most or not math.isfinite(value):
            raise MetadataError(f"expected a number from {least:g} to {most:g}, found {_shown(value)}")
        return float(value)

    return check_value


def _list(check_item: _Check[_T], least: int, most: int) -> _Check[tuple[_T, ...]]:
    def check_value(value: Any) -> tuple[_T, ...]:
        if not isinstance(value, list):
            raise MetadataError(f"expected a list, found {_shown(value)}")
        if not least <= len(value) <= most:
            raise MetadataError(f"{len(value)} entries, expected {least} to {most}")
        items = []
        for index, item in enumerate(value):
            try:
                items.append(check_item(item))
            except MetadataError as error:
                raise MetadataError(f"entry {index}: {error}") from None
        return tuple(items)

    return check_value


def _embedding(value: Any) -> EmbeddingSpec:
    if not isinstance(value, dict):
        raise MetadataError(f"expected an object, found {_shown(value)}")
    return EmbeddingSpec(
        output=_field(value, "output", _text(200)), size=_field(value, "size", _integer(1, MAX_EMBEDDING))
    )


def _golden(classes: int) -> _Check[GoldenFrame]:
    def check_row(value: Any) -> tuple[float, ...]:
        row = _list(_number(-1.0, float(max(MAX_GOLDEN_SIDE + 1, MAX_CLASSES))), 6, 6)(value)
        if row[2] < row[0] or row[3] < row[1]:
            raise MetadataError(f"a box that ends before it begins: {_shown(list(row[:4]))}")
        if not 0 <= row[4] <= 1 or not 0 <= row[5] < classes or not row[5].is_integer():
            raise MetadataError(f"score {row[4]:g} and class {row[5]:g}, expected 0 to 1 and below {classes}")
        return row

    pixels = 0  # of the pictures so far

    def check_value(value: Any) -> GoldenFrame:
        nonlocal pixels
        if not isinstance(value, dict):
            raise MetadataError(f"expected an object, found {_shown(value)}")
        rows = _field(value, "detections", _list(check_row, 0, MAX_DETECTIONS))
        encoded = _field(value, "jpeg", _text(2**26))
        try:
            jpeg = base64.b64decode(encoded, validate=True)
        except ValueError as error:
            raise MetadataError(f"the JPEG is not base64: {error}") from None
        pixels += decode_jpeg(jpeg).size // 3
        if pixels > MAX_GOLDEN_PIXELS_TOGETHER:
            raise MetadataError(f"more than {MAX_GOLDEN_PIXELS_TOGETHER} pixels in all golden pictures")
        detections = np.array(rows, np.float32).reshape(-1, 6)
        detections.flags.writeable = False
        return GoldenFrame(jpeg, detections)

    return check_value
