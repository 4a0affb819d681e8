"""How far the new pictures' features are from the known ones': the drift of the data. Rules alone.

Pictures of one drive are alike, so each drive counts once, with the median of its pictures of a slice: the
values are then independent, and the Kolmogorov-Smirnov test's p-value means what it says (exact, two-sample:
J. L. Hodges, The Significance Probability of the Smirnov Two-Sample Test, 1958; `scipy.stats.ks_2samp`). Over
all features and slices the p-values are corrected by Holm's method (S. Holm, 1979).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

LEAST_DRIVES = 5


@dataclass(frozen=True, slots=True)
class Rows:
    """Features of pictures.

    Attributes:
        slices, drives: of each picture.
        features: `float32[N, F]`; NaN where there is no value.
    """

    slices: Sequence[str]
    drives: Sequence[str]
    features: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shift:
    """One feature of one slice, new against known.

    Attributes:
        distance: KS distance between the drives' medians, 0 to 1.
        p_value: corrected for all that were looked at; of no difference.
        drives, known_drives: that it is made of.
        median, known_median: of the drives.
    """

    slice: str
    feature: str
    distance: float
    p_value: float
    drives: int
    known_drives: int
    median: float
    known_median: float


def shifts(new: Rows, known: Rows, names: Sequence[str]) -> list[Shift]:
    """Compare all features within each slice that both have of at least LEAST_DRIVES drives.

    Args:
        new: the batch's.
        known: what it is compared with.
        names: of the features.

    Returns:
        The largest distance first.
    """
    from scipy.stats import ks_2samp

    mine, theirs = _by_drive(new), _by_drive(known)
    raw: list[Shift] = []
    for value in sorted(mine.keys() & theirs.keys()):
        for number, name in enumerate(names):
            first, second = (_finite(rows[value][:, number]) for rows in (mine, theirs))
            if min(len(first), len(second)) < LEAST_DRIVES:
                continue
            test = ks_2samp(first, second)
            raw.append(
                Shift(
                    value,
                    name,
                    float(test.statistic),
                    float(test.pvalue),
                    len(first),
                    len(second),
                    float(np.median(first)),
                    float(np.median(second)),
                )
            )
    return sorted(_corrected(raw), key=lambda shift: (-shift.distance, shift.slice, shift.feature))


def _corrected(raw: Sequence[Shift]) -> list[Shift]:
    largest = 0.0
    corrected = []
    for rank, shift in enumerate(sorted(raw, key=lambda shift: shift.p_value)):
        largest = max(largest, min(1.0, shift.p_value * (len(raw) - rank)))
        corrected.append(replace(shift, p_value=largest))
    return corrected


def _finite(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values[np.isfinite(values)]


def _by_drive(rows: Rows) -> dict[str, npt.NDArray[np.float32]]:
    places: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, (value, drive) in enumerate(zip(rows.slices, rows.drives, strict=True)):
        places[value][drive].append(number)
    return {
        value: np.stack([_median(rows.features[numbers]) for _, numbers in sorted(drives.items())])
        for value, drives in places.items()
    }


def _median(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Of each column's numbers; NaN of a column without any."""
    columns = [_finite(column) for column in features.T]
    return np.array([np.median(column) if len(column) else np.nan for column in columns], np.float32)
