"""The truth of simulated drives: the moment is drawn again, and its boxes are exact."""

from __future__ import annotations

import re

from cloud.datasets.dataset import Box
from cloud.labeling.truth import NoTruthError, Truth
from edge.frames.sources import SourceError
from tools.drives.source import parse_drive_url

_FRAME_NUMBER = re.compile(r"-(\d+)\.jpg$")
_SAME_MOMENT_NS = 1_000_000


def label_simulated_drive(source_id: str, picture: str, drive_ns: int) -> Truth:
    """Say what is in a frame of `sim:SEED?...`; the labelling plug-in of the scheme `sim`.

    Args:
        source_id: the drive's URL.
        picture: the frame's name, which ends in its number; may be empty.
        drive_ns: the frame's time since the drive's first, ns.

    Raises:
        NoTruthError: the URL is none, or name and time are of different moments: a label of another moment
            would be worse than none.
    """
    try:
        asked = parse_drive_url(source_id)
    except SourceError:
        raise NoTruthError("the source is no simulated drive that can be opened") from None
    number = _FRAME_NUMBER.search(picture)
    if number and abs(int(number[1]) / asked.rate * 1e9 - drive_ns) > _SAME_MOMENT_NS:
        raise NoTruthError("the picture's name and its time are of different moments")
    # As the source does it, to the same bit.
    t = int(number[1]) / asked.rate if number else drive_ns / 1e9
    drawn = asked.render(t)
    height, width = drawn.image.shape[:2]
    boxes = tuple(
        Box(box.x1, box.y1, box.x2, box.y2, box.label, occluded=box.occluded, truncated=box.truncated)
        for box in drawn.boxes
    )
    # Day and night of one seed are one drive: the same streets.
    return Truth(width, height, boxes, drawn.attributes, f"sim{asked.seed:08d}")
