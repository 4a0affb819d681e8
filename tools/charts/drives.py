"""What charts over the time of a drive have in common."""

from __future__ import annotations

from collections.abc import Sequence

from tools.charts.svg import Axis, Drawing, clock, time_ticks

LETTER = 6.6  # width of one, pixels
STRIP = 22.0  # height of the verdicts, pixels


def time_axis(drawing: Drawing, along: Axis, y: float) -> None:
    """The drive's time, along a line at `y`; it takes 40 pixels below."""
    for second in time_ticks(along.low, along.high):
        x = along.at(second)
        drawing.line(x, y, x, y + 4, "axis")
        drawing.text(x, y + 18, clock(second), "tick", "middle")
    drawing.line(along.start, y, along.end, y, "axis")
    middle = (along.start + along.end) / 2
    drawing.text(middle, y + 36, "time of the drive, minutes:seconds", "tick", "middle")


def verdict_bar(
    drawing: Drawing, left: float, right: float, top: float, kind: str, words: Sequence[str], title: str
) -> None:
    """A verdict for as long as it lasts.

    Args:
        drawing: that it goes into.
        left: where it begins, pixels.
        right: where it ends.
        top: of the strip, which is STRIP high.
        kind: the verdict, as the style sheet has it.
        words: what to write on it; the first that has room, if any.
        title: what a pointer over it tells.
    """
    drawing.rectangle(left, top, max(right, left + 1), top + STRIP, f"verdict {kind}", title)
    fitting = [each for each in words if right - left > (len(each) + 1) * LETTER]
    if fitting:
        drawing.text((left + right) / 2, top + 15, fitting[0], "on-verdict", "middle")
