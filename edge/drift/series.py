"""What a monitor says of a whole series, in arrays; a state is made of them where one is looked at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from edge.drift.calibration import WINDOWS_TAU
from edge.drift.reference import ContextReference, Reference
from edge.drift.state import DriftState, FeatureDrift, Verdict
from edge.drift.unknown import UnknownShare
from edge.drift.verdicts import judge_features, map50_change, notes, rank
from edge.drift.windows import DAY_S, Judgement, Yardstick

VERDICTS = tuple(Verdict)


@dataclass(frozen=True, eq=False)
class Period:
    """What is judged by from a judgement on, until the next period.

    Attributes:
        begin: number of the judgement.
        context: the reference of the context that is current.
        yardstick: its tails.
        standing: features in alarm of contexts that were left a short while ago.
    """

    begin: int
    context: ContextReference
    yardstick: Yardstick
    standing: tuple[FeatureDrift, ...]


@dataclass(frozen=True, eq=False)
class Scan(Sequence[DriftState]):
    """The states of a series, one a second or so: T of them, of W windows and F features each.

    Attributes:
        reference: what was judged by in the end: with what was learned on the way.
        time_ns: `int64[T]` the frames' time; from 0 at the first frame, where none was given.
        step_s: `float64[T]` the time between two frames, see `edge.drift.frame_rate`.
        judged_in: `int8[T]` number of the context that the frames were judged in.
        fits: `bool[T]` whether they fit any context that is known.
        verdict: `uint8[T]` numbers in VERDICTS.
        since_ns: `int64[T]` since when the verdict stands.
        false_alarms_per_day: `float32[T]` of all features together.
        unknown_share: `float32[T]` share of the latest minute's frames that fit no context.
        d: `float32[T, W, F]` distance of each window; NaN where it is not full, or the feature not judged.
        mean: `float64[T, W, F]` mean of each window, which may be large against the shift; NaN as `d`.
        latched: `bool[T, W, F]` the windows in alarm.
        alarmed_ns: `int64[T, F]` since when a feature is in alarm; 0: it is not.
        gone: `bool[T, F]` the features that the latest frames did not have.
        infinite: `bool[T, F]` the features of which a value was infinite.
        misfits: `float32[T, W]` share of each window's frames that fit no context; NaN where it is not full.
        misfits_latched: `bool[T, W]` those of these windows that are in alarm.
        misfits_ns: `int64[T]` since when.
        unknown: what they are measured by; None where they are not judged.
        periods: in the order of time, none where nothing was judged.
    """

    reference: Reference
    time_ns: npt.NDArray[np.int64]
    step_s: npt.NDArray[np.float64]
    judged_in: npt.NDArray[np.int8]
    fits: npt.NDArray[np.bool_]
    verdict: npt.NDArray[np.uint8]
    since_ns: npt.NDArray[np.int64]
    false_alarms_per_day: npt.NDArray[np.float32]
    unknown_share: npt.NDArray[np.float32]
    d: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float64]
    latched: npt.NDArray[np.bool_]
    alarmed_ns: npt.NDArray[np.int64]
    gone: npt.NDArray[np.bool_]
    infinite: npt.NDArray[np.bool_]
    misfits: npt.NDArray[np.float32]
    misfits_latched: npt.NDArray[np.bool_]
    misfits_ns: npt.NDArray[np.int64]
    unknown: UnknownShare | None
    periods: list[Period] = field(default_factory=list)

    @classmethod
    def empty(
        cls,
        reference: Reference,
        time_ns: npt.NDArray[np.int64],
        step_s: npt.NDArray[np.float64],
        unknown: UnknownShare | None,
    ) -> Scan:
        """Of judgements at these times, of which nothing is known yet."""
        steps, windows, count = len(time_ns), len(WINDOWS_TAU), len(reference.names)
        return cls(
            reference=reference,
            time_ns=time_ns,
            step_s=step_s,
            judged_in=np.zeros(steps, np.int8),
            fits=np.zeros(steps, np.bool_),
            verdict=np.zeros(steps, np.uint8),
            since_ns=np.zeros(steps, np.int64),
            false_alarms_per_day=np.full(steps, DAY_S, np.float32),
            unknown_share=np.zeros(steps, np.float32),
            d=np.full((steps, windows, count), np.nan, np.float32),
            mean=np.full((steps, windows, count), np.nan),
            latched=np.zeros((steps, windows, count), np.bool_),
            alarmed_ns=np.zeros((steps, count), np.int64),
            gone=np.zeros((steps, count), np.bool_),
            infinite=np.zeros((steps, count), np.bool_),
            misfits=np.full((steps, windows), np.nan, np.float32),
            misfits_latched=np.zeros((steps, windows), np.bool_),
            misfits_ns=np.zeros(steps, np.int64),
            unknown=unknown,
        )

    @property
    def context(self) -> npt.NDArray[np.int8]:
        """`int8[T]` number of the context; -1: none that is known."""
        return np.where(self.fits, self.judged_in, np.int8(-1))

    @property
    def alarm(self) -> npt.NDArray[np.bool_]:
        """`bool[T]` whether the world has left the reference."""
        return np.asarray(self.verdict == VERDICTS.index(Verdict.ALARM))

    def onsets(self) -> npt.NDArray[np.int64]:
        """`int64[k]` the judgements at which an alarm begins."""
        alarm = self.alarm
        before = np.concatenate([[False], alarm[:-1]])
        return np.flatnonzero(alarm & ~before)

    def per_day(self) -> npt.NDArray[np.float32]:
        """`float32[T, W, F]` how often such a `d` is reached with nothing changed, per day; NaN as `d`."""
        found = np.full(self.d.shape, np.nan, np.float32)
        ends = [*(period.begin for period in self.periods[1:]), len(self)]
        for period, end in zip(self.periods, ends, strict=True):
            rows = slice(period.begin, end)
            per_window = period.yardstick.per_window(self.d[rows].astype(np.float64))
            found[rows] = period.yardstick.per_day(per_window, self.step_s[rows])
        return found

    def __len__(self) -> int:
        return len(self.time_ns)

    @overload
    def __getitem__(self, index: int) -> DriftState: ...

    @overload
    def __getitem__(self, index: slice) -> list[DriftState]: ...

    def __getitem__(self, index: int | slice) -> DriftState | list[DriftState]:
        if isinstance(index, slice):
            return [self._state(step) for step in range(*index.indices(len(self)))]
        return self._state(range(len(self))[index])

    def _state(self, step: int) -> DriftState:
        period = self.periods[bisect_right(self.periods, step, key=lambda one: one.begin) - 1]
        yardstick = period.yardstick
        full = ~np.isnan(self.d[step])
        d = np.where(full, self.d[step], 0.0).astype(np.float64)
        mean = np.where(full, self.mean[step], 0.0).astype(np.float64)
        per_window = yardstick.per_window(d)
        step_s = float(self.step_s[step])
        judgement = Judgement(
            full,
            d,
            per_window,
            yardstick.per_day(per_window, step_s),
            yardstick.shift_sigma(mean),
            yardstick.seconds(step_s),
        )
        features = judge_features(
            period.context,
            judgement,
            self.latched[step],
            self.alarmed_ns[step],
            self.gone[step],
            self.reference.rate_hz,
        )
        unknown = self._unknown(step, period.context)
        ranked = rank((*features, *period.standing, *([] if unknown is None else [unknown])))
        drop, gone = self.reference.drop, self.gone[step]
        return DriftState(
            verdict=VERDICTS[self.verdict[step]],
            false_alarms_per_day=float(self.false_alarms_per_day[step]),
            context=period.context.name if self.fits[step] else "",
            unknown_context_share=float(self.unknown_share[step]),
            features=ranked,
            time_ns=int(self.time_ns[step]),
            since_ns=int(self.since_ns[step]),
            notes=notes(period.context, gone, self.infinite[step], self.reference.rate_hz, step_s),
            estimated_map50_change=map50_change(drop, period.context, judgement, gone, ranked),
        )

    def _unknown(self, step: int, context: ContextReference) -> FeatureDrift | None:
        if self.unknown is None:
            return None
        return self.unknown.feature(
            self.misfits[step],
            self.misfits_latched[step],
            int(self.misfits_ns[step]),
            context,
            float(self.step_s[step]),
        )
