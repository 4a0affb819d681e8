"""What a camera of the configuration gives, found out by opening it for real."""

from __future__ import annotations

import threading
import time

from edge.config import CameraConfig
from edge.errors import TrafficVisionError
from edge.frames.capture import CaptureError
from edge.frames.frame import Frame
from edge.frames.sources import Interruptible, LiveSource, Source, SourceError, open_configured
from edge.redaction import redact

_RATE_S = 1.0  # how long a camera is watched for its rate


def probe_camera(config: CameraConfig) -> str:
    """Tell in words what a camera or recording gives, and how it is looked at.

    A camera is watched for a second after its first frame, and is given `give_up_s` and a second in all.

    Raises:
        TrafficVisionError: it can't be opened, or gives no frame; the message names the camera.
    """
    try:
        with open_configured(config) as source:
            if isinstance(source, LiveSource) and source.is_live:
                if config.pace != "realtime":
                    raise CaptureError(f"pace {config.pace!r} is for recordings, and this is live")
                found = _watch(source, config.give_up_s)
            else:
                found = _recording(source)
    except TrafficVisionError as error:
        raise SourceError(f"camera {config.name!r}: {redact(str(error))}") from error
    return ", ".join([f"{redact(config.url)}: {found}", *_treatment(config)])


def _recording(source: Source) -> str:
    rate = "unknown rate" if source.rate_hz is None else f"{source.rate_hz:g} frames/s"
    return rate if source.frame_count is None else f"{rate}, {source.frame_count} frames"


def _watch(source: LiveSource, give_up_s: float) -> str:
    # A camera that trickles damaged frames alone would be read for ever.
    timer = threading.Timer(
        give_up_s + _RATE_S, source.interrupt if isinstance(source, Interruptible) else id
    )
    timer.daemon = True
    timer.start()
    first: Frame | None = None
    frames = broken = 0
    seconds = 0.0
    try:
        for shot in source:
            if not isinstance(shot, Frame):
                broken += 1
            elif first is None:
                first = shot
            else:
                frames += 1
                seconds = (shot.captured_ns - first.captured_ns) / 1e9
            if first is not None and time.monotonic_ns() - first.captured_ns >= _RATE_S * 1e9:
                break
    except TrafficVisionError:
        if first is None:
            raise
    finally:
        timer.cancel()
    if first is None:
        raise SourceError(f"no frame within {give_up_s:g} s")
    height, width = first.image.shape[:2]
    rate = f"{frames / seconds:.1f} frames/s" if seconds > 0 else "one frame alone"
    return f"{width}x{height}, {rate} measured" + (f", {broken} frames damaged" if broken else "")


def _treatment(config: CameraConfig) -> list[str]:
    pace = f"{config.pace:g} times its speed" if isinstance(config.pace, float) else config.pace
    if config.speed_limit is not None and config.pace == "lockstep":
        pace += f" up to {config.speed_limit:g} times its speed"
    words = [pace]
    if config.rate_limit_hz is not None:
        words.append(f"at most {config.rate_limit_hz:g} frames/s")
    if config.region is not None:
        words.append("region " + " ".join(f"{share:g}" for share in config.region))
    if config.mask:
        words.append(f"{len(config.mask)} polygons masked")
    return [*words, f"stale after {config.stale_after_ms:g} ms"]
