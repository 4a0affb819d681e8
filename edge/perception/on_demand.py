"""Single pictures that somebody asks about, answered by the frame loop itself between two frames.

So a detector is never in two threads, a swap holds for them too, and cameras lose one inference a frame at
most, however many ask: one waits, the next ones are told to come again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.errors import TrafficVisionError
from edge.perception.detector import Detections
from edge.perception.model_file import ModelFile


class OnDemandError(TrafficVisionError):
    """The picture was not looked at; the message says why, and later it may be."""


class BusyError(OnDemandError):
    """Another picture waits already."""


class NotInTimeError(OnDemandError):
    """The frame loop did not come to it in time."""


class UnavailableError(OnDemandError):
    """Inference is down, or the daemon stops."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was found on a picture, and the model that found it."""

    detections: Detections
    model: ModelFile


@dataclass(slots=True, eq=False)
class Question:
    """One picture on its way: the frame loop answers or refuses it, once."""

    image: npt.NDArray[np.uint8]
    answer: Answer | None = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def answered(self, answer: Answer) -> None:
        """Give what was found."""
        self.answer = answer
        self.done.set()

    def refused(self, error: Exception) -> None:
        """Say why nothing comes."""
        self.error = error
        self.done.set()


class OnDemand:
    """The hand-over, one picture long. Any thread may ask; the one that detects takes."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """Nobody has asked.

        Args:
            wake: lets the thread that detects look here.
        """
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: Question | None = None
        self._closed = False

    def detect(self, image: npt.NDArray[np.uint8], timeout_s: float) -> Answer:
        """Have a picture looked at, and wait for what is found.

        Args:
            image: `uint8[H, W, 3]`, BGR.
            timeout_s: how long to wait.

        Raises:
            OnDemandError: it was not looked at (`BusyError`, `NotInTimeError`, `UnavailableError`).
            InferenceError: it was, and the model can make nothing of it.
        """
        question = Question(image)
        with self._lock:
            if self._closed:
                raise UnavailableError("the daemon stops")
            if self._waiting is not None:
                raise BusyError("another picture waits to be looked at")
            self._waiting = question
        self._wake()
        if not question.done.wait(timeout_s):
            with self._lock:
                if self._waiting is question:
                    self._waiting = None
            raise NotInTimeError(f"not looked at within {timeout_s:g} s: the cameras' frames go first")
        if question.error is not None:
            raise question.error
        assert question.answer is not None
        return question.answer

    def take(self) -> Question | None:
        """The picture that waits; whoever takes it answers it. For the thread that detects."""
        if self._waiting is None:  # read without the lock: this comes with every frame
            return None
        with self._lock:
            question, self._waiting = self._waiting, None
            return question

    def close(self) -> None:
        """Refuse who waits and whoever comes. May be called twice."""
        with self._lock:
            self._closed = True
        question = self.take()
        if question is not None:
            question.refused(UnavailableError("the daemon stops"))
