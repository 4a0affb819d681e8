"""What a candidate's process says of a frame. It has loaded a foreign model, so nothing of it is trusted."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from edge.perception.agreement import Agreement
from edge.perception.metadata import MAX_DETECTIONS
from protos.traffic_vision.v1 import common_pb2

_MOST_NAME = 100  # letters of a class's name


class AnswerError(ValueError):
    """An answer that makes no sense; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class ShadowAnswer:
    """What was said of one frame.

    Attributes:
        classes: agreement by class.
        latency_ms: of the candidate's inference.
        features: `float32[F]` of drift, each a number, or NaN where it is not to be had.
        drift: the candidate's own judgement; None: none this time.
    """

    classes: Mapping[str, Agreement]
    latency_ms: float
    features: npt.NDArray[np.float32]
    drift: common_pb2.DriftState | None


def read_answer(answer: Mapping[str, Any], features: int) -> ShadowAnswer:
    """Read the JSON object that came.

    Args:
        answer: JSON values of any kind.
        features: how many there must be.

    Raises:
        AnswerError: it is no such answer, or has numbers that cannot be.
    """
    try:
        classes = {
            str(name)[:_MOST_NAME]: Agreement(int(active), int(candidate), int(matched), float(difference))
            for name, (active, candidate, matched, difference) in answer["agreement"].items()
        }
        latency_ms = float(answer["inference_ms"])
        seen = np.frombuffer(b64decode(answer["features"], validate=True), "<f4").astype(np.float32)
        drift = common_pb2.DriftState.FromString(b64decode(answer["drift"])) if answer["drift"] else None
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, DecodeError) as error:
        raise AnswerError(f"its process answered nonsense: {error!r}") from None
    for one in classes.values():
        fewer, more = sorted((one.active, one.candidate))
        if not 0 <= one.matched <= fewer or more > MAX_DETECTIONS:
            raise AnswerError(f"its process matched {one.matched} of {one.active} and {one.candidate} boxes")
    if latency_ms < 0:
        raise AnswerError(f"its process took {latency_ms} ms")
    if not math.isfinite(latency_ms + sum(one.score_difference for one in classes.values())):
        raise AnswerError("its process answered what is no number")
    if len(seen) != features:
        raise AnswerError(f"its process answered {len(seen)} drift features, there are {features}")
    if np.isinf(seen).any():
        raise AnswerError("its process answered infinite drift features")
    return ShadowAnswer(classes, latency_ms, seen, drift)
