"""The drift monitor: does what is seen still look as it did while the model was right?

Per feature and context, the Kolmogorov-Smirnov distance of sliding windows in the frames' time from the
reference; one verdict, whose alarms with nothing changed are rarer than promised, whatever the number of
features and windows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from edge.drift import monitor_file
from edge.drift.contexts import Assignment, Handover
from edge.drift.fitting import JUDGED_EVERY_S
from edge.drift.frame_rate import FrameRate
from edge.drift.learning import LEARN_S, Answer, Learner, Question, answered, due, question_of, taken_in
from edge.drift.memory import ContextMemory, Snapshot
from edge.drift.pacing import Pace, Step
from edge.drift.reference import DriftReferenceError, Reference, remember, require_alike
from edge.drift.state import DriftState, FeatureDrift, Origin, Verdict
from edge.drift.unknown import UnknownShare
from edge.drift.values import as_frames
from edge.drift.verdicts import judge_all, judge_features, map50_change, notes, rank
from edge.drift.windows import DAY_S, ORDINARY, Judgement

_LOG = logging.getLogger(__name__)

# An alarm goes on while another context is driven through (a tunnel), but not for longer.
STANDS_NS = 600 * 10**9


class DriftMonitor:
    """Watches one camera's features. For one thread at a time."""

    def __init__(
        self,
        reference: Reference,
        *,
        target_hours: float | None = None,
        cameras: int = 1,
        learn_s: float = LEARN_S,
        seed: int = 0,
        learner: Learner | None = None,
    ) -> None:
        """Begin with nothing seen.

        Args:
            reference: what to judge by. Features that it does not know are learned.
            target_hours: hours of driving to one false alarm, in place of the reference's own.
            cameras: that share this promise, each with a monitor of its own: the device's false alarms are
                as rare as promised, whichever camera raises them.
            learn_s: how much a feature is watched, in the frames' time, before it is judged by what was seen;
                longer where that is less than LEARN_TAU autocorrelation times of it.
            seed: of the bootstrap of what is learned.
            learner: fits what is learned; None: `observe` does, which takes some tens of milliseconds then.
        """
        if cameras < 1:
            raise ValueError(f"a promise that {cameras} cameras share")
        self._asked_hours = target_hours
        self._cameras = cameras
        self._seed = seed
        self.given = reference
        self._learner, self._learn_ns = learner, round(learn_s * 1e9)
        self._asked: Question | None = None
        self._pace = Pace(reference.rate_hz)
        self._rate = FrameRate(reference.rate_hz)
        self._stride = max(1, round(reference.rate_hz * JUDGED_EVERY_S))
        self._since_judged = 0
        self._past: Reference | None = None
        self._verdict: Verdict | None = None
        self._since_ns = 0
        self._interruption: tuple[str, ...] = ()
        self.state: DriftState | None = None
        self._reference = reference
        self._assignment = Assignment(reference.contexts, reference.rate_hz)
        self._unknown = UnknownShare.of(reference)
        self._contexts = [ContextMemory(context, reference.rate_hz) for context in reference.contexts]

    @property
    def reference(self) -> Reference:
        """What is judged by now, what was learned included."""
        return self._reference

    @property
    def past(self) -> Reference | None:
        """What was judged by before; None: nothing. It tells how far drives differ."""
        return self._past

    @property
    def target_hours(self) -> float:
        """Hours of driving to one false alarm of this monitor, with its share in the promise."""
        return (self._asked_hours or self._reference.target_hours) * self._cameras

    @property
    def nearest(self) -> str:
        """The context that the latest frames fit best, well or badly."""
        return self._reference.contexts[self._assignment.current].name

    def wants(self, time_ns: int) -> bool:
        """Whether `observe` would look at a frame of this time, or leave it out as too close to the last.

        Spares computing features that nobody looks at. It changes nothing.
        """
        return self._pace.wants(time_ns)

    def observe(self, time_ns: int, vector: npt.ArrayLike, *, moving: bool = True) -> DriftState | None:
        """Take the features of one frame.

        Args:
            time_ns: the frames' time, ns. Frames that come faster than the reference's rate are thinned; what
                slower ones mean for windows and the promise: `edge.drift.frame_rate`. After a minute without
                a frame, what was seen before does not count; an alarm goes on.
            vector: `float[F]`, an array or a list, NaN where a feature is not to be had.
            moving: False where the vehicle stands (at a light, in a jam): one place, seen again and again,
                says no more of the world than seen once. Time goes on, and nothing else.

        Returns:
            The state, about once a second of the frames' time; None in between. It is also in `state`.

        Raises:
            DriftReferenceError: the vector is not of numbers, or not as long as the reference's names.
        """
        values, features = as_frames(vector, "the vector"), len(self._reference.names)
        if values.shape != (features,):
            raise DriftReferenceError(
                f"a vector of shape {values.shape}, the reference has {features} features"
            )
        step = self._step(time_ns)
        if step is Step.SKIP:
            return None
        if step is not Step.TAKE:
            self._interrupt("the frames' time went back" if step is Step.BACK else "there was a gap in time")
        step_ns = self._rate.take(time_ns, counts=moving)
        if moving:
            handover = self._assignment.follow(values)
            self._take(time_ns, values, self._assignment.current, self._assignment.misfit, handover, step_ns)
        self._since_judged += 1
        if self._since_judged < self._stride:
            return None
        self._since_judged = 0
        self.state = self._judge(time_ns, self._assignment.current)
        return self.state

    def rest(self, time_ns: int) -> None:
        """Time goes by that says nothing, as while the vehicle is parked: it goes on from here where it was.

        Args:
            time_ns: the frames' time, however long after the frame before.
        """
        self._step(time_ns)
        self._rate.interrupt()

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
        require_alike(reference, self._reference)
        self.given = reference
        self._replace(reference, ())

    def know(self, reference: Reference) -> None:
        """Judge by this reference what is only being learned, where it knows it; all else stays as it is.

        What was seen since the learning began is judged too. Contexts go by their names.

        Raises:
            DriftReferenceError: it has other features or another rate.
        """
        require_alike(reference, self._reference)
        there = {context.name: context for context in reference.contexts}
        for number, context in enumerate(self._reference.contexts):
            pairs = list(zip(context.features, there.get(context.name, context).features, strict=True))
            news = [place for place, (old, new) in enumerate(pairs) if new.known and not old.known]
            if news:
                features = [old if old.known else new for old, new in pairs]
                self._reference = self._reference.with_features(number, features)
                known, rate_hz = self._reference.contexts[number], self._reference.rate_hz
                self._contexts[number] = self._contexts[number].knowing(known, news, rate_hz)
                self._asked = None  # for what is known now

    def to_bytes(self) -> bytes:
        """All that a restarted daemon needs to go on where this monitor is."""
        return monitor_file.encode(self.snapshot())

    def restore(self, data: bytes) -> None:
        """Go on where another monitor of the same reference was; nothing in the bytes is trusted.

        Raises:
            DriftReferenceError: they are no such thing, or of another reference; nothing has changed then.
        """
        self._go_on(monitor_file.decode(data))

    def snapshot(self) -> Snapshot:
        """What was seen and learned."""
        return Snapshot(
            given_digest=self.given.digest,
            reference=self._reference,
            contexts=tuple(context.snapshot() for context in self._contexts),
            past=self._past,
            following=self._assignment.snapshot(),
            unknown=None if self._unknown is None else self._unknown.snapshot(),
            verdict=self._verdict,
            since_ns=self._since_ns,
            last_ns=self._pace.last,
            step_s=self._rate.mean_s,
        )

    def _go_on(self, snapshot: Snapshot) -> None:
        snapshot.require_of(self.given)
        reference = snapshot.reference
        contexts = [
            ContextMemory.of(seen, context, reference.rate_hz)
            for seen, context in zip(snapshot.contexts, reference.contexts, strict=True)
        ]
        self._reference, self._contexts = reference, contexts
        self._assignment = Assignment(reference.contexts, reference.rate_hz)
        self._assignment.go_on(snapshot.following)
        self._unknown = UnknownShare.of(reference)
        if self._unknown is not None and snapshot.unknown is not None:
            self._unknown.go_on(snapshot.unknown)
        self._past = snapshot.past
        self._verdict, self._since_ns = snapshot.verdict, snapshot.since_ns
        self._pace.last = snapshot.last_ns
        self._asked = None
        if snapshot.step_s is not None:
            self._rate.go_on(snapshot.step_s)
        for context in contexts:
            context.judged_step_s = self._rate.step_s

    def _replace(self, reference: Reference, kept: Iterable[int]) -> None:
        """Change the reference; the features `kept` keep what was seen of them."""
        self._past = remember(self._reference, self._past)
        kept = list(kept)
        contexts = [ContextMemory(context, reference.rate_hz) for context in reference.contexts]
        if kept:
            for new, old in zip(contexts, self._contexts, strict=True):
                new.carry(old, kept)
        else:
            self._assignment = Assignment(reference.contexts, reference.rate_hz)
            self._unknown = UnknownShare.of(reference)
        self._reference, self._contexts = reference, contexts
        self._asked = None

    def _step(self, time_ns: int) -> Step:
        """Take a frame's time; where it goes back, alarms are as old as before."""
        before = self._pace.last
        step = self._pace.step(time_ns)
        if step is Step.BACK and before is not None:
            self._since_ns += time_ns - before
            for context in self._contexts:
                context.redate(time_ns - before)
            if self._unknown is not None:
                self._unknown.redate(time_ns - before)
        return step

    def _interrupt(self, why: str) -> None:
        _LOG.info("drift monitor: %s, the windows begin anew", why)
        self._interruption = (f"{why}: the windows began anew",)
        self._assignment.restart()
        self._rate.interrupt()
        if self._unknown is not None:
            self._unknown.restart()
        self._since_judged = 0
        for context in self._contexts:
            context.restart()

    def _take(
        self,
        time_ns: int,
        values: npt.NDArray[np.float32],
        current: int,
        misfit: bool,
        handover: Handover | None,
        step_ns: int,
    ) -> None:
        if self._unknown is not None:
            self._unknown.push(misfit)
        if handover is not None:
            self._hand_over(handover, current, time_ns, step_ns)
        self._contexts[current].take(values, step_ns)
        self._learn(current)

    def _hand_over(self, handover: Handover, current: int, time_ns: int, step_ns: int) -> None:
        """Give the frames around a change of the context to the one that they are of."""
        self._contexts[handover.left].take_back(handover.back, time_ns)
        for vector in handover.given:
            self._contexts[current].take(vector, step_ns)

    def _learn(self, current: int) -> None:
        """Have the features that are due fitted: by the learner, or one a frame here and now."""
        learner = self._learner
        answer = None if learner is None else learner.answer()
        if answer is not None and answer.question is self._asked:
            self._take_in(answer)
            self._asked = None
        if self._asked is not None or not (learner is None or learner.ready()):
            return
        context = self._contexts[current]
        numbers = due(context, self._learn_ns)
        if not numbers:
            return
        if learner is None:
            numbers = numbers[:1]
        question = question_of(
            self._reference, self._past, current, context, numbers, self.target_hours, self._seed
        )
        if learner is None:
            self._take_in(Answer(question, answered(question)))
        else:
            self._asked = question
            learner.ask(question)

    def _take_in(self, answer: Answer) -> None:
        current = answer.question.context
        learned = taken_in(answer, self._reference.contexts[current], self._contexts[current].needed)
        if not learned:
            return
        known = self._reference.contexts[current].features
        features = [learned.get(number, feature) for number, feature in enumerate(known)]
        self._reference = self._reference.with_features(current, features)
        memory = ContextMemory(self._reference.contexts[current], self._reference.rate_hz)
        memory.carry(self._contexts[current], (n for n in range(len(features)) if n not in learned))
        self._contexts[current] = memory

    def _judge(self, time_ns: int, current: int) -> DriftState:
        reference, context = self._reference, self._contexts[current]
        known, step_s = reference.contexts[current], self._rate.step_s
        judgement = context.windows.judge(step_s)
        tests = context.windows.yardstick.tests
        limit = context.windows.yardstick.limit(self.target_hours, known.joint)
        there = judgement.full & ~context.gone
        if (there | ~context.windows.judged | context.gone).all():
            self._interruption = ()
        unusual = there & (judgement.per_day <= limit)
        context.latch(unusual, judgement.per_window >= ORDINARY, time_ns)
        context.judged_ns, context.judged_step_s = time_ns, step_s
        unknown = self._unknown.judge(time_ns, limit, known, step_s) if self._unknown else None
        features = rank(
            (
                *self._features(current, judgement),
                *self._standing(time_ns, current),
                *([] if unknown is None else [unknown]),
            )
        )
        verdict = judge_all(features, learning=context.learns)
        if verdict is not self._verdict:
            self._verdict, self._since_ns = verdict, time_ns
        rates = [*judgement.per_day[there], *([] if unknown is None else [unknown.false_alarms_per_day])]
        return DriftState(
            verdict=verdict,
            false_alarms_per_day=min(DAY_S, tests / known.joint * float(min(rates, default=DAY_S))),
            context=known.name if self._assignment.fits else "",
            unknown_context_share=self._assignment.unknown_share,
            features=features,
            time_ns=time_ns,
            since_ns=self._since_ns,
            notes=(
                *self._interruption,
                *notes(known, context.gone, context.infinite, reference.rate_hz, step_s),
            ),
            estimated_map50_change=map50_change(reference.drop, known, judgement, context.gone, features),
        )

    def _features(self, number: int, judgement: Judgement) -> tuple[FeatureDrift, ...]:
        context = self._contexts[number]
        return judge_features(
            self._reference.contexts[number],
            judgement,
            context.latched,
            context.alarmed_ns,
            context.gone,
            self._reference.rate_hz,
        )

    def _standing(self, time_ns: int, current: int) -> list[FeatureDrift]:
        """The alarms of the contexts that were left a short while ago."""
        found: list[FeatureDrift] = []
        for number, context in enumerate(self._contexts):
            if number == current or not context.in_alarm():
                continue
            if time_ns - context.judged_ns > STANDS_NS:
                context.end_alarms()
                continue
            features = self._features(number, context.windows.judge(context.judged_step_s))
            found += [feature for feature in features if feature.verdict is Verdict.ALARM]
        return found
