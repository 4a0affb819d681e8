"""A source on its way into the daemon's capture: what passes is noted, so that each frame gets its line."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from edge.frames.frame import BrokenFrame, Frame
from edge.frames.sources import Source


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """A frame that went into the capture, and how long its decoding took, ns."""

    shot: Frame | BrokenFrame
    decode_ns: int


class Recording:
    """A `Source` that notes what it yields. Iterated by the capture's thread; the rest is for the loop's."""

    def __init__(
        self,
        source: Source,
        *,
        limit: int | None,
        before: Callable[[int], None],
        ended: Callable[[], None],
    ) -> None:
        """Over an opened source.

        Args:
            source: closed with this one.
            limit: at most so many frames of it.
            before: called with a frame's sequence number before that goes into the capture; may wait.
            ended: called when no frame follows.
        """
        self.name = source.name
        self.rate_hz = source.rate_hz
        self.frame_count = source.frame_count
        if limit is not None:
            self.frame_count = limit if source.frame_count is None else min(limit, source.frame_count)
        # In their order; whoever answers takes them out. The capture waits, so there are never many.
        self.passed: deque[Passed] = deque()
        self.has_ended = False
        self.failure: Exception | None = None
        self._source = source
        self._limit = limit
        self._before = before
        self._ended = ended

    def __iter__(self) -> Iterator[Frame | BrokenFrame]:
        """The source's frames; once."""
        frames = iter(self._source)
        done = 0
        while self._limit is None or done < self._limit:
            started = time.perf_counter_ns()
            try:
                shot = next(frames, None)
            except Exception as error:
                self.failure = error
                raise
            if shot is None:
                return
            decode_ns = time.perf_counter_ns() - started
            self._before(shot.sequence)
            self.passed.append(Passed(shot, decode_ns))
            done += 1
            yield shot

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def __enter__(self) -> Recording:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close, and say that nothing follows."""
        self.close()
        self.has_ended = True
        self._ended()
