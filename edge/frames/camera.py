"""What the daemon holds of one camera: its configuration, its capture, and the count of its frames."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.config import CameraConfig
from edge.errors import TrafficVisionError
from edge.frames.capture import Arrival, Capture
from edge.frames.mailbox import Mailbox
from edge.frames.outcomes import FrameCounts
from edge.frames.recent import Recent
from edge.frames.sources import SourceError, open_configured


@dataclass(slots=True, eq=False)
class Camera:
    """One camera.

    Attributes:
        config: its section of the configuration, as it holds now.
        capture: its source and thread.
        counts: every frame in, and its way out.
        ages: of the frames published over the last seconds, ns from arrival to publication.
    """

    config: CameraConfig
    capture: Capture
    counts: FrameCounts
    ages: Recent = field(default_factory=Recent)

    @property
    def stale_after_ns(self) -> int | None:
        """Age beyond which a frame is not looked at; None in lock-step, where every frame is."""
        return None if self.config.pace == "lockstep" else round(self.config.stale_after_ms * 1e6)

    def take_over(self, section: CameraConfig) -> None:
        """Run from now on by what of a section can change in a running daemon."""
        self.config = section
        self.capture.limit_speed(section.speed_limit)
        self.capture.limit_rate(section.rate_limit_hz)


def open_camera(config: CameraConfig, mailbox: Mailbox[Arrival]) -> Camera:
    """Open a camera's source; nothing is captured before its capture is started.

    Raises:
        TrafficVisionError: the source cannot be opened, or not be run as configured; it names the camera.
    """
    counts = FrameCounts()
    try:
        source = open_configured(config)
    except TrafficVisionError as error:
        raise SourceError(f"camera {config.name!r}: {error}") from error
    return Camera(config, Capture(config, source, mailbox, counts), counts)
