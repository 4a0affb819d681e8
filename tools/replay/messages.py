"""One frame in the words of Foxglove's schemas and of our own."""

from __future__ import annotations

from typing import Any

import cv2
from foxglove_schemas_protobuf.Color_pb2 import Color
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Point2_pb2 import Point2
from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
from foxglove_schemas_protobuf.TextAnnotation_pb2 import TextAnnotation
from google.protobuf.timestamp_pb2 import Timestamp

from edge.frames.frame import Frame, Image
from edge.publication import Publication
from tools.replay.annotate import Style, class_colour

JPEG_QUALITY = 90

_BLACK = Color(r=0, g=0, b=0, a=0.6)


def timestamp(time_ns: int) -> Timestamp:
    """A moment, Unix time in ns."""
    return Timestamp(seconds=time_ns // 1_000_000_000, nanos=time_ns % 1_000_000_000)


def encoded(image: Image) -> bytes:
    """The picture as JPEG."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(data)


def compressed_image(frame: Frame, at: Timestamp) -> CompressedImage:
    """`foxglove.CompressedImage`: the picture as it was captured."""
    return CompressedImage(timestamp=at, frame_id=frame.camera, format="jpeg", data=encoded(frame.image))


def image_annotations(published: Publication, at: Timestamp) -> ImageAnnotations:
    """`foxglove.ImageAnnotations`: each detection a closed line, with its class and score above it."""
    style = Style.for_picture(published.height, published.width)
    annotations = ImageAnnotations(timestamp=at)
    names = published.model.class_names
    for x1, y1, x2, y2, score, index in published.detections.boxes.tolist():
        colour = _colour(int(index))
        corners = [Point2(x=x, y=y) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
        annotations.points.append(
            PointsAnnotation(
                timestamp=at,
                type=PointsAnnotation.LINE_LOOP,
                points=corners,
                outline_color=colour,
                thickness=style.line,
            )
        )
        annotations.texts.append(
            TextAnnotation(
                timestamp=at,
                position=Point2(x=x1, y=max(y1, style.text)),
                text=f"{names[int(index)]} {score:.2f}",
                font_size=style.text,
                text_color=colour,
                background_color=_BLACK,
            )
        )
    return annotations


def _colour(index: int) -> Any:
    blue, green, red = class_colour(index)
    return Color(r=red / 255, g=green / 255, b=blue / 255, a=1.0)
