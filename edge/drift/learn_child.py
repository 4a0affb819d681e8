"""Learning in a process of its own: a fit takes tens of milliseconds a feature, which no frame waits for.

The child is given the values and answers with the features; one that dies leaves all as it was, and what is
being learned goes on growing until the next question.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from edge.backoff import Backoff, BackoffOptions
from edge.drift.child import answer_with, ask_for_reference
from edge.drift.learning import Answer, Lesson, Question, answered
from edge.drift.reference import (
    ContextReference,
    DriftReferenceError,
    FeatureReference,
    Reference,
    unknown_feature,
)
from edge.drift.state import Origin

TIMEOUT_S = 600.0

_WHAT = "the fit of what is learned"
_RETRY = BackoffOptions(initial_s=60.0, limit_s=3600.0)
_LOG = logging.getLogger(__name__)

Submit = Callable[[Callable[[], object]], bool]
Fit = Callable[[Question, threading.Event], tuple[FeatureReference, ...]]


class ChildLearner:
    """Answers a camera's questions by a child process. See `edge.drift.learning.Learner`."""

    def __init__(
        self,
        camera: str,
        submit: Submit,
        *,
        fit: Fit | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make ready.

        Args:
            camera: its name, for the log.
            submit: has something done soon on a thread that may wait; False: it is not done.
            fit: answers; `fit_in_child` unless given.
            clock_s: for pauses after a fit that failed.
        """
        self._camera = camera
        self._submit = submit
        self._fit = fit or fit_in_child
        self._clock_s = clock_s
        self._stopping = threading.Event()
        self._busy = False
        self._answer: Answer | None = None
        self._backoff, self._retry_s = Backoff(_RETRY), -math.inf

    def ready(self) -> bool:
        """Whether a question can be asked now; after a fit that failed, not for a while."""
        return not self._busy and self._clock_s() >= self._retry_s

    def ask(self, question: Question) -> None:
        """Have it answered."""
        self._busy = True
        if not self._submit(partial(self._work, question)):
            self._put_off()
            self._answer = Answer(question, ())

    def answer(self) -> Answer | None:
        """Take what has been answered since; None: nothing."""
        answer = self._answer
        if answer is not None:
            self._answer, self._busy = None, False
        return answer

    def stop(self) -> None:
        """End a fit that is under way."""
        self._stopping.set()

    def _work(self, question: Question) -> None:
        """On the thread that may wait."""
        fitted: tuple[FeatureReference, ...] = ()
        try:
            fitted = self._fit(question, self._stopping)
            self._backoff.reset()
        except (DriftReferenceError, OSError) as error:
            if not self._stopping.is_set():
                names = ", ".join(lesson.name for lesson in question.lessons)
                _LOG.warning("camera %s: %s is not learned yet: %s", self._camera, names, error)
        finally:
            if not fitted:
                self._put_off()
            # Last: from now on the frame loop may ask again.
            self._answer = Answer(question, fitted)

    def _put_off(self) -> None:
        self._retry_s = self._clock_s() + self._backoff.next_s()


def fit_in_child(question: Question, stopping: threading.Event) -> tuple[FeatureReference, ...]:
    """Answer a question in a child process.

    Args:
        question: what is asked.
        stopping: once set, the child is killed.

    Raises:
        DriftReferenceError: the child came to no end, or answers something else.
    """
    data = b"".join(lesson.values.astype("<f4").tobytes() for lesson in question.lessons)
    answer = ask_for_reference(
        "edge.drift.learn_child",
        _about(question),
        data,
        what=_WHAT,
        timeout_s=TIMEOUT_S,
        stopping=stopping,
    )
    features = answer.contexts[0].features
    if [feature.name for feature in features] != [lesson.name for lesson in question.lessons]:
        raise DriftReferenceError("the fit gave something else than was asked for")
    return features


def _about(question: Question) -> dict[str, Any]:
    priors = (lesson.prior or unknown_feature(lesson.name, lesson.origin) for lesson in question.lessons)
    return {
        "context": question.context,
        "rate_hz": question.rate_hz,
        "features": question.features,
        "target_hours": question.target_hours,
        "seed": question.seed,
        "lessons": [
            {
                "number": lesson.number,
                "name": lesson.name,
                "origin": lesson.origin.value,
                "frames": len(lesson.values),
                "seconds": lesson.seconds,
                "slowdown": lesson.slowdown,
            }
            for lesson in question.lessons
        ],
        "priors": _reference(tuple(priors)).to_bytes().decode(),
    }


def _question(about: dict[str, Any], data: bytes) -> Question:
    priors = Reference.from_bytes(about["priors"].encode()).contexts[0].features
    ends = np.cumsum([lesson["frames"] for lesson in about["lessons"]])
    series = np.split(np.frombuffer(data, "<f4").astype(np.float32), ends[:-1])
    lessons = tuple(
        Lesson(
            lesson["number"],
            lesson["name"],
            Origin(lesson["origin"]),
            values,
            lesson["seconds"],
            lesson["slowdown"],
            prior if prior.known else None,
        )
        for lesson, values, prior in zip(about["lessons"], series, priors, strict=True)
    )
    rest = ("context", "rate_hz", "features", "target_hours", "seed")
    return Question(**{name: about[name] for name in rest}, lessons=lessons)


def _reference(features: tuple[FeatureReference, ...]) -> Reference:
    """Features as something that has a file's form."""
    return Reference(1.0, 1.0, (ContextReference("learned", features, math.inf),))


def _answer(about: dict[str, Any]) -> Reference:
    return _reference(answered(_question(about, sys.stdin.buffer.read())))


def main() -> None:
    """Run the child."""
    answer_with(_answer)


if __name__ == "__main__":
    main()
