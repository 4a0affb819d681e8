"""Does the picture move? From small grey copies alone: no frame is kept, and no detection is needed.

Block matching at zero displacement: the normalised cross-correlation of each textured block with the same
place two seconds before (Lewis 1995, "Fast Normalized Cross-Correlation", Vision Interface). It is blind to
exposure, and noise averages out in the small copy. Traffic that passes changes some blocks, driving most.

Measured at 2 looks per second: the share of textured blocks that changed, least / 10th percentile / median:
driving by night .31 / .47 / .72, by day .80 / .83 / .88, simulated .79 / .85 / .91; standing, with noise of
sigma 4 to 12 and a breathing exposure 0 / 0 / 0; standing before a band of live traffic that takes up three
tenths of the picture's height, by day .31 / .33 / .36, by night .13 / .30 / .42.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

LOOKS_HZ = 2.0
_LOOK_EVERY_NS = round(1e9 / LOOKS_HZ)
_EARLY_NS = _LOOK_EVERY_NS // 10  # cameras jitter

WIDTH, HEIGHT = 160, 90
_BLOCK = 10  # pixels of the copy
_BASE_NS = 2_000_000_000  # what a look is compared with is so old
_GAP_NS = 60_000_000_000  # of two looks further apart, nothing is said

_LEAST_TEXTURE = 3.0  # standard deviation of a block's grey levels
_NOISE_FACTOR = 3.0
_MOST_NOISE = 3.0  # grey levels, in the small copy; more is no noise but motion
_SAME = 0.8  # correlation of a block with itself, noise and all
_LEAST_BLOCKS = 5  # textured; with fewer, nothing can be said
# Above this share the picture moves. Parked for driving costs an alarm, so it lies below all driving seen:
# before dense traffic a parked camera may count as driving.
_MOVING_SHARE = 0.25

Small = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a picture.

    Attributes:
        time_ns: the frame's time.
        changed_share: of the textured blocks, how many changed; None where there is too little to see.
    """

    time_ns: int
    changed_share: float | None

    @property
    def moves(self) -> bool | None:
        """Whether the picture moves; None: it cannot be told."""
        return None if self.changed_share is None else self.changed_share > _MOVING_SHARE


def small_copy(image: npt.NDArray[np.uint8]) -> Small:
    """The picture in grey at 160x90, averaged over areas: noise of one pixel hardly gets through.

    Args:
        image: `uint8[H, W, 3]`, BGR.
    """
    # Halving is the one area average that OpenCV does with vector instructions.
    while image.shape[0] >= 2 * HEIGHT and image.shape[1] >= 2 * WIDTH:
        halves = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image, halves, interpolation=cv2.INTER_AREA), np.uint8)
    small = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


def changed_share(before: Small, now: Small) -> float | None:
    """Of the blocks with texture, the share that does not look as before; None where too few have any."""
    old, new = _blocks(before), _blocks(now)
    sigma_old, sigma_new = old.std(axis=1), new.std(axis=1)
    # What a fifth of the blocks keep below is noise: no drive moves the sky.
    noise = min(float(np.percentile((new - old).std(axis=1), 20)), _MOST_NOISE)
    textured = np.maximum(sigma_old, sigma_new) > max(_LEAST_TEXTURE, _NOISE_FACTOR * noise)
    if int(textured.sum()) < _LEAST_BLOCKS:
        return None
    correlation = (old * new).mean(axis=1) / np.maximum(sigma_old * sigma_new, 1e-6)
    return float((correlation[textured] < _SAME).mean())


class PictureMotion:
    """Looks at one camera's pictures, twice a second of the frames' time. For one thread."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._seen: deque[tuple[int, Small]] = deque()

    def look(self, time_ns: int, image: npt.NDArray[np.uint8]) -> Look | None:
        """Look at a frame; None where it is too early to, or there is nothing to compare it with yet."""
        if self._seen:
            since_ns = time_ns - self._seen[-1][0]
            if 0 <= since_ns < _LOOK_EVERY_NS - _EARLY_NS:
                return None
            if not 0 <= since_ns <= _GAP_NS:
                self._seen.clear()
        now = small_copy(image)
        # The youngest that is old enough; a source that is slower has its latest.
        while len(self._seen) > 1 and time_ns - self._seen[1][0] >= _BASE_NS - _EARLY_NS:
            self._seen.popleft()
        compared = self._seen[0] if self._seen else None
        self._seen.append((time_ns, now))
        if compared is None or time_ns - compared[0] < _BASE_NS - _EARLY_NS:
            return None
        return Look(time_ns, changed_share(compared[1], now))


def _blocks(copy: Small) -> npt.NDArray[np.float32]:
    """`float32[blocks, pixels]`, each less its mean."""
    rows, columns = HEIGHT // _BLOCK, WIDTH // _BLOCK
    grid = copy.astype(np.float32).reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)
    blocks = grid.reshape(rows * columns, _BLOCK * _BLOCK)
    return np.asarray(blocks - blocks.mean(axis=1, keepdims=True), np.float32)
