"""What a monitor has seen, context by context, and all of it at rest."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.drift.calibration import WINDOWS_TAU
from edge.drift.contexts import Following
from edge.drift.reference import ContextReference, DriftReferenceError, Reference
from edge.drift.smoothing import smoothed
from edge.drift.state import Verdict
from edge.drift.unknown import UnknownSnapshot
from edge.drift.windows import ORDINARY, SlidingWindows

_GONE = 0.5  # a feature that is missing in a larger share of the latest frames is not judged
_HARDLY_MISSING = 1e-6
# No feature is learned from more, and what waits for a fit that fails grows no further.
_MOST_LEARNED_S = 10 * 3600.0


@dataclass(frozen=True, slots=True, eq=False)
class ContextSnapshot:
    """What was seen in one context.

    Attributes:
        values: `float32[n]` a feature, the oldest first: what its longest window holds.
        latched: `bool[W, F]` the windows in alarm.
        alarmed_ns: `int64[F]` the frames' time since which a feature is in alarm; 0: it is not.
        missing: `float64[F]` share of the latest frames, about a short window of them, without the feature.
        judged_ns: when it was last judged; 0: never.
        learning: `float32[n]` for each feature that is being learned; NaN between two stretches of driving.
        learning_ns: how long these frames took; empty: at the reference's rate.
        needed: how many frames the features take that are learned for longer than usual.
        infinite: `bool[F]` of which a value was infinite since the windows began; None: of none.
    """

    values: tuple[npt.NDArray[np.float32], ...]
    latched: npt.NDArray[np.bool_]
    alarmed_ns: npt.NDArray[np.int64]
    missing: npt.NDArray[np.float64]
    judged_ns: int
    learning: dict[int, npt.NDArray[np.float32]]
    learning_ns: dict[int, int] = field(default_factory=dict)
    needed: dict[int, int] = field(default_factory=dict)
    infinite: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A monitor at rest.

    Attributes:
        given_digest: of the reference that the monitor was given.
        reference: what it judges by, what it learned included.
        contexts: one for each of the reference's.
        past: what was judged by before; a new model's features take over from it how far drives differ.
        following: the context of the last frames.
        unknown: the frames that fitted no context; None where that is not judged.
        step_s: average time between two frames, s; None: as at the reference's rate.
        verdict: the last one, None before the first.
        since_ns: since when it stands.
        last_ns: the last frame's time, None before the first.
    """

    given_digest: str
    reference: Reference
    contexts: tuple[ContextSnapshot, ...]
    past: Reference | None
    following: Following
    unknown: UnknownSnapshot | None
    verdict: Verdict | None
    since_ns: int
    last_ns: int | None
    step_s: float | None = None

    def require_of(self, given: Reference) -> None:
        """It is of a monitor that was given this reference.

        Raises:
            DriftReferenceError: it is of another.
        """
        if self.given_digest != given.digest:
            raise DriftReferenceError("the saved drift monitor is of another reference; it begins anew")
        if (self.reference.names, self.reference.origins) != (given.names, given.origins):
            raise DriftReferenceError("the saved drift monitor is of other features; it begins anew")


