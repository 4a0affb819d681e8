"""Are frames being answered? What health says, by the time of each camera's last published frame."""

from __future__ import annotations

from collections.abc import Mapping

_LATELY_S = 5.0
_PERIODS = 2.5  # of a camera that is limited to fewer frames


class Answered:
    """Told by the frame loop of each published frame, asked by whoever wants to know."""

    def __init__(self, rate_limits_hz: Mapping[str, float | None]) -> None:
        """No frame answered yet; by camera, its limit of frames per second."""
        self._within_ns = {
            name: round(1e9 * max(_LATELY_S, _PERIODS / (limit or _PERIODS)))
            for name, limit in rate_limits_hz.items()
        }
        self._last_ns: dict[str, int] = {}

    def frame(self, camera: str, published_ns: int) -> None:
        """A frame was published, at that monotonic time."""
        self._last_ns[camera] = published_ns

    def lately(self, now_ns: int) -> bool:
        """Whether some camera's frames are answered: one that is lost is told of in its own state."""
        return any(now_ns - last <= self._within_ns[name] for name, last in self._last_ns.copy().items())
