"""What is known of a drive that was judged: all that its report shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.drift import DriftState, Reference, Verdict
from edge.drift.reference import FeatureReference
from tools.drift.exact import Confirmation


@dataclass(frozen=True, slots=True, eq=False)
class Misfits:
    """The frames that fit no known context, over J judgements of W windows.

    Attributes:
        usual: the share of them that alarms nobody.
        shares: `float32[J, W]` of each window's frames; NaN while it is not full.
        limit: `float32[J, W]` share at which the window's alarm begins.
        alarming: `bool[J]` whether it is in alarm.
    """

    usual: float
    shares: npt.NDArray[np.float32]
    limit: npt.NDArray[np.float32]
    alarming: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A drive in figures: T frames, J judgements of W windows, F features.

    Attributes:
        times_s: `float64[T]` of the frames, in the drive's time.
        values: `float32[T, F]`, NaN where not to be had.
        contexts: `int8[T]` number of the context that each frame was judged in; -1 before the first.
        judged_s: `float64[J]` of the judgements.
        verdicts: one each.
        judged_in: `int8[J]` number of the context.
        d: `float32[J, W, F]` distance from the reference, the short window first; NaN while it is not full.
        limit: `float32[J, W, F]` distance at which the window's alarm begins, by the time between frames;
            infinite where it is not judged.
        means: `float32[J, F]` of the longest window; NaN likewise.
        alarming: `bool[J, F]` whether a feature is in alarm.
        misfits: the frames that fit no context; None: that is not judged.
    """

    times_s: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]
    contexts: npt.NDArray[np.int8]
    judged_s: npt.NDArray[np.float64]
    verdicts: tuple[Verdict, ...]
    judged_in: npt.NDArray[np.int8]
    d: npt.NDArray[np.float32]
    limit: npt.NDArray[np.float32]
    means: npt.NDArray[np.float32]
    alarming: npt.NDArray[np.bool_]
    misfits: Misfits | None


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """What a window held when the alarm began, against the reference.

    Attributes:
        reference: of the feature, in the context that it was judged in.
        context: that one's name.
        window_s: length of the window.
        values: `float32[n]` what it held, the oldest first.
        exact: the exact test on it; None where there are no values of the reference.
    """

    reference: FeatureReference
    context: str
    window_s: float
    values: npt.NDArray[np.float32]
    exact: Confirmation | None


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A frame as it was looked at: how long after the alarm began, and its JPEG."""

    after_s: float
    jpeg: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Alarm:
    """From a verdict of alarm to the next other one.

    Attributes:
        began: the first state of it, explained.
        strongest: the state of it that is the most unusual, explained.
        end_s: of its last state; None: it lasts to the drive's end.
        features: all that were in alarm meanwhile, in the order in which they came.
        distributions: of the features that were in alarm when it began, the most unusual first.
        shots: long before and shortly before, when it began, and after.
    """

    began: DriftState
    strongest: DriftState
    end_s: float | None
    features: tuple[str, ...]
    distributions: tuple[Distribution, ...]
    shots: tuple[Shot, ...]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedDrive:
    """A drive, and what a monitor said of it.

    Attributes:
        source: as it was given.
        reference: what it was judged by, and learned on the way; its features are the columns of `series`.
        series: in figures.
        alarms: in their order.
        last: the last state; None: the drive was too short for one.
    """

    source: str
    reference: Reference
    series: Series
    alarms: tuple[Alarm, ...]
    last: DriftState | None