class ContextMemory:
    """What was seen in one context: the windows, which of them are in alarm, and what is being learned."""

    def __init__(self, reference: ContextReference, rate_hz: float) -> None:
        """Begin with nothing seen."""
        self.windows = SlidingWindows(reference.features, rate_hz)
        self.latched = np.zeros((len(WINDOWS_TAU), len(reference.features)), np.bool_)
        self.alarmed_ns = np.zeros(len(reference.features), np.int64)
        self.missing = np.zeros(len(reference.features))
        # Which features were not a number that can be judged, since the windows began.
        self.infinite = np.zeros(len(reference.features), np.bool_)
        self._new = 1.0 - np.exp(-1.0 / self.windows.lengths[0])
        self.judged_ns, self.judged_step_s = 0, 1 / rate_hz
        # What a feature is learned from: as long as its reference is unknown.
        # NaN: here was a gap in time.
        self.learning: dict[int, array[float]] = {
            number: array("f") for number, feature in enumerate(reference.features) if not feature.known
        }
        self.learning_ns = dict.fromkeys(self.learning, 0)
        # Of these, the ones that vary so slowly that they are learned for longer: until there are so many.
        self.needed: dict[int, int] = {}
        self._period_ns = round(1e9 / rate_hz)
        self._most_learned = math.ceil(_MOST_LEARNED_S * rate_hz)

    @property
    def learns(self) -> bool:
        """Whether some feature has been seen, and for less long than any is learned."""
        return any(seen and number not in self.needed for number, seen in self.learning.items())

    def restart(self) -> None:
        """Time was lost: forget the windows, and mark it in what is being learned.

        Of a feature in alarm they stay: what is seen from now on ends the alarm as ever, and begins no other.
        """
        quiet: npt.NDArray[np.bool_] = ~np.any(self.latched, axis=0)
        self.windows.clear(quiet)
        self.missing[quiet] = 0.0
        self.infinite[quiet] = False
        for seen in self.learning.values():
            if seen and not math.isnan(seen[-1]):
                seen.append(math.nan)

    def take(self, vector: npt.NDArray[np.float32], step_ns: int) -> None:
        """Take one frame.

        Args:
            vector: `float32[F]` its features.
            step_ns: the time that it adds.
        """
        self.windows.push(vector)
        finite = np.isfinite(vector)
        if not finite.all() or self._any_missing:
            self.missing += self._new * (~finite - self.missing)
            self.infinite |= np.isinf(vector)
        for number, seen in self.learning.items():
            if math.isfinite(vector[number]) and len(seen) < self._most_learned:
                seen.append(float(vector[number]))
                self.learning_ns[number] += step_ns

    def miss(self, missing: npt.NDArray[np.bool_], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Follow what frames do not have, all at once; which features are gone at some of them, `bool[T, F]`.

        Args:
            missing: `bool[n, F]` the frames.
            ends: `int64[T]` how many of them have been seen by then.
        """
        gone = np.zeros((len(ends), missing.shape[1]), np.bool_)
        if not missing.any() and not self._any_missing:
            return gone
        for number in np.flatnonzero(missing.any(axis=0) | (self.missing > 0)).tolist():
            shares = smoothed(missing[:, number], float(self._new[number]), float(self.missing[number]))
            gone[:, number] = shares[ends - 1] > _GONE
            self.missing[number] = shares[-1]
        return gone

    def take_back(self, vectors: npt.NDArray[np.floating], time_ns: int) -> None:
        """Forget the latest frames, `float[n, F]`: they were of another context.

        What they pushed out of the windows is gone: the longest are not full for as many frames. They may
        have begun an alarm; what is left can only end it.
        """
        counts = np.isfinite(vectors).sum(axis=0)
        for number in np.flatnonzero(counts).tolist():
            if number in self.learning:
                seen, before = self.learning[number], len(self.learning[number])
                del seen[max(0, len(seen) - counts[number]) :]
                self.learning_ns[number] = round(self.learning_ns[number] * len(seen) / max(before, 1))
            elif self.windows.judged[number]:
                content = self.windows.content(number)
                self.windows.fill(number, content[: max(0, len(content) - counts[number])])
        self.latch(np.zeros_like(self.latched), self.windows.judge().per_window >= ORDINARY, time_ns)

    def end_alarms(self) -> None:
        """Forget the features that are in alarm: what was seen of them is too old to alarm again."""
        for number in np.flatnonzero(self.latched.any(axis=0)).tolist():
            self.windows.fill(number, np.zeros(0, np.float32))
        self.latched[:] = False
        self.alarmed_ns[:] = 0

    def latch(self, unusual: npt.NDArray[np.bool_], ordinary: npt.NDArray[np.bool_], time_ns: int) -> None:
        """Begin an alarm where a window, `bool[W, F]`, is unusual, and end it where it is ordinary again."""
        self.latched = unusual | (self.latched & ~ordinary)
        in_alarm = self.latched.any(axis=0)
        begins = in_alarm & (self.alarmed_ns == 0)
        self.alarmed_ns[begins] = time_ns
        self.alarmed_ns[~in_alarm] = 0

    def redate(self, by_ns: int) -> None:
        """The frames' time has changed by so much: what was dated by it is as long ago as before."""
        self.alarmed_ns[self.alarmed_ns != 0] += by_ns
        if self.judged_ns:
            self.judged_ns += by_ns

    @property
    def _any_missing(self) -> bool:
        """Whether the shares of what is missing are worth following."""
        return bool(self.missing.max() > _HARDLY_MISSING)

    @property
    def gone(self) -> npt.NDArray[np.bool_]:
        """Which features most of the latest frames did not have: their windows tell of times past."""
        return self.missing > _GONE

    def in_alarm(self) -> bool:
        """Whether any feature is."""
        return bool(self.latched.any())

    def carry(self, before: ContextMemory, features: Iterable[int]) -> None:
        """Take over what another saw of these features."""
        self.judged_ns, self.judged_step_s = before.judged_ns, before.judged_step_s
        for feature in features:
            self.windows.fill(feature, before.windows.content(feature))
            self.latched[:, feature] = before.latched[:, feature]
            self.alarmed_ns[feature] = before.alarmed_ns[feature]
            self.missing[feature] = before.missing[feature]
            self.infinite[feature] = before.infinite[feature]
            if feature in self.learning:
                self.learning[feature] = before.learning[feature]
                self.learning_ns[feature] = before.learning_ns[feature]
                if feature in before.needed:
                    self.needed[feature] = before.needed[feature]

    def knowing(self, reference: ContextReference, features: Iterable[int], rate_hz: float) -> ContextMemory:
        """The same under a reference that knows these features, which were being learned."""
        memory = ContextMemory(reference, rate_hz)
        memory.carry(self, range(len(reference.features)))
        for number in features:
            seen = np.array(self.learning[number], np.float32)
            gaps = np.flatnonzero(np.isnan(seen))
            if memory.windows.judged[number]:
                memory.windows.fill(number, seen[gaps[-1] + 1 :] if len(gaps) else seen)
        return memory

    def snapshot(self) -> ContextSnapshot:
        """What is here, apart from what goes on."""
        values = tuple(self.windows.content(number) for number in range(self.latched.shape[1]))
        learning = {number: np.array(seen, np.float32) for number, seen in self.learning.items()}
        return ContextSnapshot(
            values,
            self.latched.copy(),
            self.alarmed_ns.copy(),
            self.missing.copy(),
            self.judged_ns,
            learning,
            dict(self.learning_ns),
            dict(self.needed),
            self.infinite.copy(),
        )

    @classmethod
    def of(cls, snapshot: ContextSnapshot, reference: ContextReference, rate_hz: float) -> ContextMemory:
        """Go on from a snapshot of a context with this reference."""
        memory = cls(reference, rate_hz)
        for number, values in enumerate(snapshot.values):
            memory.windows.fill(number, values)
        memory.latched = snapshot.latched.copy()
        memory.alarmed_ns = snapshot.alarmed_ns.copy()
        memory.missing = snapshot.missing.copy()
        memory.judged_ns = snapshot.judged_ns
        for number, seen in snapshot.learning.items():
            memory.learning[number] = array("f", seen.tolist())
            at_rate_ns = int(np.isfinite(seen).sum()) * memory._period_ns
            memory.learning_ns[number] = snapshot.learning_ns.get(number, at_rate_ns)
        # More than is kept would never be seen.
        memory.needed = {number: min(most, memory._most_learned) for number, most in snapshot.needed.items()}
        if snapshot.infinite is not None:
            memory.infinite = snapshot.infinite.copy()
        return memory
