"""Are two pictures nearly the same? By perceptual hash."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

HASH_BITS = 64


def dhash(image: npt.NDArray[np.uint8]) -> int:
    """The difference hash of a picture, 64 bits (Krawetz 2013, "Kind of Like That", hackerfactor.com).

    Each bit says whether a cell of an 8 x 8 grid is darker than its neighbour on the right: it tells
    layouts apart and is blind to size, brightness and compression.

    Args:
        image: `uint8[H, W, 3]`, BGR.
    """
    small = cv2.cvtColor(cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def distance(one: int, other: int) -> int:
    """Bits in which two hashes differ, 0 to 64 (Hamming 1950)."""
    return (one ^ other).bit_count()
