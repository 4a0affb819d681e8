"""The drift monitor: does what is seen still look as it did while the model was right?

Per feature and context, the Kolmogorov-Smirnov distance of sliding windows in the frames' time from the
reference; one verdict, whose alarms with nothing changed are rarer than promised, whatever the number of
features and windows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edge.drift.calibration import WINDOWS_TAU
from edge.drift.contexts import Assignment
from edge.drift.fitting import JUDGED_EVERY_S, MIN_FRAMES, fit_feature
from edge.drift.pacing import Pace, Step
from edge.drift.reference import ContextReference, DriftReferenceError, FeatureReference, Reference
from edge.drift.state import DriftState, FeatureDrift, Origin, Verdict
from edge.drift.windows import Judgement, SlidingWindows

_LOG = logging.getLogger(__name__)
_DAY_S = 86400.0

# An alarm ends where such a distance would be this much more frequent than the promise: no flicker.
_RELEASE = 20.0


class _Context:
    """What was seen in one context."""

    def __init__(self, reference: ContextReference, rate_hz: float) -> None:
        self.windows = SlidingWindows(reference.features, rate_hz)
        self.latched = np.zeros((len(WINDOWS_TAU), len(reference.features)), np.bool_)
        # What a feature is learned from: as long as its reference is unknown.
        self.learning: dict[int, list[float]] = {
            number: [] for number, feature in enumerate(reference.features) if not feature.known
        }

    def clear(self) -> None:
        self.windows.clear()
        self.latched[:] = False

    def carry(self, before: _Context, features: Iterable[int]) -> None:
        """Take over what another saw of these features."""
        for feature in features:
            self.windows.fill(feature, before.windows.content(feature))
            self.latched[:, feature] = before.latched[:, feature]
            if feature in self.learning:
                self.learning[feature] = before.learning[feature]


class DriftMonitor:
    """Watches one camera's features. For one thread at a time."""

    def __init__(
        self,
        reference: Reference,
        *,
        target_hours: float | None = None,
        learn_s: float = 300.0,
        gap_s: float = 60.0,
        seed: int = 0,
    ) -> None:
        """Begin with nothing seen.

        Args:
            reference: what to judge by. Features that it does not know are learned.
            target_hours: hours of driving to one false alarm, in place of the reference's own.
            learn_s: how much a feature is watched, in the frames' time, before it is judged by what was seen.
            gap_s: after so long without a frame, what was seen before does not count.
            seed: of the bootstrap of what is learned.
        """
        self._options = (target_hours, learn_s, gap_s, seed)
        self.given = reference
        self._learn_frames = max(MIN_FRAMES, math.ceil(learn_s * reference.rate_hz))
        self._pace = Pace(reference.rate_hz, gap_s)
        self._stride = max(1, round(reference.rate_hz * JUDGED_EVERY_S))
        self._since_judged = 0
        self._before: dict[tuple[str, str], FeatureReference] = {}
        self._verdict, self._since_ns = Verdict.LEARNING, 0
        self._interruption = ""
        self.state: DriftState | None = None
        self._reference = reference
        self._assignment = Assignment(reference.contexts, reference.rate_hz)
        self._contexts = [_Context(context, reference.rate_hz) for context in reference.contexts]

    @property
    def reference(self) -> Reference:
        """What is judged by now, what was learned included."""
        return self._reference

    def observe(self, time_ns: int, vector: npt.NDArray[np.floating]) -> DriftState | None:
        """Take the features of one frame.

        Args:
            time_ns: the frames' time, ns. Frames that come faster than the reference's rate are thinned.
            vector: `float[F]`, NaN where a feature is not to be had.

        Returns:
            The state, about once a second of the frames' time; None in between. It is also in `state`.

        Raises:
            DriftReferenceError: the vector has another length than the reference's names.
        """
        features = len(self._reference.names)
        if vector.shape != (features,):
            raise DriftReferenceError(
                f"a vector of shape {vector.shape}, the reference has {features} features"
            )
        step = self._pace.step(time_ns)
        if step is Step.SKIP:
            return None
        if step is not Step.TAKE:
            self._interrupt("the frames' time went back" if step is Step.BACK else "there was a gap in time")
        values = np.asarray(vector, np.float32)
        current = self._assignment.follow(values)
        context = self._contexts[current]
        context.windows.push(values)
        self._learn(current, values)
        self._since_judged += 1
        if self._since_judged < self._stride:
            return None
        self._since_judged = 0
        self.state = self._judge(time_ns, current)
        return self.state

    def model_changed(self, origins: Iterable[str] = (Origin.DETECTIONS, Origin.EMBEDDING)) -> None:
        """A new model runs: forget the reference of these features, and learn it from what the model sees.

        How far drives differ is taken over from the old model's reference: one drive cannot tell.
        """
        void = {Origin(origin) for origin in origins}
        kept = [number for number, origin in enumerate(self._reference.origins) if origin not in void]
        self._replace(self._reference.without(void), kept)

    def adopt(self, reference: Reference) -> None:
        """Judge by another reference from now on, and by frames from now on.

        Raises:
            DriftReferenceError: it has other features or another rate.
        """
        for what in ("names", "origins", "rate_hz"):
            new, old = getattr(reference, what), getattr(self._reference, what)
            if new != old:
                raise DriftReferenceError(f"the new reference has other {what} ({new}) than the old ({old})")
        self.given = reference
        self._replace(reference, ())

    def _replace(self, reference: Reference, kept: Iterable[int]) -> None:
        """Change the reference; the features `kept` keep what was seen of them."""
        for context in self._reference.contexts:
            for feature in context.features:
                if feature.known:
                    self._before[context.name, feature.name] = feature
        kept = list(kept)
        contexts = [_Context(context, reference.rate_hz) for context in reference.contexts]
        if kept:
            for new, old in zip(contexts, self._contexts, strict=True):
                new.carry(old, kept)
        else:
            self._assignment = Assignment(reference.contexts, reference.rate_hz)
        self._reference, self._contexts = reference, contexts

    def _interrupt(self, why: str) -> None:
        _LOG.info("drift monitor: %s, the windows begin anew", why)
        self._interruption = f"{why}: the windows began anew"
        self._assignment.restart()
        self._since_judged = 0
        for context in self._contexts:
            context.clear()

    def _learn(self, current: int, values: npt.NDArray[np.float32]) -> None:
        learning = self._contexts[current].learning
        ready = None
        for number, seen in learning.items():
            if math.isfinite(values[number]):
                seen.append(float(values[number]))
            if len(seen) >= self._learn_frames:
                ready = number
        # One a frame: a fit takes some tens of milliseconds.
        if ready is not None:
            self._fit(current, ready)

    def _fit(self, current: int, number: int) -> None:
        target_hours, _, _, seed = self._options
        reference, context = self._reference, self._reference.contexts[current]
        old = context.features[number]
        fitted = fit_feature(
            [np.array(self._contexts[current].learning[number])],
            reference.rate_hz,
            old.name,
            old.origin,
            len(context.features),
            target_hours or reference.target_hours,
            self._prior(context.name, old.name),
            seed,
        )
        _LOG.info("drift monitor: learned %s in context %s", old.name, context.name)
        features = list(context.features)
        features[number] = fitted
        contexts = list(reference.contexts)
        contexts[current] = replace(context, features=tuple(features))
        self._reference = replace(reference, contexts=tuple(contexts))
        fresh = _Context(contexts[current], reference.rate_hz)
        fresh.carry(self._contexts[current], (n for n in range(len(features)) if n != number))
        self._contexts[current] = fresh

    def _prior(self, context: str, name: str) -> FeatureReference | None:
        same = self._before.get((context, name))
        if same is not None:
            return same
        # A context that is new to this feature: drives differ in it about as in those known.
        others = [feature for (_, other), feature in self._before.items() if other == name]
        return max(others, key=lambda feature: feature.drives, default=None)

    def _judge(self, time_ns: int, current: int) -> DriftState:
        reference, context = self._reference, self._contexts[current]
        judgement = context.windows.judge()
        tests = max(1, int(context.windows.judged.sum()) * len(WINDOWS_TAU))
        target_hours = self._options[0] or reference.target_hours
        limit = _DAY_S / (target_hours * 3600) / tests
        held = context.latched & (judgement.per_day <= limit * _RELEASE)
        context.latched = judgement.full & ((judgement.per_day <= limit) | held)
        features = self._features(current, judgement)
        verdict = self._verdict_of(current, features)
        if verdict is not self._verdict or self.state is None:
            self._verdict, self._since_ns = verdict, time_ns
        rates = judgement.per_day[judgement.full]
        return DriftState(
            verdict=verdict,
            false_alarms_per_day=min(_DAY_S, tests * float(rates.min(initial=_DAY_S))),
            context=reference.contexts[current].name if self._assignment.fits else "",
            unknown_context_share=self._assignment.unknown_share,
            features=features,
            time_ns=time_ns,
            since_ns=self._since_ns,
            notes=self._notes(current),
        )

    def _features(self, current: int, judgement: Judgement) -> tuple[FeatureDrift, ...]:
        context, windows = self._reference.contexts[current], self._contexts[current].windows
        latched: npt.NDArray[np.bool_] = np.any(self._contexts[current].latched, axis=0)
        strongest = np.where(judgement.full, judgement.per_day, np.inf).argmin(axis=0)
        found = []
        for number, feature in enumerate(context.features):
            window = int(strongest[number])
            if not judgement.full[window, number]:
                verdict = Verdict.PAUSED if feature.constant else Verdict.LEARNING
                found.append(
                    FeatureDrift(
                        feature.name, feature.origin, context.name, 0.0, 0.0, 1.0, _DAY_S, 0.0, verdict
                    )
                )
                continue
            d = float(judgement.d[window, number])
            if latched[number]:
                verdict = Verdict.ALARM
            else:
                calibrated = feature.calibrated(self._reference.rate_hz)
                verdict = Verdict.STABLE if calibrated else Verdict.UNCALIBRATED
            found.append(
                FeatureDrift(
                    name=feature.name,
                    origin=feature.origin,
                    context=context.name,
                    window_s=float(windows.lengths[window, number]) / self._reference.rate_hz,
                    d=d,
                    p=feature.tails[window].p_value(d),
                    false_alarms_per_day=float(judgement.per_day[window, number]),
                    shift_sigma=float(judgement.shift_sigma[window, number]),
                    verdict=verdict,
                )
            )
        found.sort(
            key=lambda one: (one.verdict is not Verdict.ALARM, one.window_s == 0.0, one.false_alarms_per_day)
        )
        return tuple(found)

    def _verdict_of(self, current: int, features: Iterable[FeatureDrift]) -> Verdict:
        verdicts = {feature.verdict for feature in features}
        if Verdict.ALARM in verdicts:
            return Verdict.ALARM
        if any(self._contexts[current].learning.values()):
            return Verdict.LEARNING
        for verdict in (Verdict.UNCALIBRATED, Verdict.STABLE, Verdict.LEARNING):
            if verdict in verdicts:
                return verdict
        return Verdict.PAUSED

    def _notes(self, current: int) -> tuple[str, ...]:
        context = self._reference.contexts[current]
        notes = [self._interruption] if self._interruption else []
        constant = [feature.name for feature in context.features if feature.constant]
        if constant:
            notes.append(f"never changed in the reference, not judged: {', '.join(constant)}")
        unknown = [feature.name for feature in context.features if not feature.known]
        if unknown:
            notes.append(f"not in the reference, being learned: {', '.join(unknown)}")
        return tuple(notes)
