"""The share of frames that fit no known context, judged like one more feature.

A frame is judged in the context that fits it best, however badly; this is what tells that a whole kind of
driving is new, even where no single feature of it leaves its band. The contexts themselves never change on
the way: new ones come with a new reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.drift.calibration import WINDOWS_TAU
from edge.drift.fitting import MAX_WINDOW
from edge.drift.reference import ContextReference, Reference
from edge.drift.state import FeatureDrift, Origin, Verdict
from edge.drift.windows import DAY_S, ORDINARY, dated, latched

NAME = "unknown_context"

# Contexts leave out what lies between them, the mouths of tunnels and the minutes of dusk. With a tenth of
# them usual, a single feature that jumps is in alarm before the share is, and says more.
_LEAST_USUAL = 0.1
_MOST_USUAL = 0.5


@dataclass(frozen=True, slots=True)
class UsualShare:
    """What share of frames may fit no context with nothing changed.

    Attributes:
        usual: the share, 0 to 1.
        tau: frames that go by until one says something new; fewer where they come slower.
        windows: lengths of the windows, frames, the short one first.
    """

    usual: float
    tau: float
    windows: tuple[int, ...]

    def rate(self, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """How often such shares, `float64[..., W]`, are reached with nothing changed, per window's length.

        Hoeffding's bound (1963, theorem 1) on as many independent frames as a window is worth.
        """
        above = np.maximum(shares, self.usual)
        below = 1.0 - above
        left = np.log(np.maximum(below, 1e-300) / (1 - self.usual)) * below
        divergence = above * np.log(above / self.usual) + left
        return np.asarray(np.exp(-divergence * np.array(self.windows) / self.tau), np.float64)


def usual_share(reference: Reference) -> UsualShare | None:
    """What a reference says of it; None where it has no picture features to tell contexts by.

    None of a reference's own frames misfit, but for one in a thousand: with as many independent ones, the
    true share may be up to three in their number (95 %; Hanley & Lippman-Hand, 1983).
    """
    judged = [
        [feature for feature in context.features if feature.origin is Origin.PICTURE and feature.tails]
        for context in reference.contexts
    ]
    limits = [context.misfit for context in reference.contexts]
    if not all(judged) or not all(map(math.isfinite, limits)):
        return None
    tau = max(feature.tau for features in judged for feature in features)
    independent = min(
        # The frames of a drive share what drives differ by.
        feature.drives if feature.margin > 0 else feature.frames / tau
        for features in judged
        for feature in features
    )
    usual = min(max(_LEAST_USUAL, 3 / independent), _MOST_USUAL)
    windows = tuple(min(math.ceil(count * tau), MAX_WINDOW) for count in WINDOWS_TAU)
    return UsualShare(usual, tau, windows)


@dataclass(frozen=True, slots=True, eq=False)
class UnknownSnapshot:
    """A monitored share at rest.

    Attributes:
        misfits: `bool[n]` the frames of the longest window, the oldest first.
        latched: `bool[W]` the windows in alarm.
        alarmed_ns: the frames' time since which it is in alarm; 0: it is not.
    """

    misfits: npt.NDArray[np.bool_]
    latched: npt.NDArray[np.bool_]
    alarmed_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class UnknownRun:
    """What T judgements say of the share.

    Attributes:
        shares: `float64[T, W]` of the windows, NaN where one is not full.
        latched: `bool[T, W]` the windows in alarm.
        alarmed_ns: `int64[T]` since when.
        least: `float64[T]` how often such shares are reached with nothing changed, a day; infinite where no
            window is full.
    """

    shares: npt.NDArray[np.float64]
    latched: npt.NDArray[np.bool_]
    alarmed_ns: npt.NDArray[np.int64]
    least: npt.NDArray[np.float64]


class UnknownShare:
    """Watches the share of misfits over sliding windows."""

    def __init__(self, usual: UsualShare, rate_hz: float) -> None:
        """Begin with nothing seen."""
        self._usual = usual
        self._rate_hz = rate_hz
        self._lengths = np.array(usual.windows)
        self._depth = max(usual.windows)
        self.clear()

    @classmethod
    def of(cls, reference: Reference) -> UnknownShare | None:
        """Watch what a reference is usual with; None where it has nothing to tell contexts by."""
        usual = usual_share(reference)
        return None if usual is None else cls(usual, reference.rate_hz)

    def clear(self) -> None:
        """Forget all frames."""
        self._ring = bytearray(self._depth)
        self._seen = 0
        self._counts = [0] * len(self._lengths)
        self._latched = np.zeros(len(self._lengths), np.bool_)
        self._alarmed_ns = 0

    def push(self, misfit: bool) -> None:
        """Take one frame."""
        for window, length in enumerate(self._usual.windows):
            if self._seen >= length:
                self._counts[window] -= self._ring[(self._seen - length) % self._depth]
            self._counts[window] += misfit
        self._ring[self._seen % self._depth] = misfit
        self._seen += 1

    def judge(
        self, time_ns: int, limit_per_day: float, context: ContextReference, step_s: float | None = None
    ) -> FeatureDrift | None:
        """The share as a feature in alarm or not; None while no window is full.

        Args:
            time_ns: now, in the frames' time.
            limit_per_day: the alarm begins where a share is reached less often with nothing changed.
            context: that is driven in; says whether the verdict is a promise.
            step_s: see `per_day`.
        """
        full = self._seen >= self._lengths
        if not full.any():
            return None
        shares = np.array(self._counts) / np.minimum(self._lengths, self._seen)
        per_window = self._usual.rate(shares)
        per_day = self.per_day(per_window, full, step_s)
        self._latched = (per_day <= limit_per_day) | (self._latched & (per_window < ORDINARY))
        if not self._latched.any():
            self._alarmed_ns = 0
        elif self._alarmed_ns == 0:
            self._alarmed_ns = time_ns
        return self.feature(np.where(full, shares, np.nan), self._latched, self._alarmed_ns, context, step_s)

    def moment(self, step_s: float) -> UnknownRun:
        """What it says now, as a run of one judgement; `step_s`: see `per_day`."""
        full = self._seen >= self._lengths
        shares = np.array(self._counts) / np.maximum(np.minimum(self._lengths, self._seen), 1)
        per_day = self.per_day(self._usual.rate(shares), full, step_s)
        return UnknownRun(
            np.where(full, shares, np.nan)[None],
            self._latched[None],
            np.array([self._alarmed_ns]),
            per_day.min(keepdims=True),
        )

    def per_day(
        self,
        per_window: npt.NDArray[np.float64],
        full: npt.NDArray[np.bool_],
        step_s: float | npt.NDArray[np.floating] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Rates a day of driving; infinite where a window is not full.

        Args:
            per_window: `float64[..., W]` rates.
            full: `bool[..., W]`.
            step_s: `float[...]` time between two frames, s (see `edge.drift.frame_rate`); None: it is the
                reference's.
        """
        return np.where(full, per_window * DAY_S / self._seconds(step_s), np.inf)

    def _seconds(self, step_s: float | npt.NDArray[np.floating] | None) -> npt.NDArray[np.float64]:
        steps = np.asarray(1 / self._rate_hz if step_s is None else step_s, np.float64)
        return np.asarray(self._lengths * steps[..., None], np.float64)

    def feature(
        self,
        shares: npt.NDArray[np.floating],
        in_alarm: npt.NDArray[np.bool_],
        alarmed_ns: int,
        context: ContextReference,
        step_s: float | None = None,
    ) -> FeatureDrift | None:
        """What is said of these shares; None while no window is full.

        Args:
            shares: `float[W]` of the windows, NaN where one is not full.
            in_alarm: `bool[W]` the windows in alarm.
            alarmed_ns: since when.
            context: that is driven in; says whether the verdict is a promise.
            step_s: see `per_day`.
        """
        full = ~np.isnan(shares)
        if not full.any():
            return None
        per_window = self._usual.rate(np.where(full, shares, 0.0).astype(np.float64))
        per_day = self.per_day(per_window, full, step_s)
        window = int(per_day.argmin())
        usual, share = self._usual.usual, float(shares[window])
        sigma = math.sqrt(usual * (1 - usual))
        verdict = Verdict.STABLE if context.promises(self._rate_hz) else Verdict.UNCALIBRATED
        return FeatureDrift(
            name=NAME,
            origin=Origin.PICTURE,
            context="",
            window_s=float(self._seconds(step_s)[window]),
            d=max(0.0, share - usual),
            p=float(per_window[window]),
            false_alarms_per_day=float(per_day[window]),
            shift_sigma=(share - usual) / sigma,
            verdict=Verdict.ALARM if in_alarm.any() else verdict,
            mean=share,
            reference_mean=usual,
            reference_sigma=sigma,
            since_ns=alarmed_ns,
            window_frames=self._usual.windows[window],
        )

    def run(
        self,
        misfits: npt.NDArray[np.bool_],
        ends: npt.NDArray[np.int64],
        time_ns: npt.NDArray[np.int64],
        limit_per_day: float,
        step_s: npt.NDArray[np.floating],
    ) -> UnknownRun:
        """Take frames all at once; what each judgement among them says.

        Args:
            misfits: `bool[n]` the frames.
            ends: `int64[T]` how many of them by each judgement.
            time_ns: `int64[T]` of the judgements.
            limit_per_day: see `judge`.
            step_s: `float[T]` of the judgements, see `per_day`.
        """
        before = self.snapshot()
        misfits = np.concatenate([before.misfits, misfits])
        ends = ends + len(before.misfits)
        until = np.concatenate([[0], np.cumsum(misfits)])
        starts = np.maximum(ends[:, None] - self._lengths, 0)
        shares = (until[ends][:, None] - until[starts]) / np.maximum(ends[:, None] - starts, 1)
        full = ends[:, None] >= self._lengths
        per_window = self._usual.rate(shares)
        per_day = self.per_day(per_window, full, step_s)
        in_alarm = np.stack(
            [
                latched(unusual, ordinary, bool(was))
                for unusual, ordinary, was in zip(
                    (per_day <= limit_per_day).T, (per_window >= ORDINARY).T, before.latched, strict=True
                )
            ],
            axis=1,
        )
        since = dated(np.any(in_alarm, axis=1), time_ns, before.alarmed_ns)
        if len(ends):
            after = UnknownSnapshot(misfits[-self._depth :], in_alarm[-1], int(since[-1]))
        else:
            after = UnknownSnapshot(misfits[-self._depth :], before.latched, before.alarmed_ns)
        self.go_on(after)
        return UnknownRun(np.where(full, shares, np.nan), in_alarm, since, per_day.min(axis=1))

    def snapshot(self) -> UnknownSnapshot:
        """What is here, apart from what goes on."""
        ring, turn = np.frombuffer(bytes(self._ring), np.bool_), self._seen % self._depth
        misfits = ring[: self._seen] if self._seen < self._depth else np.roll(ring, -turn)
        return UnknownSnapshot(misfits, self._latched.copy(), self._alarmed_ns)

    def go_on(self, snapshot: UnknownSnapshot) -> None:
        """Continue from a snapshot of a share with the same windows."""
        self.clear()
        misfits = snapshot.misfits[-self._depth :]
        self._ring[: len(misfits)] = misfits.tobytes()
        self._seen = len(misfits)
        self._counts = [int(misfits[-length:].sum()) for length in self._usual.windows]
        self._latched = snapshot.latched.copy()
        self._alarmed_ns = snapshot.alarmed_ns
