"""A moving average over many frames at once, as if they had come one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BLOCK = 64  # frames


def smoothed(
    values: npt.NDArray[np.floating] | npt.NDArray[np.bool_], new: float, before: float
) -> npt.NDArray[np.float64]:
    """The moving average of `float[n]`, in which each has the weight `new` and all before it what is left.

    Block by block: what a block gives of itself is a product of matrices.

    Args:
        values: in the order of time.
        new: weight of a value, 0 to 1.
        before: the average before the first of them.
    """
    powers = (1.0 - new) ** np.arange(_BLOCK + 1)
    lags = np.arange(_BLOCK)[:, None] - np.arange(_BLOCK)
    response = np.where(lags >= 0, new * powers[np.maximum(lags, 0)], 0.0)
    blocks = np.zeros((-(-len(values) // _BLOCK), _BLOCK))
    blocks.reshape(-1)[: len(values)] = values
    found = blocks @ response.T
    for block in found:
        block += before * powers[1:]
        before = block[-1]
    return np.asarray(found.reshape(-1)[: len(values)], np.float64)
