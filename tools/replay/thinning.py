"""A recording's frames at a lower rate: those that the drift monitor would take, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from edge.drift.pacing import Pace, Step
from edge.frames.frame import BrokenFrame, Frame
from edge.frames.sources import LiveSource, Source


class Thinned:
    """A `Source` of another one's frames at about a rate, by their own times; the broken ones stay.

    The detector's answer to a frame does not depend on the frames before, so that what is left out costs
    nothing but its time.
    """

    def __init__(
        self, source: Source, rate_hz: float, *, progress: Callable[[int, int | None], None]
    ) -> None:
        """Over an opened source.

        Args:
            source: closed with this one.
            rate_hz: frames per second of the frames' time.
            progress: told how many frames of the source are read, of how many.
        """
        self._source = source
        self._rate_hz = rate_hz
        self._progress = progress
        self.name = source.name
        self.rate_hz = rate_hz if source.rate_hz is None else min(rate_hz, source.rate_hz)
        self.frame_count = None  # nobody knows before they are read

    @property
    def is_live(self) -> bool:
        """Whether the source is a camera."""
        return isinstance(self._source, LiveSource) and self._source.is_live

    def __iter__(self) -> Iterator[Frame | BrokenFrame]:
        """The frames; once."""
        pace = Pace(self._rate_hz)
        for done, shot in enumerate(self._source, 1):
            self._progress(done, self._source.frame_count)
            if isinstance(shot, BrokenFrame) or pace.step(shot.captured_ns) is not Step.SKIP:
                yield shot

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def __enter__(self) -> Thinned:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the source."""
        self.close()
