"""Features that come from outside, as a monitor has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edge.drift.reference import DriftReferenceError

Frames = npt.NDArray[np.float32]


def as_frames(values: npt.ArrayLike, what: str) -> Frames:
    """Values as float32; what is too large for it is infinite, None is NaN.

    Args:
        values: an array, a table, or lists of numbers.
        what: they are, for people.

    Raises:
        DriftReferenceError: they are not numbers, or not as many in each row.
    """
    if isinstance(values, np.ndarray) and values.dtype == np.float32:
        return values
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float32)
    except (ValueError, TypeError) as error:
        raise DriftReferenceError(f"{what} can not be made an array of numbers: {error}") from None


def as_drives(features: npt.ArrayLike | Iterable[npt.ArrayLike]) -> tuple[list[Frames], bool]:
    """Each drive's `float32[frames, features]`, and whether there is one that was not given in a list.

    Raises:
        DriftReferenceError: see `as_frames`.
    """
    if hasattr(features, "__array__"):
        return [as_frames(cast(npt.ArrayLike, features), "the features")], True
    pieces: list[Any] = list(cast(Iterable[Any], features))
    try:
        rows = bool(pieces) and np.ndim(pieces[0]) < 2
    except ValueError:  # rows of different lengths: as_frames says so
        rows = False
    if rows:
        return [as_frames(pieces, "the features")], True
    return [as_frames(piece, f"drive {number}") for number, piece in enumerate(pieces)], False
