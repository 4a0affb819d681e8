"""Learning what a reference does not know, from what a monitor sees: what is asked, and who answers.

A fit takes some tens of milliseconds a feature, more of a slow one. A monitor that nobody waits for fits one
feature a frame; on the frame loop, somebody else answers (`edge.drift.learn_child`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.drift.fitting import LEARN_LONGEST_S, LEARN_TAU, MIN_FRAMES, fit_feature
from edge.drift.frame_rate import feature_at, slowdown
from edge.drift.memory import ContextMemory
from edge.drift.reference import ContextReference, FeatureReference, Reference, drives_known
from edge.drift.state import Origin

_LOG = logging.getLogger(__name__)

LEARN_S = 300.0


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What was seen of a feature that is to be learned.

    Attributes:
        number: of the feature.
        name, origin: likewise.
        values: `float32[n]` in the order of time; NaN between two stretches of driving.
        seconds: that these frames took.
        slowdown: by what factor they came slower than at the reference's rate.
        prior: how far drives differ is taken from here, and how slowly the feature varied before, in frames
            as they came; None: from nowhere.
    """

    number: int
    name: str
    origin: Origin
    values: npt.NDArray[np.float32]
    seconds: float
    slowdown: float
    prior: FeatureReference | None


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Features of one context that are to be fitted.

    Attributes:
        context: its number.
        rate_hz: frames per second of the reference.
        features: that share the promise.
        target_hours: hours of driving to one false alarm.
        seed: of the bootstrap.
        lessons: at least one.
    """

    context: int
    rate_hz: float
    features: int
    target_hours: float
    seed: int
    lessons: tuple[Lesson, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was fitted.

    Attributes:
        question: what was asked.
        features: one for each lesson, counted in frames as they came; empty: the fit came to no end.
    """

    question: Question
    features: tuple[FeatureReference, ...]


class Learner(Protocol):
    """Answers questions, one at a time, some time later. What is called here never waits."""

    def ready(self) -> bool:
        """Whether a question can be asked now: none is under way, and no answer waits to be taken."""

    def ask(self, question: Question) -> None:
        """Have it answered."""

    def answer(self) -> Answer | None:
        """Take what has been answered since; None: nothing."""


def answered(question: Question) -> tuple[FeatureReference, ...]:
    """Fit what is asked for, here and now."""
    return tuple(
        fit_feature(
            stretches(lesson.values),
            question.rate_hz / lesson.slowdown,
            lesson.name,
            lesson.origin,
            question.features,
            question.target_hours,
            lesson.prior,
            question.seed,
        )
        for lesson in question.lessons
    )


def stretches(values: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[np.float64]]:
    """What lies between the NaN of a series."""
    seen = np.asarray(values, np.float64)
    return np.split(seen, np.flatnonzero(np.isnan(seen)))


def is_due(frames: int, learned_ns: int, needed: int | None, learn_ns: int) -> bool:
    """Whether enough was seen of a feature to fit it.

    Args:
        frames: that had it.
        learned_ns: that these took.
        needed: frames, where a fit has shown that it takes more than usual; None: none has.
        learn_ns: how long any feature is learned.
    """
    return frames >= needed if needed is not None else frames >= MIN_FRAMES and learned_ns >= learn_ns


def due(memory: ContextMemory, learn_ns: int) -> list[int]:
    """The features of a context of which enough was seen to fit them; see `is_due`."""
    return [
        number
        for number, seen in memory.learning.items()
        if is_due(len(seen), memory.learning_ns[number], memory.needed.get(number), learn_ns)
    ]


def question_of(
    reference: Reference,
    past: Reference | None,
    context: int,
    memory: ContextMemory,
    numbers: Sequence[int],
    target_hours: float,
    seed: int,
) -> Question:
    """Ask for features of a context.

    Args:
        reference: what is judged by.
        past: what was judged by before; tells how far drives differ.
        context: its number.
        memory: what was seen in it.
        numbers: of the features.
        target_hours: hours of driving to one false alarm.
        seed: of the bootstrap.
    """
    known = reference.contexts[context]
    lessons = []
    for number in numbers:
        name, origin = known.features[number].name, known.features[number].origin
        values = np.array(memory.learning[number], np.float32)
        seconds = memory.learning_ns[number] / 1e9
        slower = slowdown(seconds, int(np.isfinite(values).sum()), reference.rate_hz)
        before = drives_known(past, known.name, name)
        prior = None if before is None else feature_at(before, 1 / slower)
        lessons.append(Lesson(number, name, origin, values, seconds, slower, prior))
    features = len(known.features)
    return Question(context, reference.rate_hz, features, target_hours, seed, tuple(lessons))


def taken_in(
    answer: Answer, context: ContextReference, needed: dict[int, int]
) -> dict[int, FeatureReference]:
    """The features that were learned, by their numbers, counted in frames of the reference's rate.

    Args:
        answer: what was fitted.
        context: that was asked about.
        needed: here goes how many frames it takes to learn what varies too slowly.
    """
    learned = {}
    for lesson, fitted in zip(answer.question.lessons, answer.features, strict=False):
        more = _needs_more(fitted, lesson)
        if more is not None:
            needed[lesson.number] = more
            continue
        _LOG.info("drift monitor: learned %s in context %s", lesson.name, context.name)
        # Frames that come faster one day must not pass for less alike than they are.
        learned[lesson.number] = feature_at(fitted, lesson.slowdown)
    return learned


def _needs_more(fitted: FeatureReference, lesson: Lesson) -> int | None:
    """How many frames a feature is to be learned from that varies slowly; None: it was learned."""
    frames = len(lesson.values)
    if not fitted.known or LEARN_TAU * fitted.tau <= frames or lesson.seconds >= LEARN_LONGEST_S:
        return None
    # Doubled at most: from a short series tau is found too small, and seldom too great.
    return min(math.ceil(LEARN_TAU * fitted.tau), 2 * frames)
