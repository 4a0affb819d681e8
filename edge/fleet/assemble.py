"""A frame and all that is known of it, as one sample for the cloud."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2

from edge.errors import TrafficVisionError
from edge.frames.frame import Frame, Image
from protos.traffic_vision.v1 import common_pb2, fleet_pb2

if TYPE_CHECKING:
    from edge.fleet.sampler import SampleReason

DEFAULT_JPEG_QUALITY = 90


class AssembleError(TrafficVisionError):
    """A frame that cannot be made a sample; the message says why."""


def new_id(kind: str) -> str:
    """A name that nothing else has, for what gets one when it is made: `KIND-` and 32 hex digits."""
    return f"{kind}-{uuid.uuid4().hex}"


def assemble_sample(
    frame: Frame,
    detections: common_pb2.FrameDetections,
    reasons: Sequence[SampleReason],
    *,
    source_id: str,
    drive_id: str,
    features: common_pb2.Features | None = None,
    drift: common_pb2.DriftState | None = None,
    drift_event_id: str = "",
    vehicle: common_pb2.VehicleState | None = None,
    jpeg_quality: int = DEFAULT_JPEG_QUALITY,
) -> fleet_pb2.Sample:
    """Encode the frame and put everything together, under an id that is chosen here and never again.

    Args:
        frame: the picture, `uint8[H, W, 3]` BGR, with its name in the source and the drive's time.
        detections: of this frame, and which frame of which camera it is.
        reasons: why it was taken, the strongest first; at least one.
        source_id: what opens the source again; without credentials.
        drive_id: one drive from start to stop.
        features: of this frame.
        drift: the state in which it was taken.
        drift_event_id: the event that it belongs to.
        vehicle: what the vehicle said of itself when the frame was taken.
        jpeg_quality: 1 to 100.

    Raises:
        AssembleError: the picture has no JPEG.
    """
    jpeg = encode_jpeg(frame.image, jpeg_quality)
    return fleet_pb2.Sample(
        id=new_id("sample"),
        frame=detections.frame,
        source=fleet_pb2.SampleSource(
            id=source_id, drive_id=drive_id, picture=frame.name, drive_ns=frame.captured_ns
        ),
        jpeg=jpeg,
        jpeg_sha256=hashlib.sha256(jpeg).hexdigest(),
        detections=detections,
        features=features,
        drift=drift,
        reasons=[reason.kind for reason in reasons],
        priority=reasons[0].priority,
        drift_event_id=drift_event_id,
        vehicle=vehicle,
    )


def encode_jpeg(image: Image, quality: int = DEFAULT_JPEG_QUALITY) -> bytes:
    """The picture as JPEG at its own size.

    Raises:
        AssembleError: it has none: it is empty, or a side is longer than the format allows.
    """
    try:
        encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise AssembleError(f"a picture of shape {image.shape} has no JPEG: {error.err}") from error
    if not encoded:
        raise AssembleError(f"a picture of shape {image.shape} has no JPEG")
    return data.tobytes()
