"""How likely it is that a label is where it is by mistake: rules alone.

Two things tell, and their odds are multiplied (naive Bayes). What the model has for a label: against what it
has for labels of the same class and size, and against what it has for labels that were put in each other's
places on purpose, which are wrong for sure (contrast with noise: M. Gutmann and A. Hyvarinen, AISTATS 2010).
And whether things of a label's class are of this size and at this height: the share of its class among its
nearest neighbours by both, against its share of all labels (T. Cover and P. Hart, Nearest neighbor pattern
classification, 1967). The second needs no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

# So many nearest labels, of many; of fewer labels, of which these would be everywhere, fewer.
NEIGHBOURS, LEAST_NEIGHBOURS, LABELS_PER_NEIGHBOUR = 120, 10, 75
# Before anything is known of a label: one in twenty is wrong.
PRIOR = 0.05
_BORROWED = 20.0  # labels of all classes that stand in for a class of few
_LEVELS = np.array([0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7])  # of what a model has for a label
_HEIGHT = 4.0  # how much the height in the picture counts against the logarithm of a side


def probability(log_odds: Array) -> Array:
    """Give the probabilities of log odds that were learned against PRIOR."""
    return np.asarray(1.0 / (1.0 + np.exp(-(log_odds + np.log(PRIOR / (1 - PRIOR))))), np.float64)


def shapes(corners: Array, width: int, height: int) -> Array:
    """Where and how large boxes are, `float64[N, 4]`, so that a step in each column means about as much.

    Args:
        corners: `float64[N, 4]` x1, y1, x2, y2, pixels.
        width: of the picture; so for the height.
        height: see there.
    """
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 0.5) / np.array([width, height])
    middle = (corners[:, :2] + corners[:, 2:]) / 2 / np.array([width, height])
    return np.column_stack([np.log(sides), _HEIGHT * middle[:, 1], np.abs(middle[:, 0] - 0.5)])


def place_log_odds(where: Array, classes: Numbers) -> Array:
    """How much likelier labels are of any class than of their own, by size and place: `float64[N]`.

    Args:
        where: as `shapes` gives it.
        classes: `int64[N]`.
    """
    from scipy.spatial import cKDTree

    wanted = max(LEAST_NEIGHBOURS, len(classes) // LABELS_PER_NEIGHBOUR)
    count = min(NEIGHBOURS, wanted, len(classes) - 1)
    if count < 1:
        return np.zeros(len(classes))
    _, near = cKDTree(where).query(where, count + 1)
    # Itself counts for nothing; it is among them, unless more are in the very same place.
    others = near != np.arange(len(classes))[:, np.newaxis]
    own = (others & (classes[near] == classes[:, np.newaxis])).sum(axis=1)
    share = np.bincount(classes)[classes] / len(classes)
    posterior = (own + _BORROWED * share) / (others.sum(axis=1) + _BORROWED)
    return np.asarray(np.log(share) - np.log(posterior), np.float64)


def support_log_odds(
    support: Array, sizes: Numbers, classes: Numbers, wrong_support: Array, wrong_sizes: Numbers
) -> Array:
    """How much likelier wrong labels have as much for them as these: `float64[N]`.

    Args:
        support: `float64[N]`, 0 to 1.
        sizes: `int64[N]`, numbers of ranges of sizes.
        classes: `int64[N]`.
        wrong_support: `float64[N]`, of labels in wrong places.
        wrong_sizes: `int64[N]`, theirs.
    """
    if not len(support):
        return np.zeros(0)
    levels, wrong_levels = np.searchsorted(_LEVELS, support), np.searchsorted(_LEVELS, wrong_support)
    kinds, groups = len(_LEVELS) + 1, int(max(sizes.max(), wrong_sizes.max())) + 1
    anywhere = _shares(np.bincount(wrong_levels, minlength=kinds).astype(np.float64), 1 / kinds, kinds)
    wrong = _shares(_counted((wrong_sizes, wrong_levels), (groups, kinds)), anywhere, _BORROWED)
    by_size = _shares(_counted((sizes, levels), (groups, kinds)), 1 / kinds, kinds)
    right = _shares(
        _counted((classes, sizes, levels), (int(classes.max()) + 1, groups, kinds)), by_size, _BORROWED
    )
    return np.asarray(np.log(wrong[sizes, levels]) - np.log(right[classes, sizes, levels]), np.float64)


def _counted(places: Sequence[Numbers], shape: tuple[int, ...]) -> Array:
    counts = np.zeros(shape)
    np.add.at(counts, tuple(places), 1)
    return counts


def _shares(counts: Array, otherwise: Array | float, borrowed: float) -> Array:
    """Of the last axis' sums, with so many borrowed counts that are spread as `otherwise`."""
    whole = counts.sum(axis=-1, keepdims=True) + borrowed
    return np.asarray((counts + borrowed * otherwise) / whole, np.float64)
