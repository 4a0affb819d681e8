"""Disagreement over a drive, in bins whose number is bounded."""

from __future__ import annotations

MAX_BINS = 240
_FIRST_BIN_S = 0.25


class Timeline:
    """The mean disagreement of the frames in each stretch of time; too many stretches are made wider."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.bin_s = _FIRST_BIN_S
        self._sums: list[float] = []
        self._frames: list[int] = []

    def add(self, time_s: float, weight: float) -> None:
        """Count one frame."""
        while time_s >= self.bin_s * MAX_BINS:
            self._double()
        place = int(time_s / self.bin_s)
        missing = place + 1 - len(self._sums)
        self._sums += [0.0] * missing
        self._frames += [0] * missing
        self._sums[place] += weight
        self._frames[place] += 1

    def bins(self) -> list[tuple[float, float | None]]:
        """Start of each bin, s, and the mean of its frames; None where there was no frame."""
        return [
            (place * self.bin_s, total / frames if frames else None)
            for place, (total, frames) in enumerate(zip(self._sums, self._frames, strict=True))
        ]

    def _double(self) -> None:
        self.bin_s *= 2
        for series in (self._sums, self._frames):
            paired = [sum(series[place : place + 2]) for place in range(0, len(series), 2)]
            series[:] = paired  # type: ignore[assignment]  # each keeps its own type of number
